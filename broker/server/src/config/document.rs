//! A TOML document that remembers where each value came from, with environment variables laid over it.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};

/// What overriding variables begin with; parts of the path follow, separated by two underscores.
const VARIABLE_PREFIX: &str = "WARDLINE__";
const SEPARATOR: &str = "__";

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a configuration can hold. Numbers stay text until somebody knows what they should be.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(String),
    Array(Vec<Node>),
    Table(Table),
}

pub(super) type Table = BTreeMap<String, Node>;

/// Reads `text`; what cannot be understood is told in `problems` and left out.
pub(super) fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Table {
    let source = Source { path, text };
    let (table, errors) = DeTable::parse_recoverable(text);
    problems.extend(errors.into_iter().map(|error| {
        let place = error.span().map_or_else(|| Place::file(path), |span| source.place(span.start));
        Problem { place, message: format!("not valid TOML: {}", error.message()) }
    }));
    source.table(table.into_inner())
}

/// Lays the variables that begin with `WARDLINE__` over `table`: `WARDLINE__JOURNAL__COMMIT` is `commit` in
/// `[journal]`, `WARDLINE__LISTENER__0__BIND` is `bind` in the first `[[listener]]`. A value that begins with `[` is a
/// TOML array.
pub(super) fn lay_over(
    table: &mut Table,
    variables: impl Iterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) {
    let mut overrides: Vec<(Vec<Step>, String, String)> = variables
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(VARIABLE_PREFIX)?.split(SEPARATOR).map(Step::parse).collect();
            Some((path, name, value))
        })
        .collect();
    // The environment has no order of its own; sorted, an array grows from its first element on.
    overrides.sort();
    for (path, name, value) in overrides {
        let place = Place::Variable(name);
        let outcome = value_of(&value, &place)
            .and_then(|value| set(table, &path, &Node { place: place.clone(), value }));
        if let Err(message) = outcome {
            problems.push(Problem { place, message });
        }
    }
}

/// Part of a variable's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Index(usize),
    Key(String),
}

impl Step {
    fn parse(part: &str) -> Self {
        part.parse().map_or_else(|_| Self::Key(part.to_ascii_lowercase()), Self::Index)
    }
}

fn value_of(text: &str, place: &Place) -> Result<Value, String> {
    if !text.trim_start().starts_with('[') {
        return Ok(Value::Scalar(text.to_owned()));
    }
    let array =
        DeValue::parse(text.trim()).map_err(|error| format!("not a TOML array: {}", error.message()))?;
    Ok(value(array.into_inner(), &|_| place.clone()))
}

fn set(table: &mut Table, path: &[Step], node: &Node) -> Result<(), String> {
    let Some((Step::Key(key), rest)) = path.split_first() else {
        return Err("a section or key is expected where a number stands".to_owned());
    };
    if rest.is_empty() {
        table.insert(key.clone(), node.clone());
        return Ok(());
    }
    let child = table.entry(key.clone()).or_insert_with(|| empty_for(rest, node));
    descend(child, key, rest, node)
}

fn descend(child: &mut Node, name: &str, path: &[Step], node: &Node) -> Result<(), String> {
    match (&mut child.value, path.split_first()) {
        (Value::Table(table), Some((Step::Key(_), _))) => set(table, path, node),
        (Value::Array(items), Some((Step::Index(index), rest))) => {
            let length = items.len();
            if *index == length {
                items.push(empty_for(rest, node));
            }
            let item = items.get_mut(*index).ok_or_else(|| {
                format!("`{name}` has {length} elements, so the next is {name} {length}, not {index}")
            })?;
            if rest.is_empty() {
                *item = node.clone();
                return Ok(());
            }
            descend(item, name, rest, node)
        }
        (Value::Array(_), _) => Err(format!("`{name}` is an array: name an element by its number, from 0")),
        (Value::Scalar(_) | Value::Table(_), _) => Err(format!("`{name}` has no such part")),
    }
}

/// The container that `path` leads into.
fn empty_for(path: &[Step], node: &Node) -> Node {
    let value = match path.first() {
        Some(Step::Index(_)) => Value::Array(Vec::new()),
        Some(Step::Key(_)) => Value::Table(Table::new()),
        None => node.value.clone(),
    };
    Node { place: node.place.clone(), value }
}

/// A file's text, to turn byte positions into lines.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, position: usize) -> Place {
        let before = self.text.as_bytes().get(..position).unwrap_or(self.text.as_bytes());
        Place::line(self.path, 1 + before.iter().filter(|byte| **byte == b'\n').count())
    }

    fn table(&self, table: DeTable<'_>) -> Table {
        entries(table, &|position| self.place(position))
    }
}

fn entries(table: DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Table {
    let entry = |(key, content): (Spanned<_>, Spanned<DeValue<'_>>)| {
        // A header such as [[listener]] spans its own line; a key is where its mistake is looked for.
        let place_of = match content.get_ref() {
            DeValue::Table(_) | DeValue::Array(_) => place(content.span().start),
            _ => place(key.span().start),
        };
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        (key.into_owned(), Node { place: place_of, value: value(content.into_inner(), place) })
    };
    table.into_iter().map(entry).collect()
}

fn value(content: DeValue<'_>, place: &dyn Fn(usize) -> Place) -> Value {
    match content {
        DeValue::String(text) => Value::Scalar(text.into_owned()),
        DeValue::Integer(number) => Value::Scalar(number.to_string()),
        DeValue::Float(number) => Value::Scalar(number.to_string()),
        DeValue::Boolean(flag) => Value::Scalar(flag.to_string()),
        DeValue::Datetime(at) => Value::Scalar(at.to_string()),
        DeValue::Array(items) => {
            let item = |item: Spanned<DeValue<'_>>| Node {
                place: place(item.span().start),
                value: value(item.into_inner(), place),
            };
            Value::Array(items.into_iter().map(item).collect())
        }
        DeValue::Table(table) => Value::Table(entries(table, place)),
    }
}
