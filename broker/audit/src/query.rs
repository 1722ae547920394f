//! Reading the record: the tables and views as people ask for them, oldest first or newest first.

use futures_util::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use wardline_wire::topic;

use crate::store::connection::{Connection, Kind, Value};
use crate::store::writer::instant_text;
use crate::store::{Store, StoreError};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Each publish.
    Publishes,
    /// Connections and subscriptions.
    Access,
    /// Alerts handed to sessions, and confirmed.
    Deliveries,
    /// Each step of each alert.
    AlertTimeline,
    /// Signed tree heads.
    Checkpoints,
}

/// Which rows. Every condition that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this node.
    pub node: Option<u16>,
    /// Of this MQTT client.
    pub client: Option<String>,
    /// Of this principal.
    pub principal: Option<String>,
    /// Topic name matches this MQTT topic filter.
    pub topic: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// `accepted` or `denied`.
    pub outcome: Option<String>,
    /// An event of `access`.
    pub event: Option<String>,
    /// Of this alert.
    pub alert: Option<String>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Newest first.
    pub newest_first: bool,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The relation has no such column.
    #[error("{relation} cannot be filtered by {filter}; leave it out, or ask another table")]
    NotFilterable {
        /// The table or view.
        relation: &'static str,
        /// The condition.
        filter: &'static str,
    },
    /// Not a topic filter.
    #[error("`{0}` is not an MQTT topic filter: + and # stand for whole levels, # only for the last")]
    TopicFilter(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A cell of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// A number; truth values are 0 and 1.
    Int(i64),
    /// Text; instants are UTC with microseconds.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Cannot be read, and why.
    Unreadable(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Instant,
    Big,
    Small,
    Truth,
    Bytes,
}

type Column = (&'static str, Type);

const PUBLISHES: &[Column] = &[
    ("node", Type::Small),
    ("seq", Type::Big),
    ("received_at", Type::Instant),
    ("client_id", Type::Text),
    ("principal", Type::Text),
    ("peer", Type::Text),
    ("topic", Type::Text),
    ("qos", Type::Small),
    ("retain", Type::Truth),
    ("packet_id", Type::Small),
    ("properties", Type::Bytes),
    ("payload", Type::Bytes),
    ("payload_bytes", Type::Big),
    ("payload_digest", Type::Bytes),
    ("outcome", Type::Text),
    ("reason", Type::Text),
    ("digest", Type::Bytes),
];
const ACCESS: &[Column] = &[
    ("node", Type::Small),
    ("seq", Type::Big),
    ("at", Type::Instant),
    ("event", Type::Text),
    ("client_id", Type::Text),
    ("principal", Type::Text),
    ("peer", Type::Text),
    ("detail", Type::Text),
    ("reason", Type::Text),
    ("digest", Type::Bytes),
];
const DELIVERIES: &[Column] = &[
    ("node", Type::Small),
    ("publish_seq", Type::Big),
    ("alert", Type::Text),
    ("topic", Type::Text),
    ("client_id", Type::Text),
    ("principal", Type::Text),
    ("sent_at", Type::Instant),
    ("confirmed_at", Type::Instant),
    ("unreachable_at", Type::Instant),
    ("seq", Type::Big),
];
const ALERT_TIMELINE: &[Column] = &[
    ("alert", Type::Text),
    ("step_number", Type::Big),
    ("at", Type::Instant),
    ("step", Type::Text),
    ("who", Type::Text),
    ("principal", Type::Text),
    ("client_id", Type::Text),
    ("tier", Type::Text),
    ("priority", Type::Text),
    ("state", Type::Text),
    ("condition", Type::Text),
    ("unit", Type::Text),
    ("bed", Type::Text),
    ("detail", Type::Text),
    ("topic", Type::Text),
    ("outcome", Type::Text),
    ("latency_ms", Type::Big),
    ("node", Type::Small),
    ("seq", Type::Big),
];
const CHECKPOINTS: &[Column] = &[
    ("node", Type::Small),
    ("size", Type::Big),
    ("root", Type::Bytes),
    ("at", Type::Instant),
    ("note", Type::Text),
];

impl Relation {
    fn name(self) -> &'static str {
        match self {
            Self::Publishes => "publishes",
            Self::Access => "access",
            Self::Deliveries => "deliveries",
            Self::AlertTimeline => "alert_timeline",
            Self::Checkpoints => "checkpoints",
        }
    }

    fn typed_columns(self) -> &'static [Column] {
        match self {
            Self::Publishes => PUBLISHES,
            Self::Access => ACCESS,
            Self::Deliveries => DELIVERIES,
            Self::AlertTimeline => ALERT_TIMELINE,
            Self::Checkpoints => CHECKPOINTS,
        }
    }

    /// The names of the columns, in order.
    pub fn columns(self) -> Vec<&'static str> {
        self.typed_columns().iter().map(|(name, _)| *name).collect()
    }

    fn column(self, name: &str) -> Option<usize> {
        self.typed_columns().iter().position(|(known, _)| *known == name)
    }

    /// The column that says when.
    fn time_column(self) -> &'static str {
        match self {
            Self::Publishes => "received_at",
            Self::Access | Self::AlertTimeline | Self::Checkpoints => "at",
            Self::Deliveries => "coalesce(sent_at, unreachable_at, confirmed_at)",
        }
    }

    fn order(self) -> &'static [&'static str] {
        match self {
            Self::Publishes | Self::Access | Self::Deliveries => &["node", "seq"],
            Self::AlertTimeline => &["alert", "node", "seq"],
            Self::Checkpoints => &["node", "size"],
        }
    }
}

/// A prepared question; [`Query::rows`] asks it.
pub struct Query {
    connection: Connection,
    sql: String,
    values: Vec<Value>,
    kinds: Vec<Kind>,
    /// Index of the topic column, and the filter that SQL can only narrow down.
    topic: Option<(usize, String)>,
    limit: usize,
}

impl Query {
    /// Understands the filter and connects.
    pub async fn new(store: &Store, relation: Relation, filter: &Filter) -> Result<Self, QueryError> {
        let connection = store.reader().await?;
        let mut conditions = Conditions { relation, sql: Vec::new(), values: Vec::new() };
        if let Some(node) = filter.node {
            conditions.add("node", "node =", Value::Int(i64::from(node)))?;
        }
        let equals = [
            ("client_id", "client_id =", &filter.client),
            ("principal", "principal =", &filter.principal),
            ("outcome", "outcome =", &filter.outcome),
            ("event", "event =", &filter.event),
        ];
        for (column, condition, value) in equals {
            if let Some(value) = value {
                conditions.add(column, condition, Value::from(value.as_str()))?;
            }
        }
        if let Some(alert) = &filter.alert {
            if relation == Relation::Publishes {
                let n = conditions.push(Value::from(alert.as_str()));
                let within =
                    format!("(node, seq) IN (SELECT node, seq FROM alert_timeline WHERE alert = ${n})");
                conditions.sql.push(within);
            } else {
                conditions.add("alert", "alert =", Value::from(alert.as_str()))?;
            }
        }
        for (bound, sign) in [(filter.from, ">="), (filter.to, "<")] {
            if let Some(bound) = bound {
                let n = conditions.push(Value::Text(instant_text(bound)));
                let bound = format!("{} {sign} {}", relation.time_column(), connection.instant(n));
                conditions.sql.push(bound);
            }
        }
        let topic = filter.topic.as_ref().map(|topic| conditions.topic(topic)).transpose()?;
        let Conditions { sql: conditions, values, .. } = conditions;
        let columns: Vec<_> =
            relation.typed_columns().iter().map(|column| expression(&connection, *column)).collect();
        let direction = if filter.newest_first { " DESC" } else { "" };
        let order: Vec<_> = relation.order().iter().map(|column| format!("{column}{direction}")).collect();
        let wheres =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        let mut sql = format!(
            "SELECT {} FROM {} {wheres} ORDER BY {}",
            columns.join(", "),
            relation.name(),
            order.join(", ")
        );
        let limit = filter.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        if let (Some(limit), None) = (filter.limit, &topic) {
            sql.push_str(&format!(" LIMIT {}", limit.min(i64::MAX.cast_unsigned())));
        }
        let kinds = relation.typed_columns().iter().map(|(_, kind)| kind_of(*kind)).collect();
        Ok(Self { connection, sql, values, kinds, topic, limit })
    }

    /// The rows, as they come; cells in the order of [`Relation::columns`].
    pub fn rows(&mut self) -> BoxStream<'_, Result<Vec<Cell>, StoreError>> {
        let topic = self.topic.clone();
        self.connection
            .fetch(&self.sql, &self.values, &self.kinds, "reading")
            .filter(move |cells| {
                let fits = match (&topic, cells) {
                    (Some((column, filter)), Ok(cells)) => {
                        cells.text(*column).is_ok_and(|name| topic::matches(filter, name))
                    }
                    _ => true,
                };
                std::future::ready(fits)
            })
            .take(self.limit)
            .map(|cells| Ok(cells?.0.into_iter().map(cell).collect()))
            .boxed()
    }
}

/// The conditions so far.
struct Conditions {
    relation: Relation,
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    /// Adds a value and returns its number.
    fn push(&mut self, value: Value) -> usize {
        self.values.push(value);
        self.values.len()
    }

    fn require(&self, column: &'static str) -> Result<usize, QueryError> {
        let missing = || QueryError::NotFilterable { relation: self.relation.name(), filter: column };
        self.relation.column(column).ok_or_else(missing)
    }

    fn add(&mut self, column: &'static str, condition: &str, value: Value) -> Result<(), QueryError> {
        self.require(column)?;
        let n = self.push(value);
        self.sql.push(format!("{condition} ${n}"));
        Ok(())
    }

    /// Narrows down by what stands before the first wildcard.
    fn topic(&mut self, filter: &str) -> Result<(usize, String), QueryError> {
        let column = self.require("topic")?;
        if !topic::is_valid_filter(filter) {
            return Err(QueryError::TopicFilter(filter.to_owned()));
        }
        let literal = filter.find(['+', '#']).map_or(filter, |at| &filter[..at]);
        // `a/#` also matches `a` itself.
        let literal = literal.strip_suffix('/').unwrap_or(literal);
        if literal == filter {
            self.add("topic", "topic =", Value::from(filter))?;
        } else if !literal.is_empty() {
            self.add("topic", "topic >=", Value::from(literal))?;
            // No topic that begins with the literal sorts after the literal and the largest character.
            self.add("topic", "topic <=", Value::Text(format!("{literal}\u{10FFFF}")))?;
        }
        Ok((column, filter.to_owned()))
    }
}

fn expression(connection: &Connection, (name, kind): Column) -> String {
    match kind {
        Type::Text | Type::Bytes | Type::Big => name.to_owned(),
        Type::Instant => connection.instant_text(name),
        Type::Small => connection.integer(name),
        Type::Truth => connection.truth(name),
    }
}

fn kind_of(kind: Type) -> Kind {
    match kind {
        Type::Text | Type::Instant => Kind::Text,
        Type::Big | Type::Small | Type::Truth => Kind::Int,
        Type::Bytes => Kind::Bytes,
    }
}

fn cell(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Int(value) => Cell::Int(value),
        Value::Text(value) => Cell::Text(value),
        Value::Bytes(value) => Cell::Bytes(value),
        Value::Unreadable(why) => Cell::Unreadable(why),
    }
}

/// A row as one JSON object. Bytes are text where they are UTF-8, else base64 under `NAME_base64`; digests
/// and roots are hexadecimal.
pub fn to_json(relation: Relation, cells: &[Cell]) -> serde_json::Value {
    use base64::Engine;
    let mut object = serde_json::Map::new();
    for (name, cell) in relation.columns().into_iter().zip(cells) {
        let (name, value) = match cell {
            Cell::Null => (name.to_owned(), serde_json::Value::Null),
            Cell::Int(value) if name == "retain" => (name.to_owned(), (*value != 0).into()),
            Cell::Int(value) => (name.to_owned(), (*value).into()),
            Cell::Text(value) => (name.to_owned(), value.as_str().into()),
            Cell::Bytes(value) if is_hash(name) => (name.to_owned(), hex(value).into()),
            Cell::Bytes(value) => match std::str::from_utf8(value) {
                Ok(text) if name == "payload" => (name.to_owned(), text.into()),
                _ => {
                    let encoded = base64::engine::general_purpose::STANDARD.encode(value);
                    (format!("{name}_base64"), encoded.into())
                }
            },
            Cell::Unreadable(why) => (format!("{name}_unreadable"), why.as_str().into()),
        };
        object.insert(name, value);
    }
    object.into()
}

/// A cell for people: one line, without control characters.
pub fn to_text(column: &str, cell: &Cell) -> String {
    let text = match cell {
        Cell::Null => String::new(),
        Cell::Int(value) => value.to_string(),
        Cell::Text(value) => value.clone(),
        Cell::Bytes(value) => match std::str::from_utf8(value) {
            Ok(text) if !is_hash(column) && column != "properties" => text.to_owned(),
            _ => hex(value),
        },
        Cell::Unreadable(why) => format!("unreadable: {why}"),
    };
    // Payloads and topics come from the network: none may steer the terminal that shows them.
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

fn is_hash(column: &str) -> bool {
    matches!(column, "digest" | "payload_digest" | "root")
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
