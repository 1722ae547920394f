//! MQTT 5.0 against the real broker, statement by statement: `tests/conformance/mqtt-5.0.toml` says which test covers which.

#![allow(clippy::expect_used, clippy::panic, unreachable_pub, reason = "helpers of tests assert as tests do")]

mod acknowledge;
mod authenticate;
mod connack;
mod connect;
mod data;
mod disconnect;
mod errors;
mod flow;
mod publish;
mod qos;
mod retain;
mod session;
mod shared;
mod subscribe;
mod support;
mod topics;
mod transport;
mod unsubscribe;
mod will;
