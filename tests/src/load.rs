//! Load from one thread, light enough to leave the machine to the broker: publishes are written in batches, and their
//! acknowledgements read without a decoder.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wardline_wire::{Packet, Publish, QoS, Subscribe, SubscribeFilter, SubscribeOptions, Version, encode};

use crate::{connect, packet_id};

/// MQTT 3.1.1: the shortest packets there are.
const VERSION: Version = Version::V311;
/// CONNACK and PUBACK are four bytes in it, a SUBACK to one filter five.
const CONNACK_BYTES: usize = 4;
const PUBACK_BYTES: usize = 4;
const SUBACK_BYTES: usize = 5;
const PUBACK_TYPE: u8 = 0x40;

/// Runs load to its end.
///
/// # Panics
/// If there can be no runtime.
pub fn block_on<T>(load: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(load)
}

/// A connection that publishes at QoS 1.
#[derive(Debug)]
pub struct Publisher {
    stream: TcpStream,
}

impl Publisher {
    /// Connects with a clean session.
    ///
    /// # Errors
    /// What the system says when the broker cannot be reached, or ends the connection.
    ///
    /// # Panics
    /// If the broker refuses.
    pub async fn connect(broker: SocketAddr, id: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(broker).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&bytes(&Packet::Connect(Box::new(connect(VERSION, id))))).await?;
        admitted(&mut stream).await?;
        Ok(Self { stream })
    }

    /// Publishes what `next` gives for 0, 1, 2, … until it gives nothing, with `window` publishes under way; gives from
    /// sending to PUBACK of each.
    ///
    /// # Errors
    /// What the system says when the broker ends the connection.
    ///
    /// # Panics
    /// If what comes is not a PUBACK to one of them.
    pub async fn publish(
        &mut self,
        window: u16,
        mut next: impl FnMut(u64) -> Option<Publish>,
    ) -> io::Result<Vec<Duration>> {
        let mut sent = vec![Instant::now(); usize::from(window)];
        let (mut output, mut input) = (BytesMut::new(), BytesMut::new());
        let (mut number, mut under_way, mut took) = (0, 0_u16, Vec::new());
        let mut begin = |id: u16, output: &mut BytesMut, sent: &mut [Instant]| {
            let Some(publish) = next(number) else { return false };
            number += 1;
            let publish = Publish { qos: QoS::AtLeastOnce, packet_id: Some(packet_id(id)), ..publish };
            encode(&Packet::Publish(publish), VERSION, output).expect("a valid publish");
            sent[usize::from(id - 1)] = Instant::now();
            true
        };
        for id in 1..=window {
            under_way += u16::from(begin(id, &mut output, &mut sent));
        }
        while under_way > 0 {
            self.stream.write_all_buf(&mut output).await?;
            if self.stream.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let now = Instant::now();
            while input.len() >= PUBACK_BYTES {
                let ack = input.split_to(PUBACK_BYTES);
                assert_eq!(ack[0], PUBACK_TYPE, "{ack:02x?}");
                let id = u16::from_be_bytes([ack[2], ack[3]]);
                took.push(now - sent[usize::from(id - 1)]);
                under_way -= u16::from(!begin(id, &mut output, &mut sent));
            }
        }
        Ok(took)
    }
}

/// Makes a durable session with one subscription at QoS 1, and leaves.
///
/// # Errors
/// What the system says when the broker cannot be reached, or ends the connection.
///
/// # Panics
/// If the broker refuses.
pub async fn leave_session(broker: SocketAddr, id: &str, filter: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(broker).await?;
    let mut hello = connect(VERSION, id);
    hello.clean_start = false;
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let subscribe = Subscribe {
        packet_id: packet_id(1),
        subscription_id: None,
        user: Vec::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    };
    stream.write_all(&bytes(&Packet::Connect(Box::new(hello)))).await?;
    stream.write_all(&bytes(&Packet::Subscribe(subscribe))).await?;
    admitted(&mut stream).await?;
    let mut answer = [0; SUBACK_BYTES];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer[SUBACK_BYTES - 1], QoS::AtLeastOnce as u8, "{id}: {answer:02x?}");
    Ok(())
}

async fn admitted(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = [0; CONNACK_BYTES];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer[CONNACK_BYTES - 1], 0, "refused: {answer:02x?}");
    Ok(())
}

fn bytes(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(packet, VERSION, &mut bytes).expect("a valid packet");
    bytes
}

/// The value below which `share` of all lie; zero of none.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(place).copied().unwrap_or_default()
}
