//! `wardline acl`.

use super::Outcome;

/// Options of `wardline acl`.
#[derive(clap::Subcommand, Debug)]
pub enum Args {}

/// Runs the command.
pub fn run(_args: Args) -> Outcome {
    Err(super::Failure::failed("not built yet"))
}
