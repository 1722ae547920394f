//! Correct packets in parts that can be broken one at a time.

use super::{Answer, Broken, LEVELS, Level};

/// A field of a packet, or of a property.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// A UTF-8 string: two bytes of length before it.
    Text(Vec<u8>),
    /// Binary data: two bytes of length before it.
    Binary(Vec<u8>),
    /// Bytes of a fixed number.
    Octets(Vec<u8>),
    /// Packet identifier.
    Id(u16),
    /// Variable byte integer.
    Varint(u32),
    /// A block with its length before it.
    Properties(Vec<Property>),
    /// The payload of a publish: all that is left.
    Payload(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) struct Property {
    pub(crate) id: u8,
    pub(crate) value: Vec<Part>,
}

/// A correct packet of a client.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) level: Level,
    /// First byte.
    pub(crate) head: u8,
    pub(crate) parts: Vec<Part>,
    /// After how many of its parts the packet might end as well.
    pub(crate) ends: &'static [usize],
}

pub(crate) const CONNECT: u8 = 0x10;
pub(crate) const PUBLISH: u8 = 0x30;
pub(crate) const SUBSCRIBE: u8 = 0x82;
pub(crate) const UNSUBSCRIBE: u8 = 0xA2;
pub(crate) const PINGREQ: u8 = 0xC0;
pub(crate) const DISCONNECT: u8 = 0xE0;
/// PUBACK, PUBREC, PUBREL, PUBCOMP.
pub(crate) const ACKNOWLEDGEMENTS: [(&str, u8); 4] =
    [("PUBACK", 0x40), ("PUBREC", 0x50), ("PUBREL", 0x62), ("PUBCOMP", 0x70)];

pub(crate) fn text(text: &str) -> Part {
    Part::Text(text.into())
}

pub(crate) fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// `bytes` behind their length.
pub(crate) fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// `head`, remaining length, `body`.
pub(crate) fn framed(head: u8, body: &[u8]) -> Vec<u8> {
    [&[head][..], &varint(body.len() as u32), body].concat()
}

impl Part {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => prefixed(bytes),
            Self::Octets(bytes) | Self::Payload(bytes) => bytes.clone(),
            Self::Id(id) => id.to_be_bytes().to_vec(),
            Self::Varint(value) => varint(*value),
            Self::Properties(properties) => {
                let block: Vec<u8> = properties.iter().flat_map(Property::bytes).collect();
                [varint(block.len() as u32), block].concat()
            }
        }
    }
}

impl Property {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let value = self.value.iter().flat_map(Part::bytes);
        std::iter::once(self.id).chain(value).collect()
    }
}

impl Sample {
    pub(crate) fn body(&self) -> Vec<u8> {
        self.parts.iter().flat_map(Part::bytes).collect()
    }

    pub(crate) fn is_connect(&self) -> bool {
        self.head == CONNECT
    }

    /// The packet with one part replaced by `bytes`.
    pub(crate) fn with(&self, index: usize, bytes: Vec<u8>) -> Vec<u8> {
        let parts = self.parts.iter().enumerate();
        let body: Vec<u8> =
            parts.flat_map(|(at, part)| if at == index { bytes.clone() } else { part.bytes() }).collect();
        framed(self.head, &body)
    }

    /// These bytes instead of the packet, which break a rule of `answer`.
    pub(crate) fn broken(&self, what: &str, bytes: Vec<u8>, answer: &'static [u8]) -> Broken {
        Broken {
            what: format!("{}: {what}", self.name),
            level: self.level,
            first: self.is_connect(),
            bytes,
            answer: Answer::Reason(answer),
        }
    }

    /// Where its properties are.
    pub(crate) fn property_blocks(&self) -> Vec<usize> {
        let is_block = |(index, part): (usize, &Part)| matches!(part, Part::Properties(_)).then_some(index);
        self.parts.iter().enumerate().filter_map(is_block).collect()
    }
}

/// A correct packet of every kind that a client sends.
pub(crate) fn samples() -> Vec<Sample> {
    LEVELS.into_iter().flat_map(samples_of).collect()
}

fn samples_of(level: Level) -> Vec<Sample> {
    let five = level == Level::Five;
    let sample = |name, head, parts: Vec<Option<Part>>, ends| Sample {
        name,
        level,
        head,
        parts: parts.into_iter().flatten().collect(),
        ends,
    };
    let here = Some;
    let block = |properties: Vec<Property>| five.then_some(Part::Properties(properties));
    let user = || vec![Property { id: 0x26, value: vec![text("name"), text("value")] }];
    let octets = |bytes: &[u8]| Some(Part::Octets(bytes.to_vec()));

    let mut samples = vec![
        sample(
            "CONNECT",
            CONNECT,
            vec![
                here(text("MQTT")),
                octets(&[if five { 5 } else { 4 }, 0b1100_0110, 0, 60]),
                block(user()),
                here(text("broken")),
                block(user()),
                here(text("will/topic")),
                here(Part::Binary(b"gone".to_vec())),
                here(text("user")),
                here(Part::Binary(b"secret".to_vec())),
            ],
            &[],
        ),
        sample(
            "PUBLISH",
            PUBLISH | 0b0010,
            vec![
                here(text("a/topic")),
                here(Part::Id(10)),
                block(user()),
                here(Part::Payload(b"payload".to_vec())),
            ],
            &[],
        ),
        sample(
            "SUBSCRIBE",
            SUBSCRIBE,
            vec![
                here(Part::Id(11)),
                block(user()),
                here(text("a/+/filter")),
                octets(&[1]),
                here(text("another/#")),
                octets(&[2]),
            ],
            if five { &[4] } else { &[3] },
        ),
        sample(
            "UNSUBSCRIBE",
            UNSUBSCRIBE,
            vec![here(Part::Id(12)), block(user()), here(text("a/+/filter")), here(text("another/#"))],
            if five { &[3] } else { &[2] },
        ),
        sample("PINGREQ", PINGREQ, vec![], &[]),
        sample(
            "DISCONNECT",
            DISCONNECT,
            vec![five.then(|| Part::Octets(vec![0])), block(user())],
            if five { &[0, 1] } else { &[] },
        ),
    ];
    for (name, head) in ACKNOWLEDGEMENTS {
        let reason = five.then(|| Part::Octets(vec![0]));
        let parts = vec![here(Part::Id(13)), reason, block(user())];
        samples.push(sample(name, head, parts, if five { &[1, 2] } else { &[] }));
    }
    samples
}
