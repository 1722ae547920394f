//! What access records and marks carry so that sessions can be rebuilt from them: a version byte, then fields, little-endian.

use bytes::Bytes;
use bytestring::ByteString;
use wardline_wire::{QoS, RetainHandling, SubscribeOptions, Will, decode_properties, encode_properties};

use crate::session::Subscription;

const VERSION: u8 = 1;

/// Of a `disconnect` record that tells of the will.
const VERSION_WITH_WILL: u8 = 2;

/// Of a `connect` record: clean start, and the seconds that the session outlives its connection.
pub(crate) fn connect(clean_start: bool, expiry: u32) -> [u8; 6] {
    let [a, b, c, d] = expiry.to_le_bytes();
    [VERSION, u8::from(clean_start), a, b, c, d]
}

pub(crate) fn read_connect(state: &[u8]) -> Option<(bool, u32)> {
    match *state {
        [VERSION, clean, a, b, c, d] => Some((clean != 0, u32::from_le_bytes([a, b, c, d]))),
        _ => None,
    }
}

/// Of a `disconnect` record: the session's expiry in seconds, which a DISCONNECT may have changed, and whether the client's
/// will, if it has one, is still to be published, which a DISCONNECT may have changed too.
pub(crate) fn disconnect(expiry: u32, keeps_will: bool) -> [u8; 6] {
    let [a, b, c, d] = expiry.to_le_bytes();
    [VERSION_WITH_WILL, a, b, c, d, u8::from(keeps_will)]
}

pub(crate) fn read_disconnect(state: &[u8]) -> Option<(u32, bool)> {
    match *state {
        [VERSION_WITH_WILL, a, b, c, d, keeps_will] => {
            Some((u32::from_le_bytes([a, b, c, d]), keeps_will != 0))
        }
        // Older versions kept no wills.
        [VERSION, a, b, c, d] => Some((u32::from_le_bytes([a, b, c, d]), false)),
        _ => None,
    }
}

/// A will: QoS and RETAIN in a byte, the delay in seconds, the topic and the properties with their lengths as `u32`, and the
/// payload to the end.
pub(crate) fn will(will: &Will) -> Vec<u8> {
    let mut properties = Vec::new();
    if encode_properties(&will.properties, &mut properties).is_err() {
        // Cannot be: they were decoded from a block that fitted.
        properties.clear();
    }
    let mut bytes = vec![VERSION, will.qos as u8 | u8::from(will.retain) << 2];
    bytes.extend(will.delay.unwrap_or(0).to_le_bytes());
    for field in [&will.topic.as_bytes()[..], &properties] {
        // One CONNECT, of 256 MiB at most, held them all.
        bytes.extend((field.len() as u32).to_le_bytes());
        bytes.extend(field);
    }
    bytes.extend(&will.payload);
    bytes
}

pub(crate) fn read_will(bytes: &[u8]) -> Option<Will> {
    let (&[VERSION, flags, a, b, c, d], rest) = bytes.split_first_chunk()? else { return None };
    let delay = u32::from_le_bytes([a, b, c, d]);
    let (topic, rest) = read_field(rest)?;
    let (properties, payload) = read_field(rest)?;
    Some(Will {
        topic: ByteString::from(std::str::from_utf8(topic).ok()?),
        payload: Bytes::copy_from_slice(payload),
        qos: qos(flags & 3)?,
        retain: flags & 4 != 0,
        delay: (delay != 0).then_some(delay),
        properties: decode_properties(properties).ok()?.into(),
    })
}

fn read_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// Of a `subscribe` record: the options as in SUBSCRIBE [3.8.3.1], and the identifier, 0 for none.
pub(crate) fn subscribe(subscription: &Subscription) -> [u8; 6] {
    let options = &subscription.options;
    let byte = options.qos as u8
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4;
    let [a, b, c, d] = subscription.id.unwrap_or(0).to_le_bytes();
    [VERSION, byte, a, b, c, d]
}

pub(crate) fn read_subscribe(state: &[u8]) -> Option<Subscription> {
    let [VERSION, byte, a, b, c, d] = *state else { return None };
    let id = u32::from_le_bytes([a, b, c, d]);
    Some(Subscription {
        options: SubscribeOptions {
            qos: qos(byte & 3)?,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling: match byte >> 4 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return None,
            },
        },
        id: (id != 0).then_some(id),
    })
}

pub(crate) fn qos(number: u8) -> Option<QoS> {
    match number {
        0 => Some(QoS::AtMostOnce),
        1 => Some(QoS::AtLeastOnce),
        2 => Some(QoS::ExactlyOnce),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use wardline_wire::PublishProperties;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read_connect(&connect(true, 77)), Some((true, 77)));
        for keeps_will in [false, true] {
            assert_eq!(read_disconnect(&disconnect(u32::MAX, keeps_will)), Some((u32::MAX, keeps_will)));
        }
        assert_eq!(read_disconnect(&[VERSION, 60, 0, 0, 0]), Some((60, false)));
        for handling in [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend] {
            for bits in 0..16u8 {
                let subscription = Subscription {
                    options: SubscribeOptions {
                        qos: qos(bits % 3).unwrap(),
                        no_local: bits & 4 != 0,
                        retain_as_published: bits & 8 != 0,
                        retain_handling: handling,
                    },
                    id: (bits > 7).then_some(268_435_455),
                };
                assert_eq!(read_subscribe(&subscribe(&subscription)), Some(subscription));
            }
        }
        assert_eq!(read_subscribe(&[9, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_will_is_read_as_it_was_left_and_not_at_all_where_it_is_cut_short() {
        let left = Will {
            topic: "wills/ü".into(),
            payload: Bytes::from_static(b""),
            qos: QoS::ExactlyOnce,
            retain: true,
            delay: Some(u32::MAX),
            properties: PublishProperties {
                user: vec![("name".into(), "value".into())],
                correlation_data: Some(Bytes::from_static(b"\0\xff")),
                ..PublishProperties::default()
            },
        };
        let bytes = will(&left);
        assert_eq!(read_will(&bytes), Some(left));
        for cut in 0..bytes.len() {
            assert_eq!(read_will(&bytes[..cut]), None, "{cut}");
        }
    }
}
