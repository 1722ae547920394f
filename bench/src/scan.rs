//! What comes from a broker, read by fixed headers: enough to count and to answer, without decoding.

use wardline_wire::{PacketType, QoS, Version};

/// A packet in the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned<'a> {
    /// A message.
    Publish {
        /// Quality.
        qos: QoS,
        /// 0 at QoS 0.
        packet_id: u16,
        /// What was sent.
        payload: &'a [u8],
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack {
        /// Which of them.
        packet: PacketType,
        /// Of the publish.
        packet_id: u16,
        /// MQTT 5; 0 is success. From 0x80 on it failed.
        reason: u8,
    },
    /// MQTT 5: the broker ends the connection.
    Disconnect {
        /// Why.
        reason: u8,
    },
    /// Anything else.
    Other(PacketType),
}

/// It is not MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// No packet has this type.
    #[error("the broker sent a packet of type {0}, which does not exist")]
    UnknownType(u8),
    /// A length that cannot be.
    #[error("the broker sent a {0:?} whose lengths contradict each other")]
    Length(PacketType),
}

/// Takes whole packets off the front of a read buffer.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    version: Version,
}

/// Bytes of a remaining length at most [1.5.5].
const LENGTH_BYTES_MAX: usize = 4;

impl<'a> Scanner<'a> {
    /// Of what was read on a connection of this version.
    pub const fn new(bytes: &'a [u8], version: Version) -> Self {
        Self { bytes, version }
    }

    /// What is left: the beginning of a packet, or nothing.
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    fn body(&self, first: u8, packet: PacketType, body: &'a [u8]) -> Option<Scanned<'a>> {
        Some(match packet {
            PacketType::Publish => self.publish(first, body)?,
            PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
                let (packet_id, rest) = body.split_first_chunk()?;
                let reason = rest.first().copied().unwrap_or_default();
                Scanned::Ack { packet, packet_id: u16::from_be_bytes(*packet_id), reason }
            }
            PacketType::Disconnect => {
                Scanned::Disconnect { reason: body.first().copied().unwrap_or_default() }
            }
            _ => Scanned::Other(packet),
        })
    }

    fn publish(&self, first: u8, body: &'a [u8]) -> Option<Scanned<'a>> {
        let qos = match (first >> 1) & 0b11 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            _ => return None,
        };
        let (topic_len, rest) = body.split_first_chunk()?;
        let mut rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..)?;
        let mut packet_id = 0;
        if qos != QoS::AtMostOnce {
            let (id, after) = rest.split_first_chunk()?;
            (packet_id, rest) = (u16::from_be_bytes(*id), after);
        }
        if self.version == Version::V5 {
            let Length::Complete { value, len } = length(rest) else { return None };
            rest = rest.get(len.checked_add(value)?..)?;
        }
        Some(Scanned::Publish { qos, packet_id, payload: rest })
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Result<Scanned<'a>, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&first, after) = self.bytes.split_first()?;
        let Some(packet) = PacketType::from_u8(first >> 4) else {
            return Some(Err(ScanError::UnknownType(first >> 4)));
        };
        let (value, len) = match length(after) {
            Length::Complete { value, len } => (value, len),
            Length::Incomplete => return None,
            Length::Overlong => return Some(Err(ScanError::Length(packet))),
        };
        let (body, rest) = after.get(len..)?.split_at_checked(value)?;
        self.bytes = rest;
        Some(self.body(first, packet, body).ok_or(ScanError::Length(packet)))
    }
}

/// A variable byte integer [1.5.5].
enum Length {
    Complete { value: usize, len: usize },
    Incomplete,
    Overlong,
}

fn length(bytes: &[u8]) -> Length {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Length::Complete { value, len: place + 1 };
        }
    }
    if bytes.len() < LENGTH_BYTES_MAX { Length::Incomplete } else { Length::Overlong }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use bytes::BytesMut;
    use proptest::prelude::*;
    use wardline_wire::{Ack, Packet, PacketId, Publish, PublishProperties, ReasonCode, encode};

    use super::*;

    fn publish() -> impl Strategy<Value = Packet> {
        let content =
            (0_u8..3, any::<bool>(), "[a-z/]{1,40}", proptest::collection::vec(any::<u8>(), 0..400));
        let properties = (any::<u16>(), proptest::collection::vec("[a-z]{0,90}", 0..3));
        (content, properties).prop_map(|((qos, retain, topic, payload), (id, user))| {
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
            let id = PacketId(NonZeroU16::new(id).unwrap_or(NonZeroU16::MIN));
            let user = user.iter().map(|value| ("k".into(), value.as_str().into())).collect();
            Packet::Publish(Publish {
                qos,
                retain,
                topic: topic.into(),
                packet_id: (qos != QoS::AtMostOnce).then_some(id),
                properties: PublishProperties { user, ..PublishProperties::default() }.into(),
                payload: payload.into(),
                dup: false,
            })
        })
    }

    fn ack() -> impl Strategy<Value = Packet> {
        (0_u8..4, 1_u16.., any::<bool>()).prop_map(|(kind, id, refused)| {
            let reason = match (refused, kind) {
                (false, _) => ReasonCode::Success,
                (true, 0 | 1) => ReasonCode::NotAuthorized,
                (true, _) => ReasonCode::PacketIdentifierNotFound,
            };
            let packet_id = PacketId(NonZeroU16::new(id).unwrap());
            let ack = Ack { packet_id, reason, reason_string: None, user: Vec::new() };
            match kind {
                0 => Packet::PubAck(ack),
                1 => Packet::PubRec(ack),
                2 => Packet::PubRel(ack),
                _ => Packet::PubComp(ack),
            }
        })
    }

    /// What the scanner should make of a packet.
    fn agrees(packet: &Packet, scanned: &Scanned<'_>, version: Version) -> bool {
        match (packet, scanned) {
            (Packet::Publish(sent), Scanned::Publish { qos, packet_id, payload }) => {
                let id = sent.packet_id.map_or(0, |id| id.0.get());
                (sent.qos, id, &*sent.payload) == (*qos, *packet_id, *payload)
            }
            (
                Packet::PubAck(sent) | Packet::PubRec(sent) | Packet::PubRel(sent) | Packet::PubComp(sent),
                Scanned::Ack { packet: kind, packet_id, reason },
            ) => {
                let expected = if version == Version::V5 { sent.reason as u8 } else { 0 };
                (packet.packet_type(), sent.packet_id.0.get(), expected) == (*kind, *packet_id, *reason)
            }
            (Packet::PingResp, Scanned::Other(PacketType::PingResp)) => true,
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_the_encoder_writes_is_found_however_it_is_cut(
            packets in proptest::collection::vec(prop_oneof![publish(), ack(), Just(Packet::PingResp)], 0..12),
            v5: bool,
            cut: prop::sample::Index,
        ) {
            let version = if v5 { Version::V5 } else { Version::V311 };
            let mut bytes = BytesMut::new();
            for packet in &packets {
                encode(packet, version, &mut bytes).unwrap();
            }
            let cut = cut.index(bytes.len() + 1);
            let mut before = Scanner::new(&bytes[..cut], version);
            let mut found: Vec<_> = before.by_ref().map(Result::unwrap).collect();
            let rejoined = [before.rest(), &bytes[cut..]].concat();
            let mut after = Scanner::new(&rejoined, version);
            found.extend(after.by_ref().map(Result::unwrap));
            prop_assert!(after.rest().is_empty());
            prop_assert_eq!(found.len(), packets.len());
            for (packet, scanned) in packets.iter().zip(&found) {
                prop_assert!(agrees(packet, scanned, version), "{:?} is not {:?}", packet, scanned);
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200), v5: bool) {
            let version = if v5 { Version::V5 } else { Version::V311 };
            let _ = Scanner::new(&bytes, version).take_while(Result::is_ok).count();
        }
    }

    #[test]
    fn what_is_not_mqtt_is_told() {
        let scan = |bytes: &'static [u8]| Scanner::new(bytes, Version::V311).next();
        assert_eq!(scan(&[0x00, 0]), Some(Err(ScanError::UnknownType(0))));
        assert_eq!(
            scan(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
            Some(Err(ScanError::Length(PacketType::Publish)))
        );
        assert_eq!(scan(&[0x30, 2, 0, 9]), Some(Err(ScanError::Length(PacketType::Publish))));
        assert_eq!(scan(&[0x36, 2, 0, 0]), Some(Err(ScanError::Length(PacketType::Publish))));
        assert_eq!(scan(&[0x40, 1, 0]), Some(Err(ScanError::Length(PacketType::PubAck))));
        assert_eq!(scan(&[0xE0, 1, 0x97]), Some(Ok(Scanned::Disconnect { reason: 0x97 })));
    }
}
