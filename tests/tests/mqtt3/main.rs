//! MQTT 3.1.1, statement by statement, and MQTT 3.1: the real broker, spoken to in bytes.
//!
//! What is sent and what is expected is written out byte by byte, by nothing of the broker's own codec. The modules follow
//! the sections of the specification; its statements stand as \[MQTT3-x.y.z-n\] at the lines that demand them, and
//! `tests/conformance/mqtt-3.1.1.toml` leads from each statement to its tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests assert as tests do"
)]

mod acknowledge;
mod bytes;
mod connack;
mod connect;
mod data;
mod lab;
mod mqtt31;
mod peer;
mod publish;
mod retained;
mod session;
mod subscribe;
mod topics;
mod websocket;
mod will;
