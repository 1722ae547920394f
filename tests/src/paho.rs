//! Eclipse Paho, as Debian's Python has it.

use std::ffi::OsStr;
use std::process::Command;

use crate::{Process, workspace};

/// Has `tests/clients/paho_smoke.py` make its round trip.
///
/// # Panics
/// With what it says is missing, if the round trip fails.
pub fn paho_round_trip(arguments: impl IntoIterator<Item: AsRef<OsStr>>) {
    // Debian's Python is the one that has Debian's package.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(workspace().join("tests/clients/paho_smoke.py")).args(arguments);
    let mut script = Process::start(&mut command);
    assert!(script.wait().success(), "{}", script.said());
}
