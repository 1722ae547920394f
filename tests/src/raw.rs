//! Bytes and single packets over TCP, for what no client library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::BytesMut;
use wardline_wire::{
    Ack, Connect, ConnectProperties, Decoder, PACKET_SIZE_MAX, Packet, PacketId, Publish, QoS, ReasonCode,
    Subscribe, SubscribeFilter, SubscribeOptions, Version,
};

use crate::DEADLINE;

/// Read at once.
const CHUNK_BYTES: usize = 4_096;

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

    /// What comes within `wait`, which is not zero.
    pub fn listen(&mut self, wait: Duration) -> Heard {
        if let Some(packet) = self.decoded() {
            return Heard::Packet(packet);
        }
        self.stream.set_read_timeout(Some(wait)).expect("a socket takes a timeout");
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Heard::End,
                Ok(count) => {
                    self.buffer.extend_from_slice(chunk.get(..count).expect("read counts what it filled"));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Heard::Silence;
                }
                Err(_) => return Heard::End,
            }
            if let Some(packet) = self.decoded() {
                return Heard::Packet(packet);
            }
        }
    }
}

/// What a client hears while it listens for a time.
#[derive(Debug)]
pub enum Heard {
    /// A packet.
    Packet(Packet),
    /// Nothing.
    Silence,
    /// The connection is over.
    End,
}

/// A TCP connection with deadlines.
///
/// # Panics
/// If nobody listens.
pub fn tcp(address: SocketAddr) -> TcpStream {
    try_tcp(address).expect("the broker listens")
}

/// [`tcp`] to a broker that may be gone.
///
/// # Errors
/// What the system says when nobody listens.
pub fn try_tcp(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    stream.set_nodelay(true).expect("a socket takes an option");
    Ok(stream)
}

/// Sends bytes. That the other end has closed already is no failure: what it answered is still to be read.
///
/// # Panics
/// If they cannot be sent for another reason.
pub fn send_bytes(stream: &mut impl Write, bytes: &[u8]) {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            panic!("cannot send: {error}")
        }
        _ => {}
    }
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

    /// Sends bytes as they are, as [`send_bytes`] does.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        send_bytes(&mut self.stream, bytes);
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
            if let Some(packet) = self.decoded() {
                return Some(packet);
            }
            let mut chunk = [0; CHUNK_BYTES];
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

    fn decoded(&mut self) -> Option<Packet> {
        self.decoder.decode(&mut self.buffer).expect("the broker speaks MQTT")
    }

    /// The next `count` bytes as they come: what the decoder would not show.
    ///
    /// # Panics
    /// If the connection ends or the deadline passes before.
    pub fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            let mut chunk = [0; CHUNK_BYTES];
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

    /// The reason in the DISCONNECT that is the last the broker says before it closes.
    ///
    /// # Panics
    /// If there is none.
    pub fn goodbye(&mut self) -> ReasonCode {
        match self.until_closed().pop() {
            Some(Packet::Disconnect(disconnect)) => disconnect.reason,
            other => panic!("closed without a DISCONNECT: {other:?}"),
        }
    }

    /// Publishes at QoS 1 and waits for the answer to it.
    pub fn publish(&mut self, topic: &str, payload: &[u8], id: u16) -> Packet {
        self.send_publish(topic, payload, id);
        self.receive()
    }

    /// Publishes at QoS 1 and demands that the broker takes it.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn deliver(&mut self, topic: &str, payload: impl AsRef<[u8]>, id: u16) {
        assert_eq!(self.publish(topic, payload.as_ref(), id), Packet::PubAck(ack(id)), "{topic}");
    }

    /// As [`Self::deliver`], to be retained.
    ///
    /// # Panics
    /// If the broker does not take it.
    #[track_caller]
    pub fn retain(&mut self, topic: &str, payload: impl AsRef<[u8]>, id: u16) {
        self.send(&Packet::Publish(Publish {
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: topic.into(),
            packet_id: Some(packet_id(id)),
            payload: payload.as_ref().to_vec().into(),
            ..Publish::default()
        }));
        assert_eq!(self.receive(), Packet::PubAck(ack(id)), "{topic}");
    }

    /// Acknowledges a publish that came at QoS 1.
    pub fn acknowledge(&mut self, publish: &Publish) {
        self.send(&Packet::PubAck(ack(publish.packet_id.expect("QoS 1").0.get())));
    }

    /// Publishes at QoS 1 and does not wait.
    pub fn send_publish(&mut self, topic: &str, payload: &[u8], id: u16) {
        self.send(&publish(topic, payload, id));
    }

    /// Subscribes at QoS 1 and waits until it is granted.
    ///
    /// # Panics
    /// If it is not.
    pub fn subscribe(&mut self, filter: &str) {
        let reasons = self.try_subscribe(&[(filter, QoS::AtLeastOnce)]);
        assert!(!reasons.iter().any(|reason| reason.is_error()), "not granted: {reasons:?}");
    }

    /// Subscribes; what the SUBACK, which must be the next packet, says to each filter.
    pub fn try_subscribe(&mut self, filters: &[(&str, QoS)]) -> Vec<ReasonCode> {
        let with_options = |&(filter, qos): &(&str, QoS)| {
            let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
            SubscribeFilter { filter: filter.into(), options }
        };
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: packet_id(1),
            subscription_id: None,
            user: Vec::new(),
            filters: filters.iter().map(with_options).collect(),
        }));
        match self.receive() {
            Packet::SubAck(answer) => answer.reasons,
            other => panic!("no SUBACK but {other:?}"),
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

/// An acknowledgement that says success and nothing else.
pub fn ack(id: u16) -> Ack {
    Ack { packet_id: packet_id(id), reason: ReasonCode::Success, reason_string: None, user: Vec::new() }
}

/// A packet identifier.
///
/// # Panics
/// If it is zero.
pub fn packet_id(id: u16) -> PacketId {
    PacketId(NonZeroU16::new(id).expect("a packet identifier is not zero"))
}
