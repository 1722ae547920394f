//! The harness of the end-to-end tests: the real `wardline` binary on a site of its own, real clients, real databases.
//!
//! Not a simulator: time is the machine's, sockets are sockets, and a crash is `kill -9`. What can be decided without all
//! that is tested in the crate that decides it.
//!
//! Invariants
//! - a test owns its directory, its ports and its processes, and leaves none of them behind;
//! - nothing waits for a length of time: everything waits for an event, at most [`DEADLINE`];
//! - whatever fails shows the broker's own log.
//!
//! | where | what |
//! |---|---|
//! | [`Site`] | certificates, tokens, policy, rules and configuration in a temporary directory |
//! | [`Broker`] | a running `wardline serve` |
//! | [`Bystanders`] | two clients that must not notice what others do |
//! | [`Process`] | any child whose lines are waited for: `mosquitto_sub`, a Python script |
//! | [`RawClient`] | bytes and single packets over TCP, for what no client library would send |
//! | [`WebSocket`] | frames as they are, also those that no library would send |
//! | [`rumqtt`] | rumqttc, MQTT 3.1.1 and 5, with and without TLS |
//! | [`crash`] | clients under a broker that is killed again and again, and what they must never see |
//! | [`load`] | publishers that cost little |
//! | [`machine`] | where and of what figures are |
//! | [`ward`] | a site for `wardline bench ward` |
//! | [`record`] | what the audit tables and the journal hold |
//! | [`catalogue`] | the normative statements of MQTT, and what shows that they are kept |

#![allow(clippy::expect_used, clippy::panic, reason = "a test's tools assert")]

mod binary;
mod broker;
mod bystanders;
pub mod catalogue;
pub mod crash;
mod dice;
pub mod load;
pub mod machine;
mod paho;
mod process;
mod raw;
pub mod record;
pub mod rumqtt;
mod site;
pub mod ward;
mod websocket;

use std::time::Duration;

pub use binary::{wardline, workspace};
pub use broker::{Broker, Exit};
pub use bystanders::Bystanders;
pub use dice::Dice;
pub use paho::paho_round_trip;
pub use process::Process;
pub use raw::{Heard, RawClient, ack, connect, packet_id, send_bytes, tcp, try_tcp};
pub use site::{Credentials, Site};
pub use websocket::{Opcode, WebSocket};

/// The longest that anything is waited for. Generous, because a test machine may be busy; nothing waits it out unless
/// it is broken.
pub const DEADLINE: Duration = Duration::from_secs(30);
