//! `wardline certs`.

use super::Outcome;

/// Options of `wardline certs`.
#[derive(clap::Subcommand, Debug)]
pub enum Args {}

/// Runs the command.
pub fn run(_args: Args) -> Outcome {
    Err(super::Failure::failed("not built yet"))
}
