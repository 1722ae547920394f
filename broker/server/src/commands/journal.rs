//! `wardline journal`: the keys that the journal is encrypted with, and what to do when it is damaged.

use std::io::{self, Write};
use std::path::PathBuf;

use wardline_journal::KeyRing;

use super::{Failure, Outcome, quarantine};
use crate::clock;

/// Options of `wardline journal`.
#[derive(clap::Subcommand, Debug)]
pub enum Args {
    /// Make a key, and put it in front of those that the file has: what is written from the next start on is sealed with it
    #[command(after_help = "Example:\n  wardline journal key --out /etc/wardline/journal.key\n\n\
            The broker takes it when its configuration has:\n\n  \
            [journal]\n  key_file = \"/etc/wardline/journal.key\"\n\n\
            Keep the keys that come after it in the file for as long as segments are sealed with them.")]
    Key(KeyArgs),
    /// Take what is damaged out of the journal of a stopped broker, so that it starts again
    #[command(
        after_help = "The damaged segment is kept whole in the data directory, in quarantine/, beside a note. Records that\n\
            are lost keep their offsets: where the audit store has them it has them still, and where it has not,\n\
            `audit verify` names them from then on."
    )]
    Quarantine(quarantine::Args),
}

/// Options of `wardline journal key`.
#[derive(clap::Args, Debug)]
pub struct KeyArgs {
    /// The key file; made where there is none
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    match args {
        Args::Key(args) => key(&args),
        Args::Quarantine(args) => quarantine::run(args),
    }
}

fn key(args: &KeyArgs) -> Outcome {
    let id = KeyRing::add(&args.out, clock::now()).map_err(|error| Failure::failed(error.to_string()))?;
    writeln!(io::stdout(), "key {id} is the newest in {}", args.out.display())
        .map_err(|error| Failure::failed(format!("the key is made, but that cannot be written: {error}")))
}
