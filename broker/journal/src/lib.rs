//! The append-only log that every publish goes through.
pub mod record;
pub use record::{Access, AccessEvent, Delivery, DeliveryStep, Entry, Log, Mark, Offset, Origin, Outcome, Publish, Record};
