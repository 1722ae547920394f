//! Sessions, QoS flows, routing, retained messages and lanes: the broker as a state machine without I/O.
//!
//! It is driven by packets, by `now` and by the journal's progress, and gives back bytes to send and a deadline. It knows no
//! socket, no clock, no policy (that is asked through [`Gate`]) and no plugin (they are fed from [`Broker::take_events`]).
//! The same inputs give the same outputs, so a test can drive years of traffic in a second, and the journal can rebuild the state.
//!
//! Invariants
//! - a PUBACK, PUBREC, SUBACK or UNSUBACK is written only after the record behind it is durable, and so is a CONNACK that
//!   takes a will or follows the end of a session;
//! - a publish is in the journal before anybody receives it;
//! - what a session is owed is in its lanes or in flight, never in both; beyond a short head only the journal has its content;
//! - alerts leave a session before telemetry, and telemetry never takes the last places of its in-flight window;
//! - whatever grows by what clients do has a maximum, in [`Limits`], in [`ClientLimits`] or by a name where it is kept; alerts
//!   have none, and are as many as the journal has room for.

mod alias;
mod arriving;
mod authentication;
mod backlog;
mod broker;
mod carry;
mod connection;
mod gate;
mod inbound;
mod lane;
mod leaving;
mod ledger;
mod limits;
mod line;
mod outbound;
mod packet_ids;
mod presence;
mod queues;
mod recover;
mod refill;
mod regrant;
mod retained;
mod route;
mod routes;
mod session;
mod shared;
mod snapshot;
mod source;
mod state;
mod stored;
mod timer;
mod tree;

pub use authentication::{Authentication, Exchange, Reply, Step};
pub use broker::{Broker, ConnectRequest, Counters, Event};
pub use connection::ConnectionId;
pub use gate::{Denial, Gate, Open};
pub use limits::{ClientLimits, Limit, Limits, QueueFull};
pub use outbound::Transmit;
pub use queues::{Queue, Queues};
pub use recover::{RecoverError, START};
pub use snapshot::{Snapshot, SnapshotError};
pub use source::Source;
pub use stored::{Lane, Stored};
pub use tree::Tree;
