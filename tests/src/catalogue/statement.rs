//! A statement as a table has it.

use std::fmt;

use serde::Deserialize;

const ID_PREFIX: &str = "MQTT-";

/// The name of a statement, `MQTT-3.1.2-24`: its section, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct StatementId {
    /// Chapter, section, subsection; 0 where there is none.
    pub section: [u16; 3],
    /// From 1 on.
    pub n: u16,
}

impl StatementId {
    /// From `3.1.2-24`.
    pub(super) fn from_number(number: &str) -> Option<Self> {
        let (section, n) = number.split_once('-')?;
        let parts: Vec<u16> = section.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        let id = Self { section: parts.try_into().ok()?, n: n.parse().ok()? };
        // One statement has one spelling: no `+3`, no `03`, no number 0.
        (id.number() == number && id.n > 0).then_some(id)
    }

    /// `3.1.2-24`.
    pub(super) fn number(&self) -> String {
        let [chapter, section, subsection] = self.section;
        format!("{chapter}.{section}.{subsection}-{}", self.n)
    }
}

impl TryFrom<String> for StatementId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.strip_prefix(ID_PREFIX)
            .and_then(Self::from_number)
            .ok_or_else(|| format!("{text:?} is no statement: write {ID_PREFIX}3.1.2-24"))
    }
}

impl fmt::Display for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ID_PREFIX}{}", self.number())
    }
}

/// Who has to keep a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binds {
    /// The server.
    Server,
    /// The client; where it can be seen, the tests show what the server does about a client that does not.
    Client,
    /// Whoever sends, or whoever receives.
    Both,
}

impl Binds {
    /// Whether the server has to keep it.
    pub fn server(self) -> bool {
        self != Self::Client
    }
}

/// A test, `tests/tests/mqtt5/connect.rs::the_first_packet_must_be_connect`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TestName {
    /// From the root of the repository.
    pub file: String,
    /// The function.
    pub function: String,
}

impl TryFrom<String> for TestName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.split_once("::")
            .filter(|(file, _)| file.ends_with(".rs"))
            .map(|(file, function)| Self { file: file.to_owned(), function: function.to_owned() })
            .ok_or_else(|| format!("{text:?} is no test: write path/to/file.rs::function"))
    }
}

impl fmt::Display for TestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.file, self.function)
    }
}

/// One normative statement.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Its name in the specification.
    pub id: StatementId,
    /// What it demands, in our words.
    pub says: String,
    /// Of whom.
    pub binds: Binds,
    /// What shows that it is kept.
    #[serde(default)]
    pub tests: Vec<TestName>,
    /// Why nothing can show it.
    pub reason: Option<String>,
    /// Of MQTT 3.1.1: the statement of MQTT 5.0 that says the same, whose citation in the code counts.
    pub v5: Option<StatementId>,
}
