//! What can be wrong with a catalogue, and how to mend it.

use super::StatementId;

/// A claim of a table that does not hold, or a source that cites what there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Two statements of the same name, or in the wrong order.
    #[error("{table}: {id} is there twice or out of order: keep the order of the specification")]
    OutOfOrder {
        /// The table.
        table: &'static str,
        /// The statement.
        id: StatementId,
    },
    /// A number between two statements is missing.
    #[error(
        "{table}: {id} is missing: add it, or name it in `absent` if the specification has none of this number"
    )]
    Missing {
        /// The table.
        table: &'static str,
        /// The statement.
        id: StatementId,
    },
    /// It does not say what it demands.
    #[error("{table}: {id} says nothing: fill `says`")]
    Silent {
        /// The table.
        table: &'static str,
        /// The statement.
        id: StatementId,
    },
    /// Neither tests nor a reason.
    #[error("{table}: {id} has neither tests nor a reason that there are none")]
    Uncovered {
        /// The table.
        table: &'static str,
        /// The statement.
        id: StatementId,
    },
    /// Both tests and a reason.
    #[error("{table}: {id} has tests and a reason that there are none: keep one")]
    TestsAndReason {
        /// The table.
        table: &'static str,
        /// The statement.
        id: StatementId,
    },
    /// A named test is not there.
    #[error("{table}: {id} names {test}, which is no test there")]
    NoTest {
        /// The table.
        table: &'static str,
        /// The statement.
        id: StatementId,
        /// The test.
        test: String,
    },
    /// A named test does not say that it covers the statement.
    #[error("{table}: {id} names {test}, which does not name it: cite it in the test's comment")]
    TestDoesNotCite {
        /// The table.
        table: &'static str,
        /// The statement.
        id: StatementId,
        /// The test.
        test: String,
    },
    /// It binds the server, and no code of the server says that it keeps it.
    #[error(
        "{table}: {id} binds the server and is not cited in broker/*/src: cite it at the code that keeps it"
    )]
    NotImplemented {
        /// The table.
        table: &'static str,
        /// The statement.
        id: StatementId,
    },
    /// The statement of MQTT 5.0 that it names as its twin is not there.
    #[error("{table}: {id} has the twin {twin}, which MQTT 5.0 does not have")]
    NoTwin {
        /// The table.
        table: &'static str,
        /// The statement.
        id: StatementId,
        /// The twin.
        twin: StatementId,
    },
    /// A source cites a statement that is in no table.
    #[error("{at}: {citation} is no statement: [MQTT-x.y.z-n] is MQTT 5.0's, [MQTT3-x.y.z-n] MQTT 3.1.1's")]
    UnknownCitation {
        /// File and line.
        at: String,
        /// As it is written.
        citation: String,
    },
}
