//! The other end of a connection: bytes out, whole packets in.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bytes::{DISCONNECT, PUBACK, PUBLISH, QOS_1, answer, publish, suback, subscribe};

/// A PUBLISH as it was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// First byte: DUP, QoS and RETAIN.
    pub(crate) first: u8,
    pub(crate) topic: String,
    /// At QoS 1 and 2.
    pub(crate) id: Option<u16>,
    pub(crate) payload: Vec<u8>,
}

impl Heard {
    fn read(frame: &[u8]) -> Self {
        let first = frame[0];
        let body = body(frame);
        let (length, rest) = body.split_at(2);
        let (topic, rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
        let (id, payload) = if first & 0x06 == 0 { (&[][..], rest) } else { rest.split_at(2) };
        Self {
            first,
            topic: String::from_utf8(topic.to_vec()).expect("a topic is UTF-8"),
            id: (!id.is_empty()).then(|| u16::from_be_bytes([id[0], id[1]])),
            payload: payload.to_vec(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the tests publish text")
    }

    /// Its identifier, which it must have.
    pub(crate) fn id(&self) -> u16 {
        self.id.expect("a packet identifier")
    }
}

/// Payloads of publishes, as text.
pub(crate) fn texts(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(Heard::text).collect()
}

/// A packet's bytes behind type and remaining length.
fn body(frame: &[u8]) -> &[u8] {
    let length = 1 + frame[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    &frame[1 + length..]
}

/// One end of a connection, of TCP unless said otherwise.
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    input: VecDeque<u8>,
}

impl Peer {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::over(wardline_tests::tcp(address))
    }
}

/// Marks the end of what was to be heard: topics below this, and an identifier that no test uses.
const FENCE: &str = "fence/";
const FENCE_ID: u16 = 0xFFFE;

impl<S: Read + Write> Peer<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, input: VecDeque::new() }
    }

    /// Sends bytes, as [`wardline_tests::send_bytes`] does.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        wardline_tests::send_bytes(&mut self.stream, bytes);
    }

    /// More bytes into `input`; false at the end of the connection.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1_024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.input.extend(&chunk[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => {
                false
            }
            Err(error) => panic!("nothing came in time: {error}; there is {:02x?}", self.input),
        }
    }

    /// The next whole packet, or what there is of it when the connection ends.
    fn next(&mut self) -> Vec<u8> {
        loop {
            let mut length = 0;
            let mut complete = None;
            for (index, byte) in self.input.iter().skip(1).take(4).enumerate() {
                length |= usize::from(byte & 0x7F) << (7 * index);
                if byte & 0x80 == 0 {
                    complete = Some(2 + index + length);
                    break;
                }
            }
            match complete {
                Some(length) if length <= self.input.len() => return self.input.drain(..length).collect(),
                _ if !self.fill() => return self.input.drain(..).collect(),
                _ => {}
            }
        }
    }

    /// The next packet.
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        let frame = self.next();
        assert!(!frame.is_empty(), "the connection ended");
        frame
    }

    /// The next packet is this one.
    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: &[u8]) {
        let frame = self.frame();
        assert!(frame == wanted, "{frame:02x?} came instead of {wanted:02x?}");
    }

    /// Sends bytes, and the next packet is this one.
    #[track_caller]
    pub(crate) fn ask(&mut self, bytes: &[u8], wanted: &[u8]) {
        self.send(bytes);
        self.expect(wanted);
    }

    /// The connection ends, and nothing came before.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self, why: &str) {
        let frame = self.next();
        assert!(frame.is_empty(), "{why}: {frame:02x?} came instead of the end");
    }

    /// The next packet is a PUBLISH.
    #[track_caller]
    pub(crate) fn publish(&mut self) -> Heard {
        let frame = self.frame();
        assert_eq!(frame[0] & 0xF0, PUBLISH, "{frame:02x?} is no PUBLISH");
        Heard::read(&frame)
    }

    /// Subscribes one filter and is granted what it asks for.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        self.ask(&subscribe(1, &[(filter, qos)]), &suback(1, &[qos]));
    }

    /// Publishes at QoS 1 and waits for the acknowledgement: when this is back, every lane has it.
    #[track_caller]
    pub(crate) fn put(&mut self, topic: &str, payload: &str) {
        self.ask(&publish(PUBLISH | QOS_1, topic, Some(7), payload), &answer(PUBACK, 7));
    }

    /// All publishes that were on their way to this client, not acknowledged: it publishes a fence to itself at QoS 1
    /// and listens until that comes back. The broker's own heartbeat is left out.
    pub(crate) fn heard(&mut self) -> Vec<Heard> {
        static FENCES: AtomicUsize = AtomicUsize::new(0);
        let fence = format!("{FENCE}{}", FENCES.fetch_add(1, Ordering::Relaxed));
        self.send(&subscribe(FENCE_ID, &[(&fence, 1)]));
        self.send(&publish(PUBLISH | QOS_1, &fence, Some(FENCE_ID), ""));
        let mut heard = Vec::new();
        let mut outstanding = 3;
        while outstanding > 0 {
            let frame = self.frame();
            if frame == suback(FENCE_ID, &[1]) || frame == answer(PUBACK, FENCE_ID) {
                outstanding -= 1;
                continue;
            }
            assert_eq!(frame[0] & 0xF0, PUBLISH, "{frame:02x?} is no PUBLISH");
            let publish = Heard::read(&frame);
            if publish.topic == fence {
                if publish.first & QOS_1 != 0 {
                    self.send(&answer(PUBACK, publish.id()));
                }
                outstanding -= 1;
            } else if !publish.topic.starts_with(FENCE) && !publish.topic.starts_with("wardline/") {
                heard.push(publish);
            }
        }
        heard
    }

    /// A proper end.
    pub(crate) fn disconnect(mut self) {
        self.send(&DISCONNECT);
        self.expect_closed("DISCONNECT");
    }
}
