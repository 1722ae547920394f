//! MQTT 3.1, 3.1.1 and 5.0: bytes and packets, topics and filters.
pub mod packet;
mod reason;
pub mod topic;
pub use packet::*;
pub use reason::ReasonCode;
