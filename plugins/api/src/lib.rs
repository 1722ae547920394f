//! What a plugin is: a pure state machine. Messages and time in, messages out.
//!
//! It is not a place for I/O: a plugin has no clock, no socket, no randomness. Given the same inputs in the
//! same order it gives the same outputs, which is what makes `wardline replay` and recovery after a crash
//! tell the truth.
//!
//! Invariants
//! - the host calls with `now` never decreasing, and fires every due deadline before it hands over anything
//!   later;
//! - an output is published in the order in which it was pushed, and comes back as a message to every plugin
//!   interested in its topic, after the current call has returned;
//! - [`Plugin::admit`] changes nothing: a publish that is refused never happened.

use jiff::Timestamp;

pub mod alert;
pub mod condition;
pub mod number;
pub mod reading;
mod senml;
pub mod signal;
pub mod span;
pub mod words;

pub use words::{Kind, Mode, Onset, Phase, Priority, Severity, State};

/// A plugin, driven by its host.
pub trait Plugin: Send {
    /// Its principal is `plugin:NAME`.
    fn name(&self) -> &'static str;

    /// Topic filters of the messages it wants.
    fn interests(&self) -> Vec<String>;

    /// Asked before a publish on an interesting topic is accepted. `Err` refuses it with a reason for the
    /// publisher.
    fn admit(&self, _message: &Message<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Takes one input and pushes what follows from it.
    fn handle(&mut self, input: Input<'_>, now: Timestamp, out: &mut Vec<Output>);

    /// When it next wants [`Input::Tick`], if nothing else happens before. May be too early, never too late.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// All it remembers, in an encoding of its own.
    fn snapshot(&self) -> Vec<u8>;

    /// Takes over what [`Plugin::snapshot`] gave, from a run before or from the same plugin under other
    /// rules.
    ///
    /// # Errors
    /// [`NotASnapshot`]; then it remembers what it did before the call.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), NotASnapshot>;
}

/// What a plugin is told.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// An accepted publish on a topic of interest.
    Message(Message<'a>),
    /// How a publish of this plugin fared on its way to a pager.
    Receipt(Receipt<'a>),
    /// Its deadline has come; `now` is the deadline itself or later.
    Tick,
}

/// An accepted publish.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// This node.
    pub node: u16,
    /// Its place in the node's journal: with `node`, a name that no other publish has. In [`Plugin::admit`]
    /// not known yet, and 0.
    pub offset: u64,
    /// Topic name.
    pub topic: &'a str,
    /// Application message.
    pub payload: &'a [u8],
    /// Who published it: `device:ID`, `staff:ID`, `service:ID`, `plugin:NAME`.
    pub principal: &'a str,
}

/// A step of a publish on its way to a person.
#[derive(Clone, Copy, Debug)]
pub struct Receipt<'a> {
    /// Topic of the publish.
    pub topic: &'a str,
    /// The alert it carried (its correlation data).
    pub alert: &'a str,
    /// What happened.
    pub step: ReceiptStep,
    /// Principal of the client it concerns; empty for [`ReceiptStep::Unreachable`] with nobody there.
    pub principal: &'a str,
}

/// What happened to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptStep {
    /// Handed to a session whose client is connected.
    Sent,
    /// The client acknowledged it.
    Confirmed,
    /// Nobody connected takes it, or the last connection was lost before confirming.
    Unreachable,
}

/// A publish that a plugin makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Topic name.
    pub topic: String,
    /// Application message.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Keep as the topic's retained message; with an empty payload, clear it.
    pub retain: bool,
    /// MQTT 5 content type.
    pub content_type: Option<&'static str>,
    /// MQTT 5 response topic.
    pub response_topic: Option<String>,
    /// MQTT 5 correlation data; for an alert its id. Receipts are given for outputs that have one and match
    /// `alerts/#`.
    pub correlation: Option<String>,
}

/// A snapshot that a plugin cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot of plugin {plugin} cannot be read: {why}; rebuild its state from the journal")]
pub struct NotASnapshot {
    /// Whose.
    pub plugin: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// Why a publish is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// MQTT 5 reason code for the publisher, 0x80 or above.
    pub code: u8,
    /// What is wrong and how to mend it, for people; also the audit row's reason.
    pub reason: String,
}

/// The content type of every payload that plugins write.
pub const JSON: &str = "application/json";

/// `value` as the bytes of a payload.
pub fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // Only a map with keys that are not strings, or a writer, can fail; payloads are plain structs into
    // memory.
    serde_json::to_vec(value).unwrap_or_default()
}
