//! `wardline demo`.

use super::Outcome;

/// Options of `wardline demo`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Outcome {
    Err(super::Failure::failed("not built yet"))
}
