//! MQTT 3.1, 3.1.1 and 5.0: bytes to packets and back, topics and filters.
//!
//! A [`Decoder`] takes packets off the front of a read buffer, [`encode`] appends one to a write buffer, a
//! [`PublishTemplate`] a publish as one of its subscribers gets it, and a [`PublishFrame`] as most of many do. It is
//! not a protocol engine: whatever takes more than one packet to decide (who is connected, which identifiers are in
//! use, what an alias stands for) belongs to the session.
//!
//! Invariants
//! - what one packet may not be by the specification is refused here, with the [`ReasonCode`] to answer with,
//!   so no other room validates a string, a topic or a flag again;
//! - however the bytes are cut on their way, the packets and the error are the same;
//! - nothing is allocated for a length that was claimed but has not arrived, and a packet above the limit is
//!   refused by its header; a decoded packet takes at most a small constant times the bytes it arrived in;
//! - strings and payloads are slices of the read buffer: what outlives the batch is copied first
//!   ([`Publish::detached`]);
//! - an encoder that fails has written nothing;
//! - no I/O, no clock, no panic on any input.
//!
//! | where | what |
//! |---|---|
//! | [`packet`] | packets as values |
//! | `codec/` | each packet's layout, read and written side by side |
//! | `decoder`, `encoder` | frames: headers, lengths, limits |
//! | `template`, `frame`, `properties` | a publish for many subscribers; its properties for the journal |
//! | `boxed` | a publish's properties, which most have none of |
//! | `reader`, `writer`, `property` | the data types of MQTT |
//! | `text` | what may be in a string |
//! | [`topic`] | names, filters and how they relate |

mod boxed;
mod codec;
mod decoder;
mod encoder;
mod error;
mod frame;
pub mod packet;
mod packet_type;
mod properties;
mod property;
mod reader;
mod reason;
mod template;
mod text;
pub mod topic;
mod writer;

pub use boxed::BoxedProperties;
pub use decoder::Decoder;
pub use encoder::{SUCCESS_BYTES, encode, encode_success, encoded_len, fit};
pub use error::{DecodeError, EncodeError};
pub use frame::PublishFrame;
pub use packet::*;
pub use packet_type::{PacketType, Sender};
pub use properties::{decode_properties, encode_properties};
pub use property::Property;
pub use reason::ReasonCode;
pub use template::{Delivery, PublishTemplate, TopicAlias};

/// Largest value of a variable byte integer, and so of a remaining length or a subscription identifier [1.5.5].
pub const VARIABLE_INTEGER_MAX: u32 = 268_435_455;

/// Largest packet there can be, in bytes: one byte of type and flags, four of length, and the largest remaining
/// length.
pub const PACKET_SIZE_MAX: u32 = 1 + 4 + VARIABLE_INTEGER_MAX;
