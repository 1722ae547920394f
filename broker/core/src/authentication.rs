//! Enhanced authentication [4.12]: which AUTH packet may come when, and what answers it. What a method does with its data is
//! an [`Exchange`]'s, and taking effect is the caller's: this is asked outside the broker, so that nobody waits while a
//! signature is checked.

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use wardline_wire::{Auth, ReasonCode};

use crate::gate::Denial;

/// Packets that a client may send in one exchange, its CONNECT included.
const EXCHANGE_PACKETS_MAX: u32 = 16;

/// What a method says to a client's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<I> {
    /// More is needed: this is for the client, which answers it.
    Continue(Option<Bytes>),
    /// The client is who it says it is.
    Done {
        /// Who that is.
        identity: I,
        /// The last word to the client, if the method has one.
        data: Option<Bytes>,
    },
}

/// One run of a method of authentication, the server's side.
pub trait Exchange {
    /// What is known of a client at the end.
    type Identity;

    /// Takes what the client sent.
    ///
    /// # Errors
    /// Why it is not let in.
    fn step(&mut self, data: Option<&[u8]>, now: Timestamp) -> Result<Step<Self::Identity>, Denial>;
}

/// What answers a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<I> {
    /// This AUTH packet; the client's next is awaited.
    Ask(Auth),
    /// The end, with the method's last word: CONNACK to a CONNECT, to a re-authentication [`Authentication::success`].
    Done(I, Option<Bytes>),
}

/// Enhanced authentication of one connection, from its CONNECT to its end.
#[derive(Debug)]
pub struct Authentication<E> {
    method: ByteString,
    exchange: Option<E>,
    /// Of the present exchange.
    packets: u32,
    connected: bool,
}

impl<E: Exchange> Authentication<E> {
    /// For a CONNECT that names `method`. A client that names none is never sent AUTH [MQTT-4.12.0-6]: it has no such state.
    pub fn new(method: ByteString, exchange: E) -> Self {
        Self { method, exchange: Some(exchange), packets: 0, connected: false }
    }

    /// Takes the Authentication Data of the CONNECT.
    ///
    /// # Errors
    /// The reason of the CONNACK [MQTT-4.12.0-4].
    pub fn connect(&mut self, data: Option<&[u8]>, now: Timestamp) -> Result<Reply<E::Identity>, Denial> {
        self.step(data, now)
    }

    /// Takes an AUTH packet. `begin` starts the exchange of a re-authentication [4.12.1].
    ///
    /// # Errors
    /// The reason of the CONNACK before the client is in, of the DISCONNECT from then on [MQTT-4.12.1-2].
    pub fn receive(
        &mut self,
        auth: &Auth,
        begin: impl FnOnce() -> E,
        now: Timestamp,
    ) -> Result<Reply<E::Identity>, Denial> {
        if auth.method.as_ref() != Some(&self.method) {
            return Err(protocol_error("AUTH with another method than the CONNECT")); // [MQTT-4.12.0-5]
        }
        match (auth.reason, &self.exchange) {
            (ReasonCode::ContinueAuthentication, Some(_)) => {} // [MQTT-4.12.0-3]
            (ReasonCode::ReAuthenticate, None) if self.connected => {
                // [MQTT-4.12.1-1]
                self.exchange = Some(begin());
                self.packets = 0;
            }
            _ => return Err(protocol_error("AUTH out of turn")),
        }
        self.step(auth.data.as_deref(), now)
    }

    /// The AUTH packet that ends a re-authentication well.
    pub fn success(&self, data: Option<Bytes>) -> Auth {
        self.auth(ReasonCode::Success, data)
    }

    fn step(&mut self, data: Option<&[u8]>, now: Timestamp) -> Result<Reply<E::Identity>, Denial> {
        self.packets += 1;
        if self.packets > EXCHANGE_PACKETS_MAX {
            return Err(protocol_error("authentication without an end"));
        }
        let Some(exchange) = &mut self.exchange else {
            return Err(protocol_error("AUTH out of turn"));
        };
        match exchange.step(data, now)? {
            // [MQTT-4.12.0-2]
            Step::Continue(data) => Ok(Reply::Ask(self.auth(ReasonCode::ContinueAuthentication, data))),
            Step::Done { identity, data } => {
                self.exchange = None;
                self.connected = true;
                Ok(Reply::Done(identity, data))
            }
        }
    }

    fn auth(&self, reason: ReasonCode, data: Option<Bytes>) -> Auth {
        Auth { reason, method: Some(self.method.clone()), data, reason_string: None, user: Vec::new() }
    }
}

fn protocol_error(text: &str) -> Denial {
    Denial { reason: ReasonCode::ProtocolError, text: text.to_owned() }
}
