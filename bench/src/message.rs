//! The message that is sent: one encoded PUBLISH, of which a few bytes change.

use bytes::BytesMut;
use wardline_wire::{EncodeError, Packet, PacketId, Publish, QoS, Version, encode};

/// Bytes of a [`Stamp`].
pub const STAMP_BYTES: usize = 16;
/// Topics that can be told apart by the digits of their last level.
pub const TOPICS_MAX: u32 = 9_999_999;
/// Digits of the last level of a topic.
const TOPIC_DIGITS: usize = 7;
/// Fills the rest of a payload.
const FILLER: u8 = b'.';

/// The topic with this number: `bench/0000012`.
pub fn topic(prefix: &str, number: u32) -> String {
    format!("{prefix}/{number:0TOPIC_DIGITS$}")
}

/// What a payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it was sent, or was to be sent: nanoseconds of the run.
    pub sent_ns: u64,
    /// By whom.
    pub publisher: u32,
    /// Counts the publisher's messages from 0.
    pub sequence: u32,
}

impl Stamp {
    /// Of a payload; `None` if it is too short to have one.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (sent_ns, rest) = payload.split_first_chunk()?;
        let (publisher, rest) = rest.split_first_chunk()?;
        let (sequence, _) = rest.split_first_chunk()?;
        Some(Self {
            sent_ns: u64::from_be_bytes(*sent_ns),
            publisher: u32::from_be_bytes(*publisher),
            sequence: u32::from_be_bytes(*sequence),
        })
    }
}

/// An encoded PUBLISH of which copies are sent, each with another packet identifier.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    /// Where the topic ends, and where packet identifier and payload begin.
    topic_end: usize,
    packet_id_at: Option<usize>,
    pub(crate) payload_at: usize,
}

impl Encoded {
    /// # Errors
    /// If there can be no such packet.
    pub(crate) fn new(
        topic: &str,
        version: Version,
        qos: QoS,
        payload: Vec<u8>,
    ) -> Result<Self, EncodeError> {
        let payload_len = payload.len();
        let publish = Publish {
            qos,
            topic: topic.into(),
            packet_id: (qos != QoS::AtMostOnce).then_some(PacketId(std::num::NonZeroU16::MIN)),
            payload: payload.into(),
            ..Publish::default()
        };
        let mut bytes = BytesMut::new();
        encode(&Packet::Publish(publish), version, &mut bytes)?;
        let bytes = Vec::from(bytes);
        let payload_at = bytes.len() - payload_len;
        // Between topic and payload: the packet identifier, and in MQTT 5 the empty properties.
        let properties = usize::from(version == Version::V5);
        let packet_id_at = (qos != QoS::AtMostOnce).then(|| payload_at - properties - size_of::<u16>());
        Ok(Self {
            topic_end: packet_id_at.unwrap_or(payload_at - properties),
            bytes,
            packet_id_at,
            payload_at,
        })
    }

    /// Bytes of the whole packet.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a copy, and gives it for the rest of what is its own.
    pub(crate) fn append<'a>(&self, out: &'a mut Vec<u8>, packet_id: u16) -> &'a mut [u8] {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[at..];
        if let Some(at) = self.packet_id_at {
            packet[at..][..2].copy_from_slice(&packet_id.to_be_bytes());
        }
        packet
    }
}

/// A PUBLISH ready but for its topic's digits, packet identifier and stamp.
#[derive(Clone, Debug)]
pub struct Message {
    encoded: Encoded,
    publisher: u32,
    /// Where the topic's digits begin.
    digits_at: usize,
}

impl Message {
    /// `payload_bytes` is at least [`STAMP_BYTES`].
    ///
    /// # Errors
    /// If there can be no such packet.
    pub fn new(
        prefix: &str,
        version: Version,
        qos: QoS,
        payload_bytes: usize,
        publisher: u32,
    ) -> Result<Self, EncodeError> {
        let payload = vec![FILLER; payload_bytes.max(STAMP_BYTES)];
        let encoded = Encoded::new(&topic(prefix, 0), version, qos, payload)?;
        Ok(Self { digits_at: encoded.topic_end - TOPIC_DIGITS, encoded, publisher })
    }

    /// Bytes of the whole packet.
    #[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub fn len(&self) -> usize {
        self.encoded.len()
    }

    /// Appends the packet; `packet_id` is not used at QoS 0.
    pub fn append(&self, out: &mut Vec<u8>, topic: u32, packet_id: u16, sent_ns: u64, sequence: u32) {
        let packet = self.encoded.append(out, packet_id);
        let mut number = topic;
        for digit in packet[self.digits_at..][..TOPIC_DIGITS].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        let stamp = &mut packet[self.encoded.payload_at..][..STAMP_BYTES];
        stamp[..8].copy_from_slice(&sent_ns.to_be_bytes());
        stamp[8..12].copy_from_slice(&self.publisher.to_be_bytes());
        stamp[12..].copy_from_slice(&sequence.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wardline_wire::{Decoder, PACKET_SIZE_MAX};

    use super::*;

    proptest! {
        #[test]
        fn a_patched_packet_is_what_the_encoder_would_have_written(
            v5: bool,
            qos in 0_u8..3,
            payload_bytes in STAMP_BYTES..20_000,
            number in 0..=TOPICS_MAX,
            packet_id in 1_u16..,
            (sent_ns, publisher, sequence) in any::<(u64, u32, u32)>(),
        ) {
            let version = if v5 { Version::V5 } else { Version::V311 };
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
            let message = Message::new("ward/bench", version, qos, payload_bytes, publisher).unwrap();
            let mut out = vec![0xFF];
            message.append(&mut out, number, packet_id, sent_ns, sequence);
            prop_assert_eq!(out.len(), 1 + message.len());

            let mut bytes = BytesMut::from(&out[1..]);
            // A PUBLISH of a client and one of a server look the same.
            let mut decoder = Decoder::client_side(version, PACKET_SIZE_MAX);
            let Some(Packet::Publish(publish)) = decoder.decode(&mut bytes).unwrap() else { panic!("no publish") };
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(&*publish.topic, topic("ward/bench", number));
            prop_assert_eq!(publish.qos, qos);
            prop_assert_eq!(publish.packet_id.map(|id| id.0.get()), (qos != QoS::AtMostOnce).then_some(packet_id));
            prop_assert_eq!(publish.payload.len(), payload_bytes);
            prop_assert_eq!(Stamp::read(&publish.payload), Some(Stamp { sent_ns, publisher, sequence }));
        }
    }

    #[test]
    fn a_payload_that_is_not_of_a_run_has_no_stamp() {
        assert_eq!(Stamp::read(&[0; STAMP_BYTES - 1]), None);
    }
}
