//! A strict reader of one table: every key is asked for once, what nobody asked for is a mistake, and a mistake does not
//! end the reading.

use std::cell::RefCell;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::document::{Node, Table, Value};
use super::problem::{Place, Problem};

/// A wrong key this many edits from a known one was meant to be that one.
const TYPING_ERRORS_MAX: usize = 2;

/// What the readers of all sections share: where relative paths start, and the mistakes so far.
#[derive(Debug)]
pub(super) struct Desk {
    directory: PathBuf,
    problems: RefCell<Vec<Problem>>,
}

impl Desk {
    pub(super) fn new(directory: PathBuf, problems: Vec<Problem>) -> Self {
        Self { directory, problems: RefCell::new(problems) }
    }

    pub(super) fn problem(&self, place: &Place, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { place: place.clone(), message: message.into() });
    }

    /// `path`, relative to the configuration's own directory.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// A value with its place, for mistakes that only show when values are looked at together.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// One table.
#[derive(Debug)]
pub(super) struct Section<'d> {
    /// As in a message: `[journal]`, `[[listener]]`.
    name: &'static str,
    pub(super) place: Place,
    entries: Table,
    known: Vec<&'static str>,
    pub(super) desk: &'d Desk,
}

impl<'d> Section<'d> {
    pub(super) fn new(name: &'static str, place: Place, entries: Table, desk: &'d Desk) -> Self {
        Self { name, place, entries, known: Vec::new(), desk }
    }

    /// Whether `key` is there and has not been asked for yet, readable or not.
    pub(super) fn mentions(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        self.entries.remove(key)
    }

    /// The text of `key`; nothing else has its type.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        let node = self.take(key)?;
        match node.value {
            Value::Scalar(text) => Some(Located { value: text, place: node.place }),
            Value::Array(_) | Value::Table(_) => {
                self.desk.problem(&node.place, format!("`{key}` in {} is one value, not several", self.name));
                None
            }
        }
    }

    /// Like [`Self::text`]; that it is missing is a mistake, mended by writing something like `example`.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<Located<String>> {
        if !self.mentions(key) {
            let message = format!("`{key}` is missing in {}; write {key} = \"{example}\"", self.name);
            self.desk.problem(&self.place, message);
        }
        self.text(key)
    }

    /// `key` as `parse` understands it.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let text = self.text(key)?;
        self.understood(key, &text, parse)
    }

    /// A text already taken from `key`, as `parse` understands it.
    pub(super) fn understood<T>(
        &self,
        key: &'static str,
        text: &Located<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        match parse(&text.value) {
            Ok(value) => Some(Located { value, place: text.place.clone() }),
            Err(message) => {
                self.desk.problem(&text.place, format!("`{key}` in {}: {message}", self.name));
                None
            }
        }
    }

    /// A whole number within `range`, or `default`.
    pub(super) fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>, default: T) -> T
    where
        T: Copy + FromStr + PartialOrd + std::fmt::Display,
    {
        let parse = |text: &str| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| {
                format!("`{text}` is not a whole number from {} to {}", range.start(), range.end())
            })
        };
        self.parsed(key, parse).map_or(default, |number| number.value)
    }

    /// A list of texts; a single text is a list of one.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Located<String>> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let items = match node.value {
            Value::Array(items) => items,
            Value::Scalar(_) | Value::Table(_) => vec![node],
        };
        let texts = items.into_iter().filter_map(|item| match item.value {
            Value::Scalar(text) => Some(Located { value: text, place: item.place }),
            Value::Array(_) | Value::Table(_) => {
                self.desk.problem(&item.place, format!("`{key}` in {} is a list of texts", self.name));
                None
            }
        });
        texts.collect()
    }

    /// A file that must be readable; `mend` says where one comes from.
    pub(super) fn file(&mut self, key: &'static str, mend: &str) -> Option<Located<PathBuf>> {
        let text = self.text(key)?;
        self.readable(key, &text, mend)
    }

    /// Files that must be readable.
    pub(super) fn files(&mut self, key: &'static str, mend: &str) -> Vec<PathBuf> {
        let texts = self.list(key);
        texts.iter().filter_map(|text| self.readable(key, text, mend)).map(|file| file.value).collect()
    }

    /// The file at a text already taken from `key`.
    pub(super) fn readable(
        &self,
        key: &'static str,
        text: &Located<String>,
        mend: &str,
    ) -> Option<Located<PathBuf>> {
        self.understood(key, text, |text| {
            let path = self.desk.resolve(text);
            open(&path).map_err(|reason| format!("cannot read {}: {reason}; {mend}", path.display()))?;
            Ok(path)
        })
    }

    /// The table `key`; an absent one is an empty one.
    pub(super) fn section(&mut self, key: &'static str, name: &'static str) -> Section<'d> {
        let (place, entries) = match self.take(key) {
            None => (self.place.clone(), Table::new()),
            Some(Node { place, value: Value::Table(entries) }) => (place, entries),
            Some(Node { place, value: Value::Scalar(_) | Value::Array(_) }) => {
                self.desk.problem(&place, format!("`{key}` is a section: write {name} on a line of its own"));
                (place, Table::new())
            }
        };
        Section::new(name, place, entries, self.desk)
    }

    /// The array of tables `key`.
    pub(super) fn sections(&mut self, key: &'static str, name: &'static str) -> Vec<Section<'d>> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let items = match node.value {
            Value::Array(items) => items,
            Value::Scalar(_) | Value::Table(_) => vec![Node { value: Value::Scalar(String::new()), ..node }],
        };
        let tables = items.into_iter().filter_map(|item| match item.value {
            Value::Table(entries) => Some(Section::new(name, item.place, entries, self.desk)),
            Value::Scalar(_) | Value::Array(_) => {
                self.desk.problem(&item.place, format!("`{key}` stands for several: write {name}"));
                None
            }
        });
        tables.collect()
    }

    /// What is left was never asked for.
    pub(super) fn finish(self) {
        for (key, node) in &self.entries {
            let hint = match closest(key, &self.known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("it has {}", self.known.join(", ")),
            };
            self.desk.problem(&node.place, format!("unknown key `{key}` in {}; {hint}", self.name));
        }
    }
}

fn open(path: &Path) -> Result<(), String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    match file.metadata() {
        Ok(metadata) if metadata.is_dir() => Err("it is a directory".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn closest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let scored = known.iter().map(|candidate| (edits(key, candidate), *candidate));
    scored.filter(|(edits, _)| *edits <= TYPING_ERRORS_MAX).min().map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut previous = i + 1;
        let mut next = vec![previous];
        for (b, pair) in right.chars().zip(row.windows(2)) {
            let [diagonal, above] = pair else { continue };
            previous = (diagonal + usize::from(a != b)).min(above + 1).min(previous + 1);
            next.push(previous);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_edits() {
        for (left, right, expected) in
            [("bind", "bind", 0), ("bindd", "bind", 1), ("", "abc", 3), ("commit", "comit", 1)]
        {
            assert_eq!(edits(left, right), expected, "{left} {right}");
            assert_eq!(edits(right, left), expected, "{right} {left}");
        }
        assert_eq!(closest("qota", &["commit", "quota"]), Some("quota"));
        assert_eq!(closest("speed", &["commit", "quota"]), None);
    }
}
