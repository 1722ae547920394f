//! Listeners, TLS, plugin host, HTTP and the `wardline` command: the only room that touches sockets and the clock.

pub mod clock;
pub mod commands;
pub mod config;
pub mod host;
