//! A publish encoded whole for many subscribers: each gets a copy, with a packet identifier of its own.

use bytes::{Bytes, BytesMut};

use crate::codec::publish;
use crate::{Delivery, EncodeError, PacketId, PacketType, PublishTemplate, QoS};

/// A PUBLISH of one version and quality for everybody whose delivery has no properties of its own.
#[derive(Clone, Debug)]
pub struct PublishFrame {
    bytes: Bytes,
    qos: QoS,
    /// Where the packet identifier stands, above QoS 0.
    id_at: usize,
}

impl PublishFrame {
    /// Encodes what `template` has.
    ///
    /// # Errors
    /// As for [`PublishTemplate::write`].
    pub fn new(template: &PublishTemplate<'_>, qos: QoS) -> Result<Self, EncodeError> {
        let packet_id = (qos != QoS::AtMostOnce).then_some(PacketId(std::num::NonZeroU16::MIN));
        let delivery = Delivery { qos, packet_id, ..Delivery::default() };
        let mut bytes = BytesMut::new();
        template.write(&delivery, &mut bytes)?;
        Ok(Self { id_at: behind_topic(&bytes), bytes: bytes.freeze(), qos })
    }

    /// Its quality.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Bytes that [`Self::write`] appends.
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a copy. `packet_id` is not used at QoS 0, and neither is `dup`.
    ///
    /// # Errors
    /// [`EncodeError::MissingPacketId`] above QoS 0; `out` is as it was.
    pub fn write(
        &self,
        dup: bool,
        retain: bool,
        packet_id: Option<PacketId>,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let id = match self.qos {
            QoS::AtMostOnce => None,
            _ => Some(packet_id.ok_or(EncodeError::MissingPacketId)?.0.get().to_be_bytes()),
        };
        out.extend_from_slice(&self.bytes);
        let copy = out.get_mut(start..).unwrap_or_default();
        if let Some(first) = copy.first_mut() {
            *first = (PacketType::Publish as u8) << 4 | publish::flags(dup, self.qos, retain);
        }
        if let Some(id) = id
            && let Some(place) = copy.get_mut(self.id_at..).and_then(<[u8]>::first_chunk_mut)
        {
            *place = id;
        }
        Ok(())
    }
}

/// Where in a PUBLISH the topic ends: behind the first byte, the remaining length, and the topic with its own length.
fn behind_topic(publish: &[u8]) -> usize {
    let length_len = publish.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let topic_at = 1 + length_len;
    let topic_len =
        publish.get(topic_at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_be_bytes);
    topic_at + size_of::<u16>() + usize::from(topic_len)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::{Publish, PublishProperties, Version};

    #[test]
    fn a_copy_is_what_the_template_writes() {
        for payload_bytes in [0, 64, 200, 20_000] {
            let publish = Publish {
                topic: "telemetry/icu-3/b12/mon-12/spo2".into(),
                properties: PublishProperties {
                    content_type: Some("text/plain".into()),
                    ..PublishProperties::default()
                }
                .into(),
                payload: Bytes::from(vec![b'7'; payload_bytes]),
                ..Publish::default()
            };
            for version in [Version::V311, Version::V5] {
                let template = PublishTemplate::new(&publish, version).unwrap();
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    let frame = PublishFrame::new(&template, qos).unwrap();
                    for (dup, retain, number) in [(false, false, 1), (true, true, 0xFEDC)] {
                        let packet_id = Some(PacketId(NonZeroU16::new(number).unwrap()));
                        let delivery = Delivery { dup, qos, retain, packet_id, ..Delivery::default() };
                        let (mut copied, mut written) = (BytesMut::from("x"), BytesMut::from("x"));
                        frame.write(dup, retain, packet_id, &mut copied).unwrap();
                        template.write(&delivery, &mut written).unwrap();
                        assert_eq!(copied, written, "{version:?} {qos:?} {payload_bytes}");
                        assert_eq!(frame.encoded_len(), written.len() - 1);
                    }
                    let without = frame.write(false, false, None, &mut BytesMut::new());
                    assert_eq!(without.is_err(), qos != QoS::AtMostOnce);
                }
            }
        }
    }
}
