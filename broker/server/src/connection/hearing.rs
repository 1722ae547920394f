//! What a client sent, on its way to the node.

use std::{cell::Cell, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use wardline_core::{Denial, Reply, Transmit};
use wardline_wire::{Auth, DecodeError, Packet, Publish, ReasonCode};

use super::{Socket, outlet, token_end};
use crate::{
    ace::{self, Ace},
    clock,
    door::Door,
    entry,
    node::Node,
    restraint::Restraint,
    withheld::WITHHELD_PAUSE,
};

/// Packets handed to the node under one lock: few enough that an alert waits less than a millisecond for the rest.
const BATCH_PACKETS_MAX: usize = 64;

thread_local! {
    /// Decoded and on their way to the node. Of a thread and not of a connection, which would keep its memory while it is silent.
    static BATCH: Cell<Vec<Packet>> = const { Cell::new(Vec::new()) };
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Hands what has been read to the node, and takes what may be sent. True: there may be more to hand over.
    pub(super) fn packets(&mut self, door: &Arc<Door>, node: &Node) -> (bool, Transmit) {
        let id = self.id;
        let (read_at, now) = (clock::now(), Instant::now());
        let mut batch = BATCH.take();
        let heard = self.decode(&mut batch, node, now);
        if let Some(rest) = heard.slow {
            self.pace.pause(now + rest);
        }
        let transmit = if batch.is_empty() {
            self.transmit(node)
        } else {
            let outlet = outlet(&mut self.output, &mut self.alerts, &mut self.refill);
            node.receive(id, batch.drain(..), self.admitted.grants(), read_at, outlet)
        };
        BATCH.set(batch);
        match heard.end {
            End::Batch => (true, transmit),
            End::Input => (false, transmit),
            End::Auth(auth) => {
                self.reauthenticate(&auth, door, node);
                (true, transmit)
            }
            End::Unreadable(error) => {
                entry::count_unreadable(&error, door, node);
                node.malformed(id, error.reason(), &error.to_string());
                self.input.clear();
                (false, transmit)
            }
        }
    }

    /// Decodes a batch of what was read.
    fn decode(&mut self, batch: &mut Vec<Packet>, node: &Node, now: Instant) -> Heard {
        let restraint = node.restraint();
        self.withheld.wait(now);
        let mut slow = None;
        while batch.len() < BATCH_PACKETS_MAX && self.pace.rest(now).is_none() {
            let before = self.input.len();
            let first = if restraint == Restraint::Withhold { None } else { self.withheld.pop() };
            let decoded = match first {
                Some(first) => Ok(Some(first)),
                None if self.withheld.is_full() => {
                    return Heard { slow: Some(WITHHELD_PAUSE), end: End::Batch };
                }
                None => self
                    .decoder
                    .decode(&mut self.input)
                    .map(|packet| packet.map(|packet| (packet, before - self.input.len()))),
            };
            let (packet, bytes) = match decoded {
                Ok(Some(decoded)) => decoded,
                Ok(None) => return Heard { slow, end: End::Input },
                Err(error) => return Heard { slow, end: End::Unreadable(error) },
            };
            // A topic alias that is given its meaning now may be used when there is little room.
            if let Packet::Publish(publish) = &packet
                && (restraint != Restraint::None || publish.properties.topic_alias.is_some())
                && self.is_telemetry(publish, node)
            {
                match restraint {
                    Restraint::None => {}
                    Restraint::Slow(rest) => slow = Some(rest),
                    Restraint::Withhold => {
                        node.metrics().telemetry_withheld.inc();
                        self.withheld.push(publish, bytes, now);
                        continue;
                    }
                }
            }
            self.pace.heard(&packet, bytes, now);
            match packet {
                // What follows it may be judged by other grants.
                Packet::Auth(packet) if self.authentication.is_some() => {
                    return Heard { slow, end: End::Auth(packet) };
                }
                packet => batch.push(packet),
            }
        }
        Heard { slow, end: End::Batch }
    }

    /// Whether a publish may wait when the journal has little room.
    fn is_telemetry(&mut self, publish: &Publish, node: &Node) -> bool {
        self.telemetry.includes(publish, self.admitted.grants().principal().as_str(), node.limits())
    }

    /// Takes an AUTH packet of a client that is in. Its old grants hold until it has proved again who it is.
    fn reauthenticate(&mut self, auth: &Auth, door: &Arc<Door>, node: &Node) {
        let Self { id, admitted, authentication: Some(authentication), .. } = self else { return };
        let (id, now) = (*id, clock::now());
        let (identity, data) =
            match authentication.receive(auth, || Ace::renewing(door, admitted.identity()), now) {
                Ok(Reply::Done(identity, data)) => (identity, data),
                Ok(Reply::Ask(question)) => return node.authenticate(id, question),
                Err(denial) => return node.reauthentication_failed(id, &denial),
            };
        admitted.renewed(identity);
        if let Err(text) = door.readmit(admitted, now) {
            return node.reauthentication_failed(id, &Denial { reason: ReasonCode::NotAuthorized, text });
        }
        self.token_end = token_end(admitted);
        let until = admitted.expires().map_or_else(String::new, |expires| format!(", until {expires}"));
        let success = authentication.success(data);
        node.reauthenticated(id, admitted.grants(), success, &format!("{}{until}", ace::METHOD));
    }
}

/// What decoding a batch came to.
struct Heard {
    /// How long the client is to rest behind it.
    slow: Option<Duration>,
    end: End,
}

/// Where a batch ends.
enum End {
    /// There may be more.
    Batch,
    /// Nothing whole is left.
    Input,
    Auth(Auth),
    Unreadable(DecodeError),
}
