//! The demonstration: a whole hospital ward on one machine, from nothing to a verified record.
//!
//! It is what a person sees first, and a test of the whole at once: the broker, its PKI, its policy and rules are the real ones,
//! reached over mutual TLS as a ward would reach them. Only the patients and the staff are simulated, and every reading
//! says so (`mode: demo`).
//!
//! - [`site`]: the folder with certificates, keys and configuration;
//! - [`stage`]: monitors and pagers, connected;
//! - [`story`]: what happens on the ward, and whether all of it did;
//! - [`record`]: what the audit record must hold afterwards;
//! - [`voice`]: how it is told.

pub mod record;
pub mod site;
pub mod stage;
pub mod story;
pub mod voice;
