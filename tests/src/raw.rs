//! Bytes and single packets over TCP, for what no client library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;

use bytes::BytesMut;
use wardline_wire::{
    Connect, ConnectProperties, Decoder, PACKET_SIZE_MAX, Packet, PacketId, Publish, QoS, Subscribe,
    SubscribeFilter, SubscribeOptions, Version,
};

use crate::DEADLINE;

/// A connection, of TCP unless said otherwise, that speaks one version of MQTT, packet by packet.
#[derive(Debug)]
pub struct RawClient<S = TcpStream> {
    stream: S,
    version: Version,
    decoder: Decoder,
    buffer: BytesMut,
}

/// A CONNECT with a clean start and nothing else.
pub fn connect(version: Version, client_id: &str) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: client_id.into(),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

impl RawClient {
    /// Opens the connection and sends nothing.
    pub fn open(address: SocketAddr, version: Version) -> Self {
        Self::over(tcp(address), version)
    }

    /// Opens, connects with a clean start, and demands success.
    pub fn connected(address: SocketAddr, version: Version, client_id: &str) -> Self {
        Self::connected_by(address, connect(version, client_id))
    }

    /// Opens, connects as said, and demands success.
    pub fn connected_by(address: SocketAddr, connect: Connect) -> Self {
        Self::open(address, connect.version).admitted(connect)
    }

    /// A second handle on the same connection, for a thread that only sends.
    pub fn sender(&self) -> RawSender {
        RawSender { stream: self.stream.try_clone().expect("a socket can be shared"), version: self.version }
    }
}

/// A TCP connection with deadlines.
pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("the broker listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    stream.set_nodelay(true).expect("a socket takes an option");
    stream
}

impl<S: Read + Write> RawClient<S> {
    /// Speaks over a connection that is there.
    pub fn over(stream: S, version: Version) -> Self {
        let decoder = Decoder::client_side(version, PACKET_SIZE_MAX);
        Self { stream, version, decoder, buffer: BytesMut::new() }
    }

    /// Connects as said, and demands success.
    pub fn admitted(mut self, connect: Connect) -> Self {
        self.send(&Packet::Connect(Box::new(connect)));
        match self.receive() {
            Packet::ConnAck(answer) if !answer.reason.is_error() => self,
            other => panic!("refused: {other:?}"),
        }
    }

    /// What it speaks over.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends bytes as they are. That the other end has closed already is no failure: what it answered is still to be read.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes).and_then(|()| self.stream.flush()) {
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                panic!("cannot send: {error}")
            }
            _ => {}
        }
    }

    /// Sends a packet.
    pub fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        wardline_wire::encode(packet, self.version, &mut bytes).expect("a packet of this version");
        self.send_bytes(&bytes);
    }

    /// The next packet.
    ///
    /// # Panics
    /// If the connection ends or the deadline passes before.
    pub fn receive(&mut self) -> Packet {
        self.try_receive().expect("a packet comes before the connection ends")
    }

    /// The next packet, or `None` when the broker has closed the connection.
    ///
    /// # Panics
    /// If the deadline passes before.
    pub fn try_receive(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.buffer).expect("the broker speaks MQTT") {
                return Some(packet);
            }
            let mut chunk = [0; 4_096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => {
                    self.buffer.extend_from_slice(chunk.get(..count).expect("read counts what it filled"));
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came in time: {error}"),
            }
        }
    }

    /// The next `count` bytes as they come: what the decoder would not show.
    ///
    /// # Panics
    /// If the connection ends or the deadline passes before.
    pub fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            let mut chunk = [0; 4_096];
            let read = self.stream.read(&mut chunk).expect("bytes come in time");
            assert!(read > 0, "closed after {:02x?}", &self.buffer[..]);
            self.buffer.extend_from_slice(chunk.get(..read).expect("read counts what it filled"));
        }
        self.buffer.split_to(count).to_vec()
    }

    /// Waits until the broker closes the connection; what it says before is returned.
    pub fn until_closed(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.try_receive()).collect()
    }

    /// Publishes at QoS 1 and waits for the answer to it.
    pub fn publish(&mut self, topic: &str, payload: &[u8], id: u16) -> Packet {
        self.send_publish(topic, payload, id);
        self.receive()
    }

    /// Publishes at QoS 1 and does not wait.
    pub fn send_publish(&mut self, topic: &str, payload: &[u8], id: u16) {
        self.send(&publish(topic, payload, id));
    }

    /// Subscribes at QoS 1 and waits until it is granted.
    pub fn subscribe(&mut self, filter: &str) {
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: packet_id(1),
            subscription_id: None,
            user: Vec::new(),
            filters: vec![SubscribeFilter { filter: filter.into(), options }],
        }));
        match self.receive() {
            Packet::SubAck(answer) if answer.reasons.iter().all(|reason| !reason.is_error()) => {}
            other => panic!("not granted: {other:?}"),
        }
    }
}

/// The sending half.
#[derive(Debug)]
pub struct RawSender {
    stream: TcpStream,
    version: Version,
}

impl RawSender {
    /// Sends a publish at QoS 1; false when the connection is gone.
    pub fn publish(&mut self, topic: &str, payload: &[u8], id: u16) -> bool {
        let mut bytes = BytesMut::new();
        wardline_wire::encode(&publish(topic, payload, id), self.version, &mut bytes)
            .expect("a valid publish");
        self.stream.write_all(&bytes).is_ok()
    }
}

fn publish(topic: &str, payload: &[u8], id: u16) -> Packet {
    Packet::Publish(Publish {
        qos: QoS::AtLeastOnce,
        topic: topic.into(),
        packet_id: Some(packet_id(id)),
        payload: payload.to_vec().into(),
        ..Publish::default()
    })
}

fn packet_id(id: u16) -> PacketId {
    PacketId(NonZeroU16::new(id).expect("a packet identifier is not zero"))
}
