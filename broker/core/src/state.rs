//! What the access records carry so that sessions can be rebuilt from them: a version byte, then fixed fields, little-endian.

use wardline_wire::{QoS, RetainHandling, SubscribeOptions};

use crate::session::Subscription;

const VERSION: u8 = 1;

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

/// Of a `disconnect` record: the session's expiry in seconds, which a DISCONNECT may have changed.
pub(crate) fn disconnect(expiry: u32) -> [u8; 5] {
    let [a, b, c, d] = expiry.to_le_bytes();
    [VERSION, a, b, c, d]
}

pub(crate) fn read_disconnect(state: &[u8]) -> Option<u32> {
    match *state {
        [VERSION, a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d])),
        _ => None,
    }
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
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read_connect(&connect(true, 77)), Some((true, 77)));
        assert_eq!(read_disconnect(&disconnect(u32::MAX)), Some(u32::MAX));
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
}
