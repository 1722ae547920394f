//! Single packets that break one rule each, made from correct ones, and what the specification says they are answered with.
//!
//! The expectation comes from the rule that is broken, never from the decoder. Nothing of the crate under test is used here:
//! packets are put together byte by byte, so that its encoder's mistakes cannot hide its decoder's.

mod content;
mod framing;
mod parts;
mod properties;
pub(crate) mod session;

pub(crate) const MALFORMED: u8 = 0x81;
pub(crate) const PROTOCOL: u8 = 0x82;
pub(crate) const UNSUPPORTED_VERSION: u8 = 0x84;
pub(crate) const FILTER_INVALID: u8 = 0x8F;
pub(crate) const NAME_INVALID: u8 = 0x90;
pub(crate) const ALIAS_INVALID: u8 = 0x94;
pub(crate) const TOO_LARGE: u8 = 0x95;
pub(crate) const PAYLOAD_INVALID: u8 = 0x99;

/// The specification forbids it and names no code of its own: section 4.13 leaves these two.
pub(crate) const EITHER: &[u8] = &[MALFORMED, PROTOCOL];

/// The receiver's maximum packet size, bytes.
pub(crate) const PACKET_BYTES_MAX: u32 = 64 * 1024;

/// The receiver's topic alias maximum.
pub(crate) const TOPIC_ALIAS_MAX: u16 = 10;

/// MQTT as the packet's sender speaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Four,
    Five,
}

pub(crate) const LEVELS: [Level; 2] = [Level::Four, Level::Five];

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// MQTT 5: CONNACK or DISCONNECT with one of these reason codes; before that: the connection is closed.
    Reason(&'static [u8]),
    /// MQTT 3.1.1: CONNACK with this return code.
    ReturnCode(u8),
    /// Nothing: there is no telling what the other end would understand.
    Silence,
}

/// A packet that breaks a rule.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// The rule, and how it is broken.
    pub(crate) what: String,
    /// The version that the connection speaks or, with `first`, is about to.
    pub(crate) level: Level,
    /// It comes first on its connection, in place of a correct CONNECT.
    pub(crate) first: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) answer: Answer,
}

/// All that can be told from the packet alone.
pub(crate) fn all() -> Vec<Broken> {
    [framing::all(), content::all(), properties::all()].concat()
}
