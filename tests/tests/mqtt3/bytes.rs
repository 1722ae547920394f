//! Control packets of MQTT 3.1.1 as bytes, well-formed unless the arguments are not.

pub(crate) const CLEAN: u8 = 0x02;
pub(crate) const WILL: u8 = 0x04;
pub(crate) const WILL_QOS_1: u8 = 0x08;
pub(crate) const WILL_QOS_2: u8 = 0x10;
pub(crate) const WILL_RETAIN: u8 = 0x20;
pub(crate) const PASSWORD: u8 = 0x40;
pub(crate) const USER_NAME: u8 = 0x80;

/// First bytes of a PUBLISH, to be put together.
pub(crate) const PUBLISH: u8 = 0x30;
pub(crate) const DUP: u8 = 0x08;
pub(crate) const QOS_1: u8 = 0x02;
pub(crate) const QOS_2: u8 = 0x04;
pub(crate) const RETAIN: u8 = 0x01;

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;
pub(crate) const UNSUBACK: u8 = 0xB0;

pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(crate) const PINGRESP: [u8; 2] = [0xD0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// CONNACK without and with a session present.
pub(crate) const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];
pub(crate) const RESUMED: [u8; 4] = [0x20, 2, 1, 0];

/// CONNACK that refuses.
pub(crate) fn refused(code: u8) -> [u8; 4] {
    [0x20, 2, 0, code]
}

/// `first` byte, remaining length, body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let digit = (rest % 128) as u8;
        rest /= 128;
        bytes.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A length of two bytes, then `bytes`.
pub(crate) fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).expect("a field of MQTT is that long at most");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A CONNECT of MQTT 3.1.1 with a keep alive of 60 s. `fields` are the payload: client id, will topic, will message,
/// user name, password, as far as the flags name them.
pub(crate) fn connect(flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    connect_as("MQTT", 4, flags, 60, fields)
}

/// A CONNECT of any protocol name and level; `keep_alive` in seconds.
pub(crate) fn connect_as(name: &str, level: u8, flags: u8, keep_alive: u16, fields: &[&[u8]]) -> Vec<u8> {
    let mut body = field(name);
    body.extend([level, flags]);
    body.extend(keep_alive.to_be_bytes());
    fields.iter().for_each(|bytes| body.extend(field(bytes)));
    packet(0x10, &body)
}

/// A PUBLISH with this first byte, and with a packet identifier if there is one.
pub(crate) fn publish(
    first: u8,
    topic: impl AsRef<[u8]>,
    id: Option<u16>,
    payload: impl AsRef<[u8]>,
) -> Vec<u8> {
    let mut body = field(topic);
    body.extend(id.map(u16::to_be_bytes).into_iter().flatten());
    body.extend(payload.as_ref());
    packet(first, &body)
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK, whose body is a packet identifier.
pub(crate) fn answer(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// A SUBSCRIBE for filters, each with the QoS that is asked for.
pub(crate) fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(field(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

/// A SUBACK with these return codes.
pub(crate) fn suback(id: u16, codes: &[u8]) -> Vec<u8> {
    packet(0x90, &[&id.to_be_bytes()[..], codes].concat())
}

/// An UNSUBSCRIBE.
pub(crate) fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    filters.iter().for_each(|filter| body.extend(field(filter)));
    packet(0xA2, &body)
}
