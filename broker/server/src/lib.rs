//! Listeners, TLS, plugin host, HTTP and the `wardline` command: the only room that touches sockets and the clock.
//!
//! It is not the place for protocol, policy or alerting: those are decided in `core`, `acl` and `plugins`. Here they are put
//! together ([`serve`]) under one lock ([`node`]) and connected to the world ([`listener`], [`connection`], [`http`]).
//!
//! Invariants
//! - the node's lock is never held across I/O;
//! - time is read in [`clock`] and nowhere else;
//! - a client is known ([`door`]) before the core hears of it.

pub mod ace;
pub mod ahead;
pub mod alarms;
pub mod arrival;
pub mod audited;
pub mod bucket;
pub mod buffers;
pub mod clock;
pub mod commands;
pub mod config;
pub mod connection;
pub mod demo;
pub mod descriptors;
pub mod disk;
pub mod door;
pub mod entry;
pub mod farewell;
pub mod heartbeat;
pub mod host;
pub mod http;
pub mod listener;
pub mod load;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod network;
pub mod node;
pub mod pace;
pub mod proxy;
pub mod queues;
pub mod recording;
mod refill;
pub mod restraint;
pub mod rules;
pub mod serve;
pub mod signal;
pub mod simulate;
pub mod snapshots;
pub mod status;
pub mod sys;
pub mod tally;
pub mod tls;
pub mod turns;
pub mod websocket;
pub mod withheld;
