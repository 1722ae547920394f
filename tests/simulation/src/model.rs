//! What was sent, and what follows from it: every publish by its number, which its content says.

use bytes::Bytes;
use wardline_wire::{PublishProperties, QoS};

use crate::{Violation, ensure};

/// Of a publish: counted from 0 in the order of sending.
pub(crate) type Number = usize;

/// How far a will is from being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WillState {
    /// The broker may have it, or not, or have been told to forget it.
    Possible,
    /// The broker has said that it has it.
    Kept,
    /// And its client was lost: it must come.
    Due,
}

/// One publish as its publisher knows it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Its payload is, which ends what is retained.
    pub(crate) is_empty: bool,
    pub(crate) denied: bool,
    /// The step at which it was first sent; of a will, at which its client was lost or taken over.
    pub(crate) sent_at: u64,
    /// Its publisher was told that the broker has it.
    pub(crate) acknowledged: bool,
    /// Its publisher was told that the broker refuses it.
    pub(crate) refused: bool,
    pub(crate) will: Option<WillState>,
    /// How often the record has it as accepted.
    pub(crate) accepted: u32,
    /// And as denied.
    pub(crate) recorded_denied: u32,
}

impl Message {
    /// Whether it must reach everybody who had subscribed.
    pub(crate) fn is_promised(&self) -> bool {
        self.acknowledged || self.will == Some(WillState::Due)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) messages: Vec<Message>,
    /// Steps so far.
    pub(crate) step: u64,
}

impl Model {
    pub(crate) fn send(&mut self, topic: String, qos: QoS, retain: bool, is_empty: bool) -> Number {
        self.messages.push(Message {
            is_empty,
            denied: topic.starts_with(DENIED_ROOT),
            topic,
            qos,
            retain,
            sent_at: self.step,
            acknowledged: false,
            refused: false,
            will: None,
            accepted: 0,
            recorded_denied: 0,
        });
        self.messages.len() - 1
    }

    pub(crate) fn message(&self, number: Number) -> Result<&Message, Violation> {
        let unknown = || Violation(format!("nobody ever sent message {number}"));
        self.messages.get(number).ok_or_else(unknown)
    }

    pub(crate) fn message_mut(&mut self, number: Number) -> Result<&mut Message, Violation> {
        let unknown = || Violation(format!("nobody ever sent message {number}"));
        self.messages.get_mut(number).ok_or_else(unknown)
    }

    /// What the record says a publish became.
    pub(crate) fn recorded(
        &mut self,
        number: Number,
        topic: &str,
        qos: u8,
        accepted: bool,
    ) -> Result<(), Violation> {
        let message = self.message_mut(number)?;
        ensure!(message.topic == topic, "message {number} of {} is recorded on {topic}", message.topic);
        ensure!(message.qos as u8 == qos, "message {number} is recorded with QoS {qos}");
        if !accepted {
            ensure!(message.denied, "message {number} on {topic} is recorded as denied");
            message.recorded_denied += 1;
            return Ok(());
        }
        ensure!(!message.denied, "message {number} on {topic} is recorded as accepted");
        message.accepted += 1;
        // At QoS 1 a publisher that was not answered sends again, and each counts.
        let repeated = message.qos == QoS::AtLeastOnce && message.will.is_none();
        ensure!(message.accepted == 1 || repeated, "message {number} is accepted {} times", message.accepted);
        Ok(())
    }

    /// Whether the record has all that was acknowledged.
    pub(crate) fn check_recorded(&self) -> Result<(), Violation> {
        for (number, message) in self.messages.iter().enumerate() {
            ensure!(
                !message.acknowledged || message.accepted > 0,
                "message {number} was acknowledged and is lost: {message:?}"
            );
            ensure!(
                !message.refused || message.recorded_denied > 0,
                "message {number} was refused and the record lacks it"
            );
        }
        Ok(())
    }
}

/// What a payload has beside its number, in bytes.
const PADDING_BYTES_MAX: usize = 1_500;

/// Nobody may publish below.
pub(crate) const DENIED_ROOT: &str = "no/";

/// A publish's content. Without a payload, which ends what is retained, the number is a property.
pub(crate) fn content(number: Number, is_empty: bool) -> (Bytes, PublishProperties) {
    let text = number.to_string();
    if is_empty {
        let properties =
            PublishProperties { content_type: Some(text.into()), ..PublishProperties::default() };
        return (Bytes::new(), properties);
    }
    // Of any size, so that batches end anywhere in sectors and pages, and a few fill a segment.
    let padding = number.wrapping_mul(397) % PADDING_BYTES_MAX;
    (format!("{text}{:padding$}", "").into(), PublishProperties::default())
}

/// The publish that has this content.
pub(crate) fn number(payload: &[u8], properties: &PublishProperties) -> Result<Number, Violation> {
    let text = properties.content_type.as_deref().or_else(|| std::str::from_utf8(payload).ok());
    let number = text.and_then(|text| text.trim_end().parse().ok());
    number.ok_or_else(|| Violation(format!("nobody ever sent {payload:?}")))
}
