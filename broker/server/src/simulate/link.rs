//! One MQTT 5 connection, from CONNACK to its end, as a stream of the few events that devices and pagers care about.
//!
//! A link never reconnects by itself. Its owner opens the next one, and so always knows which of its publishes belong to which
//! connection; a client library that resends behind the owner's back makes that impossible.
//!
//! Invariants
//! - [`LinkEvent::Sent`] comes once for each publish, in the order in which they were handed over;
//! - after [`LinkEvent::Lost`] comes nothing more.

use std::time::Duration;

use jiff::Timestamp;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError,
        mqttbytes::{
            QoS,
            v5::{ConnectReturnCode, Filter, Packet, PubAckReason, Publish, SubscribeReasonCode},
        },
    },
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{identity::Identity, reading};
use crate::clock;

/// Publishes that may be under way at once, unacknowledged.
pub const WINDOW: usize = 512;

/// Packet identifiers in use at once. Above the window, so that one late acknowledgement does not hold up the next publish.
const PACKET_IDS: u16 = 2048;
const _: () = assert!(WINDOW < PACKET_IDS as usize);

/// Events that wait for their owner before the connection stops reading.
const EVENTS_WAITING_MAX: usize = 1024;

/// An interval of silence after which the broker is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Largest packet taken from the broker.
const PACKET_BYTES_MAX: u32 = 256 * 1024;

/// What happens on a connection.
#[derive(Debug)]
pub enum LinkEvent {
    /// A publish was written; its packet identifier, 0 at QoS 0.
    Sent(u16),
    /// A publish at QoS 1 was answered.
    Acknowledged {
        /// Which.
        packet_id: u16,
        /// Why the broker did not take it, in its own words.
        refusal: Option<String>,
    },
    /// A SUBSCRIBE was answered; what was refused of it.
    Subscribed {
        /// The first refused filter's reason.
        refusal: Option<String>,
    },
    /// A publish arrived, and was confirmed as its QoS asks.
    Message {
        /// What.
        publish: Box<Publish>,
        /// When it was read.
        at: Timestamp,
    },
    /// The connection ended, by no wish of ours.
    Lost(String),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody answers, TLS fails, or the broker has no time now: it may go well later.
    #[error("{client} cannot reach {broker}: {reason}")]
    Unreachable {
        /// Client identifier.
        client: String,
        /// URL.
        broker: String,
        /// What went wrong.
        reason: String,
    },
    /// The broker answered, and does not want this client.
    #[error("{client} is refused by {broker}: {reason}; check its certificate, token and policy")]
    Refused {
        /// Client identifier.
        client: String,
        /// URL.
        broker: String,
        /// The reason code.
        reason: String,
    },
}

/// What becomes of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Begin anew, end with the connection.
    Transient,
    /// Begin anew, and keep for this long after the connection.
    New(Duration),
    /// Go on with the one that was kept.
    Resume(Duration),
}

/// An open connection. Dropped, it is cut without DISCONNECT, as by a pulled cable.
#[derive(Debug)]
pub struct Link {
    client: AsyncClient,
    events: mpsc::Receiver<LinkEvent>,
    driver: JoinHandle<()>,
}

impl Link {
    /// Connects, once: waits for CONNACK or the reason why there is none.
    pub async fn open(identity: &Identity, session: Session) -> Result<Self, LinkError> {
        let mut options = MqttOptions::new(&identity.client_id, &identity.broker.host, identity.broker.port);
        options
            .set_transport(identity.transport.clone())
            .set_keep_alive(KEEP_ALIVE)
            .set_outgoing_inflight_upper_limit(PACKET_IDS)
            .set_max_packet_size(Some(PACKET_BYTES_MAX))
            .set_clean_start(!matches!(session, Session::Resume(_)));
        if let Session::New(kept) | Session::Resume(kept) = session {
            options.set_session_expiry_interval(Some(u32::try_from(kept.as_secs()).unwrap_or(u32::MAX)));
        }
        if let Some(token) = &identity.token {
            // The user name says nothing here: the principal is in the token.
            options.set_credentials("", token);
        }

        let (client, mut event_loop) = AsyncClient::new(options, PACKET_IDS.into());
        loop {
            match event_loop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => break,
                Ok(_) => {}
                Err(error) => return Err(explain(identity, &error)),
            }
        }
        let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
        Ok(Self { client, events, driver: tokio::spawn(drive(event_loop, sender)) })
    }

    /// The next event; none after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.events.recv().await
    }

    /// Hands over a publish. False if it cannot be taken: the connection is ending, or more are under way than there are
    /// packet identifiers.
    pub fn publish(&self, publish: &reading::Outgoing, qos: QoS) -> bool {
        self.client.try_publish(&publish.topic, qos, false, publish.payload.clone()).is_ok()
    }

    /// Hands over a SUBSCRIBE to all of `filters` at QoS 1; false as for [`Link::publish`].
    pub fn subscribe(&self, filters: &[String]) -> bool {
        self.client
            .try_subscribe_many(filters.iter().map(|filter| Filter::new(filter, QoS::AtLeastOnce)))
            .is_ok()
    }

    /// Says DISCONNECT and waits until it is written.
    pub async fn close(mut self) {
        if self.client.try_disconnect().is_ok() {
            while self.events.recv().await.is_some() {}
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Reads and writes until the connection ends or its owner has gone.
async fn drive(mut event_loop: EventLoop, events: mpsc::Sender<LinkEvent>) {
    loop {
        let event = match event_loop.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => LinkEvent::Sent(packet_id),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(Event::Outgoing(_)) => continue,
            Ok(Event::Incoming(packet)) => match incoming(packet) {
                Some(event) => event,
                None => continue,
            },
            Err(error) => {
                // Nobody may be left to hear it.
                let _ = events.send(LinkEvent::Lost(text(&error))).await;
                return;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

fn incoming(packet: Packet) -> Option<LinkEvent> {
    match packet {
        Packet::Publish(publish) => Some(LinkEvent::Message { publish: Box::new(publish), at: clock::now() }),
        Packet::PubAck(ack) => {
            let refusal = match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
                code => Some(reason(code, ack.properties.and_then(|properties| properties.reason_string))),
            };
            Some(LinkEvent::Acknowledged { packet_id: ack.pkid, refusal })
        }
        Packet::SubAck(ack) => {
            let refused =
                ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
            let words = ack.properties.and_then(|properties| properties.reason_string);
            Some(LinkEvent::Subscribed { refusal: refused.map(|code| reason(code, words)) })
        }
        _ => None,
    }
}

/// The broker's own sentence where it gave one, else the name of its reason code.
fn reason(code: impl std::fmt::Debug, words: Option<String>) -> String {
    words.filter(|words| !words.is_empty()).unwrap_or_else(|| format!("{code:?}"))
}

fn explain(identity: &Identity, error: &ConnectionError) -> LinkError {
    let (client, broker) = (identity.client_id.clone(), identity.broker.to_string());
    match error {
        ConnectionError::ConnectionRefused(
            code @ (ConnectReturnCode::ConnectionRateExceeded
            | ConnectReturnCode::ServerBusy
            | ConnectReturnCode::ServerUnavailable),
        ) => LinkError::Unreachable { client, broker, reason: format!("{code:?}") },
        ConnectionError::ConnectionRefused(code) => {
            LinkError::Refused { client, broker, reason: format!("{code:?}") }
        }
        other => LinkError::Unreachable { client, broker, reason: text(other) },
    }
}

fn text(error: &ConnectionError) -> String {
    match error {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            format!("the broker disconnected it: {}", reason(reason_code, reason_string.clone()))
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            "the broker closed the connection".to_owned()
        }
        ConnectionError::MqttState(StateError::Io(error)) | ConnectionError::Io(error) => error.to_string(),
        ConnectionError::MqttState(StateError::Deserialization(error)) => error.to_string(),
        ConnectionError::Timeout(_) => "no answer in time".to_owned(),
        other => other.to_string(),
    }
}
