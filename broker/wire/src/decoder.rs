//! Takes packets off the front of a read buffer.

use bytes::{Buf, BytesMut};

use crate::codec::{ack, auth, connack, connect, disconnect, publish, suback, subscribe, unsubscribe};
use crate::reader::{Reader, VariableInteger, variable_integer};
use crate::{DecodeError, Packet, PacketType, Sender, Version};

/// Reads one connection's packets. It remembers the version that CONNECT chose, and nothing else.
#[derive(Clone, Debug)]
pub struct Decoder {
    sender: Sender,
    version: Option<Version>,
    max_packet_size: u32,
}

/// What the first bytes of a packet tell.
struct Header {
    packet: PacketType,
    flags: u8,
    /// Of the header itself, bytes.
    len: usize,
    /// Of the whole packet, bytes.
    total: usize,
}

impl Decoder {
    /// For a server: reads what one client sends, beginning with its CONNECT.
    /// `max_packet_size` is in bytes and counts the whole packet.
    pub const fn server_side(max_packet_size: u32) -> Self {
        Self { sender: Sender::Client, version: None, max_packet_size }
    }

    /// For a client: reads what the server sends, in the version that the client has chosen.
    pub const fn client_side(version: Version, max_packet_size: u32) -> Self {
        Self { sender: Sender::Server, version: Some(version), max_packet_size }
    }

    /// The version spoken. On the server's side `None` until a CONNECT named one; known already when the rest of that
    /// CONNECT turned out to be wrong, so that the refusal can be encoded.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes the next packet off the front of `buf`; `None` when it has not arrived completely, and `buf` is as
    /// it was.
    ///
    /// The packet's strings and payloads are slices of `buf`'s memory; see [`crate::Publish::detached`].
    ///
    /// # Errors
    /// As soon as enough has arrived to tell; for [`DecodeError::PacketTooLarge`] that is the header. What
    /// `buf` holds then is of no use: answer with [`DecodeError::reason`] and close the connection.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(header) = self.header(buf)? else { return Ok(None) };
        if buf.len() < header.total {
            return Ok(None);
        }
        let mut frame = buf.split_to(header.total).freeze();
        frame.advance(header.len);
        self.body(&header, Reader::new(header.packet, frame)).map(Some)
    }

    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, DecodeError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let (code, flags) = (first >> 4, first & 0x0F);
        let packet = PacketType::from_u8(code).ok_or(DecodeError::UnknownPacketType { code })?;
        if !packet.allows_flags(flags, self.version) {
            return Err(DecodeError::FixedHeaderFlags { packet, flags }); // [MQTT3-2.2.2-2]
        }
        self.check_turn(packet)?;
        let (remaining, len) = match variable_integer(rest) {
            VariableInteger::Complete { value, len } => (value, 1 + len),
            VariableInteger::Incomplete => return Ok(None),
            VariableInteger::Overlong => {
                return Err(DecodeError::OverlongInteger { packet, field: "remaining length" });
            }
        };
        // A remaining length has 28 bits: neither sum can overflow 32.
        let too_large = |size| DecodeError::PacketTooLarge { packet, size, max: self.max_packet_size };
        let size = remaining.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        if size > self.max_packet_size {
            return Err(too_large(size));
        }
        let total = usize::try_from(size).map_err(|_| too_large(size))?;
        Ok(Some(Header { packet, flags, len, total }))
    }

    /// Whether this packet may come from that end, and now.
    const fn check_turn(&self, packet: PacketType) -> Result<(), DecodeError> {
        match (self.version, packet) {
            (None, PacketType::Connect) => Ok(()),
            (None, _) => Err(DecodeError::NotConnected { packet }),
            (Some(_), PacketType::Connect) if matches!(self.sender, Sender::Client) => {
                Err(DecodeError::SecondConnect)
            }
            (Some(Version::V31 | Version::V311), PacketType::Auth) => {
                Err(DecodeError::UnknownPacketType { code: packet as u8 })
            }
            (Some(version), _) if !packet.is_sent_by(self.sender, version) => {
                Err(DecodeError::WrongSender { packet, sender: self.sender })
            }
            (Some(_), _) => Ok(()),
        }
    }

    fn body(&mut self, header: &Header, reader: Reader) -> Result<Packet, DecodeError> {
        let Some(version) = self.version else {
            return connect::decode(reader, &mut self.version).map(Box::new).map(Packet::Connect);
        };
        let sender = self.sender;
        Ok(match header.packet {
            PacketType::Connect => return Err(DecodeError::SecondConnect),
            PacketType::ConnAck => Packet::ConnAck(Box::new(connack::decode(reader, version)?)),
            PacketType::Publish => Packet::Publish(publish::decode(reader, header.flags, version, sender)?),
            PacketType::PubAck => Packet::PubAck(ack::decode(reader, version, sender)?),
            PacketType::PubRec => Packet::PubRec(ack::decode(reader, version, sender)?),
            PacketType::PubRel => Packet::PubRel(ack::decode(reader, version, sender)?),
            PacketType::PubComp => Packet::PubComp(ack::decode(reader, version, sender)?),
            PacketType::Subscribe => Packet::Subscribe(subscribe::decode(reader, version)?),
            PacketType::SubAck => Packet::SubAck(suback::decode(reader, version)?),
            PacketType::Unsubscribe => Packet::Unsubscribe(unsubscribe::decode(reader, version)?),
            PacketType::UnsubAck => Packet::UnsubAck(suback::decode(reader, version)?),
            PacketType::PingReq => reader.finish().map(|()| Packet::PingReq)?,
            PacketType::PingResp => reader.finish().map(|()| Packet::PingResp)?,
            PacketType::Disconnect => Packet::Disconnect(disconnect::decode(reader, version, sender)?),
            PacketType::Auth => Packet::Auth(auth::decode(reader, sender)?),
        })
    }
}
