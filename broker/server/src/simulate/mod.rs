//! A ward on paper: simulated patients, their monitors, and the pagers that staff carry, as ordinary MQTT clients.
//!
//! It is a user of a broker, not a part of one: everything here reaches Wardline, or any other broker, over the network, with
//! the identity that a real device or pager would have. `wardline simulate` and `wardline demo` are made of it.
//!
//! - [`model`]: a patient's vital signs, pure and seeded;
//! - [`reading`]: a vital sign as a publish;
//! - [`link`]: one network connection; [`identity`]: whose it is;
//! - [`device`]: a monitor, which accounts for each of its publishes;
//! - [`ward`] and [`playback`]: what the monitors publish, from the model or from a recording;
//! - [`pager`]: receives alerts and answers them.

pub mod device;
pub mod identity;
pub mod link;
pub mod model;
pub mod pager;
pub mod playback;
pub mod reading;
pub mod ward;
