//! Connecting and subscribing: TCP, TLS, CONNECT, SUBSCRIBE, each within a deadline.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use wardline_wire::{
    Connect, ConnectProperties, DecodeError, Decoder, EncodeError, PACKET_SIZE_MAX, Packet, PacketId, QoS,
    Subscribe, SubscribeFilter, SubscribeOptions, Version, encode,
};

use crate::connection::{Connection, Stream};
use crate::plan::Plan;

/// For so long an answer to TCP, TLS, CONNECT or SUBSCRIBE is waited for.
const DEADLINE: Duration = Duration::from_secs(30);
/// Connections on their way at a time: fewer than any listener's backlog has room for, because the kernel tries one that
/// found none again after a whole second.
const UNDER_WAY_MAX: usize = 64;
/// Filters of one SUBSCRIBE.
const FILTERS_MAX: usize = 100;

/// Which broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// As the report names it.
    pub url: String,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// With what a client proves who it is.
#[derive(Clone, Default)]
pub struct Access {
    /// Of CONNECT.
    pub username: Option<String>,
    /// Of CONNECT: a password or a token.
    pub password: Option<String>,
    /// TLS, and the name that the broker's certificate must have.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// The access of a client, by the name that its files have, or why it has none: `device-` or `staff-`, and its identifier.
pub type Accesses = dyn Fn(&str) -> Result<Access, String> + Send + Sync;

/// Why a client has no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Access(String),
    #[error("cannot connect to {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("what is to be sent is no packet: {0}")]
    Encode(#[from] EncodeError),
    #[error("what the broker answered is no packet: {0}")]
    Decode(#[from] DecodeError),
    #[error("the broker closed the connection without an answer")]
    Closed,
    #[error("the broker refused the connection: {0}")]
    Refused(&'static str),
    #[error("the broker refused the subscription to {filter}: {reason}")]
    NotSubscribed { filter: String, reason: &'static str },
    #[error("no answer within {} seconds", DEADLINE.as_secs())]
    Timeout,
}

/// Connects clients to one broker.
pub(crate) struct Dialer {
    address: SocketAddr,
    version: Version,
    keep_alive: u16,
    accesses: Arc<Accesses>,
    under_way: Semaphore,
}

/// A connection whose answers are still decoded one by one.
pub(crate) struct Guest {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    input: BytesMut,
    version: Version,
    keep_alive: u16,
    /// When it was its turn to connect.
    pub(crate) began: Instant,
    /// The most publishes that the broker lets it have under way.
    pub(crate) receive_maximum: u16,
}

impl Dialer {
    /// # Errors
    /// If the broker's name has no address.
    pub(crate) fn new(plan: &Plan, broker: &Broker, accesses: Arc<Accesses>) -> io::Result<Self> {
        let mut addresses = (broker.host.as_str(), broker.port).to_socket_addrs()?;
        let address = addresses.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let under_way = Semaphore::new(UNDER_WAY_MAX);
        Ok(Self { address, version: plan.version, keep_alive: plan.keep_alive, accesses, under_way })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads what the client proves itself with; `kind` is `device` or `staff`.
    pub(crate) fn access(&self, kind: &str, client_id: &str) -> Result<Access, DialError> {
        (self.accesses)(&format!("{kind}-{client_id}")).map_err(DialError::Access)
    }

    /// Connects with a clean session, when few enough others are about to.
    pub(crate) async fn connect(&self, client_id: &str, access: Access) -> Result<Guest, DialError> {
        // The semaphore is never closed, and without it there would only be no limit.
        let _permit = self.under_way.acquire().await;
        timeout(DEADLINE, self.connect_now(client_id, access)).await.map_err(|_| DialError::Timeout)?
    }

    async fn connect_now(&self, client_id: &str, access: Access) -> Result<Guest, DialError> {
        let began = Instant::now();
        let failed = |source| DialError::Connect { address: self.address, source };
        let socket = TcpStream::connect(self.address).await.map_err(failed)?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match access.tls {
            None => Box::new(socket),
            Some((connector, name)) => {
                Box::new(connector.connect(name, socket).await.map_err(DialError::Tls)?)
            }
        };
        let connect = Connect {
            version: self.version,
            clean_start: true,
            keep_alive: self.keep_alive,
            client_id: client_id.into(),
            will: None,
            // [MQTT3-3.1.2-22]: no password without a user name.
            username: access
                .username
                .or_else(|| access.password.as_ref().map(|_| String::new()))
                .map(Into::into),
            password: access.password.map(Into::into),
            properties: ConnectProperties::default(),
        };
        let mut guest = Guest {
            stream,
            decoder: Decoder::client_side(self.version, PACKET_SIZE_MAX),
            input: BytesMut::new(),
            version: self.version,
            keep_alive: self.keep_alive,
            began,
            receive_maximum: u16::MAX,
        };
        guest.send(&Packet::Connect(Box::new(connect))).await?;
        match guest.receive().await? {
            Packet::ConnAck(answer) if !answer.reason.is_error() => {
                if let Some(max) = answer.properties.receive_maximum {
                    guest.receive_maximum = max.get();
                }
                if let Some(keep_alive) = answer.properties.server_keep_alive {
                    guest.keep_alive = keep_alive;
                }
                Ok(guest)
            }
            Packet::ConnAck(answer) => Err(DialError::Refused(answer.reason.text())),
            _ => Err(DialError::Closed),
        }
    }
}

impl Guest {
    /// Subscribes to each filter, many at a time.
    pub(crate) async fn subscribe(
        &mut self,
        filters: impl Iterator<Item = String>,
        qos: QoS,
    ) -> Result<(), DialError> {
        let mut filters = filters.peekable();
        while filters.peek().is_some() {
            let batch: Vec<String> = filters.by_ref().take(FILTERS_MAX).collect();
            let subscribed = timeout(DEADLINE, self.subscribe_batch(&batch, qos)).await;
            subscribed.map_err(|_| DialError::Timeout)??;
        }
        Ok(())
    }

    /// Ready for messages.
    pub(crate) fn enter(self) -> Connection {
        Connection::new(self.stream, self.version, self.input.to_vec(), self.keep_alive)
    }

    async fn subscribe_batch(&mut self, filters: &[String], qos: QoS) -> Result<(), DialError> {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let subscribe = Subscribe {
            packet_id: PacketId(NonZeroU16::MIN),
            subscription_id: None,
            user: Vec::new(),
            filters: filters
                .iter()
                .map(|filter| SubscribeFilter { filter: filter.as_str().into(), options })
                .collect(),
        };
        self.send(&Packet::Subscribe(subscribe)).await?;
        let answer = loop {
            if let Packet::SubAck(answer) = self.receive().await? {
                break answer;
            }
        };
        let refused = filters.iter().zip(&answer.reasons).find(|(_, reason)| reason.is_error());
        refused.map_or(Ok(()), |(filter, reason)| {
            Err(DialError::NotSubscribed { filter: filter.clone(), reason: reason.text() })
        })
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), DialError> {
        let mut bytes = BytesMut::new();
        encode(packet, self.version, &mut bytes)?;
        self.stream.write_all(&bytes).await?;
        Ok(self.stream.flush().await?)
    }

    async fn receive(&mut self) -> Result<Packet, DialError> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input)? {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(DialError::Closed);
            }
        }
    }
}
