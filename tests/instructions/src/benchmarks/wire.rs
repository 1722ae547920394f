//! Bytes to packets and back.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use wardline_wire::{
    Connect, ConnectProperties, Decoder, Delivery, PACKET_SIZE_MAX, Packet, PacketId, Publish, PublishFrame,
    PublishTemplate, QoS, Version, encode,
};

use crate::operation::Operation;

/// A reading's topic, as long as they usually are.
pub(super) const TOPIC: &str = "telemetry/icu-3/b12/mon-12/spo2";

/// Free again after every publish.
const PACKET_ID: PacketId = PacketId(NonZeroU16::MIN);
/// Packets that arrive together.
const READ_PACKETS: usize = 16;

pub(super) fn publish(topic: &str, qos: QoS, payload_bytes: usize) -> Publish {
    Publish {
        qos,
        topic: topic.into(),
        packet_id: (qos != QoS::AtMostOnce).then_some(PACKET_ID),
        payload: Bytes::from(vec![b'7'; payload_bytes]),
        ..Publish::default()
    }
}

pub(super) fn bytes_of(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(packet, Version::V5, &mut bytes).expect("these packets can be encoded");
    bytes
}

pub(super) fn connect(client: &str, session_expiry: Option<u32>) -> Connect {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        client_id: client.into(),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties { session_expiry, ..ConnectProperties::default() },
    }
}

/// A server's read buffer for one client of MQTT 5.
pub(super) struct Inbox {
    decoder: Decoder,
    buffer: BytesMut,
}

impl Inbox {
    pub(super) fn new() -> Self {
        let mut decoder = Decoder::server_side(PACKET_SIZE_MAX);
        let mut buffer = bytes_of(&Packet::Connect(Box::new(connect("mon-12", None))));
        decoder.decode(&mut buffer).expect("the CONNECT is well-formed");
        Self { decoder, buffer }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn arrive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(super) fn take(&mut self) -> Packet {
        self.decoder.decode(&mut self.buffer).expect("what arrives is well-formed").expect("and whole")
    }
}

struct Decode {
    inbox: Inbox,
    arriving: Vec<u8>,
}

/// A PUBLISH out of the read buffer, and its end.
pub(super) fn decode(qos: QoS, payload_bytes: usize) -> Box<dyn Operation> {
    let packet = bytes_of(&Packet::Publish(publish(TOPIC, qos, payload_bytes)));
    let mut decode = Decode { inbox: Inbox::new(), arriving: packet.repeat(READ_PACKETS) };
    decode.restore();
    Box::new(decode)
}

impl Operation for Decode {
    fn run(&mut self) -> usize {
        match self.inbox.take() {
            Packet::Publish(publish) => publish.topic.len(),
            _ => 0,
        }
    }

    fn restore(&mut self) {
        if self.inbox.is_empty() {
            self.inbox.arrive(&self.arriving);
        }
    }
}

struct Frame {
    publish: Publish,
}

/// What the subscribers of a publish share.
pub(super) fn frame() -> Box<dyn Operation> {
    Box::new(Frame { publish: publish(TOPIC, QoS::AtLeastOnce, 64) })
}

impl Operation for Frame {
    fn run(&mut self) -> usize {
        let template = PublishTemplate::new(&self.publish, Version::V5);
        let frame = template.and_then(|template| PublishFrame::new(&template, QoS::AtLeastOnce));
        frame.map_or(0, |frame| frame.encoded_len())
    }

    fn restore(&mut self) {}
}

struct Write {
    publish: Publish,
    out: BytesMut,
}

/// What each of them gets.
pub(super) fn write() -> Box<dyn Operation> {
    Box::new(Write { publish: publish(TOPIC, QoS::AtLeastOnce, 64), out: BytesMut::with_capacity(1_024) })
}

impl Operation for Write {
    fn run(&mut self) -> usize {
        let delivery = Delivery { qos: QoS::AtLeastOnce, packet_id: Some(PACKET_ID), ..Delivery::default() };
        let template = PublishTemplate::new(&self.publish, Version::V5);
        usize::from(template.is_ok_and(|template| template.write(&delivery, &mut self.out).is_ok()))
    }

    fn restore(&mut self) {
        assert!(self.out.len() > TOPIC.len() + 64, "the publish was not written");
        self.out.clear();
    }
}
