//! Load on any MQTT broker, and what it cost: messages and their latency, the broker's CPU and memory, and the load's own.
//!
//! It knows MQTT's bytes (`wardline-wire`) and sockets, and nothing of the broker on the other side; only [`ward`] knows
//! Wardline's topics and alerts, which another broker with programs beside it can serve as well. It is made to take
//! little of the machine, because the broker's share is what is measured: publishes are copies of one encoded packet
//! with a few bytes changed, written many at a time; what comes in is read by its fixed header, and no message is
//! allocated for.
//!
//! Each payload begins with when it was sent, by whom, and its number ([`Stamp`](message::Stamp)), so that every
//! subscriber knows what it missed, had twice or out of its order.
//!
//! Invariants
//! - a message counts as delivered once for each subscriber it was due to, and what does not come is lost: never left out;
//! - with a fixed rate, latency begins when the message was due and not when there was time to send it;
//! - what is measured is measured between two instants that are set before the first message.
//!
//! | where | what |
//! |---|---|
//! | [`plan`] | what is asked for, checked |
//! | `run`, `storm` | a run with messages; a run with connections only |
//! | `publisher`, `subscriber` | the clients |
//! | `connection`, `dial` | bytes in and out; TCP, TLS, CONNECT, SUBSCRIBE |
//! | [`message`], [`scan`] | the packet that is sent; packets that come |
//! | [`ward`] | monitors, their readings, and the alerts that are due of them |
//! | [`track`], `window`, `flow`, [`schedule`] | what came; what is under way; when to send |
//! | `meter`, [`proc`] | what is counted, in this process and of the broker |
//! | [`report`], `table` | what is told, for programs and for people |

mod connection;
mod crew;
mod dial;
mod flow;
pub mod message;
mod meter;
pub mod plan;
pub mod proc;
mod publisher;
pub mod report;
mod run;
pub mod scan;
pub mod schedule;
mod storm;
mod subscriber;
mod table;
mod timer;
pub mod track;
pub mod ward;
mod window;

pub use dial::{Access, Accesses, Broker};
pub use plan::{Plan, PlanError, Scenario};
pub use report::Report;
pub use run::{BenchError, run};
