//! Rules of MQTT 5's properties: which belong where, how often, with what values (section 2.2.2.2, table 2-4).

use super::framing::NOT_TEXT;
use super::parts::{Part, Property, Sample, prefixed, samples, text, varint};
use super::{ALIAS_INVALID, Broken, EITHER, Level, MALFORMED, PROTOCOL};

/// A block of properties that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Connect,
    Will,
    Publish,
    Subscribe,
    Unsubscribe,
    Acknowledgement,
    Disconnect,
}
use Place::{Acknowledgement, Connect, Disconnect, Publish, Subscribe, Unsubscribe, Will};

struct Kind {
    id: u8,
    /// Where a client may have it.
    places: &'static [Place],
    /// A correct value.
    value: Vec<Part>,
    /// Values that it must not have, and how they are answered.
    wrong: &'static [(&'static [u8], &'static [u8])],
}

const NOT_A_FLAG: &[(&[u8], &[u8])] = &[(&[2], &[PROTOCOL]), (&[0x80], &[PROTOCOL]), (&[0xFF], &[PROTOCOL])];

fn kinds() -> Vec<Kind> {
    let kind = |id, places, value, wrong| Kind { id, places, value: vec![value], wrong };
    let byte = |value| Part::Octets(vec![value]);
    let two = || Part::Octets(vec![0, 7]);
    let four = || Part::Octets(vec![0, 0, 0, 7]);
    let binary = || Part::Binary(b"data".to_vec());
    let user = Kind {
        id: 0x26,
        places: &[Connect, Will, Publish, Subscribe, Unsubscribe, Acknowledgement, Disconnect],
        value: vec![text("name"), text("value")],
        wrong: &[],
    };
    vec![
        kind(0x01, &[Publish, Will], byte(1), &[(&[2], EITHER), (&[0xFF], EITHER)]),
        kind(0x02, &[Publish, Will], four(), &[]),
        kind(0x03, &[Publish, Will], text("text/plain"), &[]),
        // A response topic is a topic name: no wildcards [MQTT-3.3.2-14].
        kind(
            0x08,
            &[Publish, Will],
            text("answer"),
            &[(b"\0\x01#", &[PROTOCOL]), (b"\0\x03a/+", &[PROTOCOL]), (b"\0\0", &[PROTOCOL])],
        ),
        kind(0x09, &[Publish, Will], binary(), &[]),
        kind(
            0x0B,
            &[Subscribe],
            Part::Varint(300),
            &[(&[0], &[PROTOCOL]), (&[0x81, 0], &[MALFORMED]), (&[0x80; 5], &[MALFORMED])],
        ),
        kind(0x11, &[Connect, Disconnect], four(), &[]),
        kind(0x12, &[], text("client"), &[]),
        kind(0x13, &[], two(), &[]),
        kind(0x15, &[Connect], text("method"), &[]),
        // Data need a method (section 3.1.2.11.10); alone they are the wrong value.
        kind(0x16, &[Connect], binary(), &[(b"\0\x01x", &[PROTOCOL])]),
        kind(0x17, &[Connect], byte(1), NOT_A_FLAG),
        kind(0x18, &[Will], four(), &[]),
        kind(0x19, &[Connect], byte(1), NOT_A_FLAG),
        kind(0x1A, &[], text("information"), &[]),
        kind(0x1C, &[Disconnect], text("elsewhere"), &[]),
        kind(0x1F, &[Acknowledgement, Disconnect], text("reason"), &[]),
        kind(0x21, &[Connect], two(), &[(&[0, 0], &[PROTOCOL])]),
        kind(0x22, &[Connect], two(), &[]),
        kind(0x23, &[Publish], two(), &[(&[0, 0], &[ALIAS_INVALID])]),
        kind(0x24, &[], byte(1), &[]),
        kind(0x25, &[], byte(1), &[]),
        user,
        kind(0x27, &[Connect], four(), &[(&[0; 4], &[PROTOCOL])]),
        kind(0x28, &[], byte(1), &[]),
        kind(0x29, &[], byte(1), &[]),
        kind(0x2A, &[], byte(1), &[]),
    ]
}

const USER: u8 = 0x26;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;

pub(crate) fn all() -> Vec<Broken> {
    let mut all = Vec::new();
    let kinds = kinds();
    for sample in samples().into_iter().filter(|sample| sample.level == Level::Five) {
        for (ordinal, index) in sample.property_blocks().into_iter().enumerate() {
            let block = Block { sample: &sample, index, place: place(&sample, ordinal) };
            for kind in &kinds {
                if kind.places.contains(&block.place) {
                    block.broken_values(kind, &mut all);
                } else {
                    block.out_of_place(kind, &mut all);
                }
            }
            block.unknown(&kinds, &mut all);
            block.lengths(&mut all);
        }
    }
    all
}

fn place(sample: &Sample, ordinal: usize) -> Place {
    match (sample.name, ordinal) {
        ("CONNECT", 0) => Connect,
        ("CONNECT", _) => Will,
        ("PUBLISH", _) => Publish,
        ("SUBSCRIBE", _) => Subscribe,
        ("UNSUBSCRIBE", _) => Unsubscribe,
        ("DISCONNECT", _) => Disconnect,
        _ => Acknowledgement,
    }
}

struct Block<'a> {
    sample: &'a Sample,
    /// Which of the packet's parts it is.
    index: usize,
    place: Place,
}

impl Block<'_> {
    /// The packet with these bytes for properties.
    fn holding(&self, what: &str, properties: &[u8], answer: &'static [u8]) -> Broken {
        let block = [varint(properties.len() as u32), properties.to_vec()].concat();
        self.with(what, block, answer)
    }

    /// The packet with these bytes for properties and their length.
    fn with(&self, what: &str, block: Vec<u8>, answer: &'static [u8]) -> Broken {
        let what = format!("{:?} properties: {what}", self.place);
        self.sample.broken(&what, self.sample.with(self.index, block), answer)
    }

    fn out_of_place(&self, kind: &Kind, all: &mut Vec<Broken>) {
        let property = Property { id: kind.id, value: kind.value.clone() }.bytes();
        // Subscription identifiers are for the server to put on a publish [MQTT-3.3.4-6].
        let server_only = kind.id == SUBSCRIPTION_IDENTIFIER && self.place == Publish;
        let answer: &[u8] = if server_only { &[PROTOCOL] } else { &[MALFORMED] };
        for (what, times) in [("", 1), ("twice ", 2)] {
            let what = format!("{what}{:#04x}, which is for others", kind.id);
            all.push(self.holding(&what, &property.repeat(times), answer));
        }
    }

    fn broken_values(&self, kind: &Kind, all: &mut Vec<Broken>) {
        let id = kind.id;
        let property = Property { id, value: kind.value.clone() }.bytes();
        if id != USER {
            all.push(self.holding(&format!("{id:#04x} twice"), &property.repeat(2), &[PROTOCOL]));
        }
        for cut in 1..property.len() {
            all.push(self.holding(&format!("{id:#04x} cut after {cut}"), &property[..cut], &[MALFORMED]));
        }
        for (value, answer) in kind.wrong {
            let property = [&[id], *value].concat();
            all.push(self.holding(&format!("{id:#04x} is {value:02x?}"), &property, answer));
        }
        for (index, part) in kind.value.iter().enumerate() {
            let Part::Text(good) = part else { continue };
            for bad in NOT_TEXT {
                for text in [[good, *bad].concat(), [*bad, good].concat()] {
                    let value = kind
                        .value
                        .iter()
                        .enumerate()
                        .flat_map(|(at, part)| if at == index { prefixed(&text) } else { part.bytes() });
                    let property: Vec<u8> = std::iter::once(id).chain(value).collect();
                    all.push(self.holding(&format!("{id:#04x} is {text:02x?}"), &property, &[MALFORMED]));
                }
            }
        }
    }

    fn unknown(&self, kinds: &[Kind], all: &mut Vec<Broken>) {
        for id in (0..0x80).filter(|id| kinds.iter().all(|kind| kind.id != *id)) {
            all.push(self.holding(&format!("unknown {id:#04x}"), &[id, 1], &[MALFORMED]));
        }
        // Beyond one byte there is none, and an identifier has its shortest form [MQTT-1.5.5-1].
        for id in [&[0x80, 0x01][..], &[0xFF, 0x7F], &[0xA6, 0x00], &[0xFF; 5]] {
            let property = [id, &prefixed(b"name"), &prefixed(b"value")].concat();
            all.push(self.holding(&format!("identifier {id:02x?}"), &property, &[MALFORMED]));
        }
    }

    fn lengths(&self, all: &mut Vec<Broken>) {
        let property = Property { id: USER, value: vec![text("name"), text("value")] }.bytes();
        let len = property.len() as u8;
        let lengths: [&[u8]; 6] = [
            &[len - 1],
            &[0xFF, 0xFF, 0xFF, 0x7F],
            &[len | 0x80, 0],
            &[len | 0x80, 0x80, 0x80, 0x80, 0],
            &[0xFF; 4],
            &[0xFF, 0xFF, 0x03],
        ];
        for length in lengths {
            let block = [length, &property].concat();
            all.push(self.with(&format!("length {length:02x?}"), block, &[MALFORMED]));
        }
    }
}
