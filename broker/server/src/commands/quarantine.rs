//! `wardline journal quarantine`: take what is damaged out of a journal, on purpose and visibly.

use std::io::{self, Write};
use std::path::PathBuf;

use wardline_journal::{Cut, Known, Offset, Snapshots};

use super::{Failure, Outcome};
use crate::{clock, config::Config, snapshots};

/// In the data directory: what was taken out of the journal.
const QUARANTINE: &str = "quarantine";

/// Options of `wardline journal quarantine`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The broker's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    let config = Config::load(&args.config, crate::config::environment())
        .map_err(|problems| Failure::usage(problems.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    // An offset that is a row already must not become another record's.
    let audited = match &config.audit.store {
        None => Offset(0),
        Some(store) => {
            runtime.block_on(wardline_audit::recorded(store, config.node.id)).map_err(|error| {
                Failure::failed(format!(
                    "{error}; nothing was changed: the audit store knows which offsets are used"
                ))
            })?
        }
    };
    let into = config.node.data.join(QUARANTINE);
    let snapshots = Snapshots::beside(&config.journal);
    let known = snapshots::known(&snapshots).map_err(|error| {
        Failure::failed(format!("{error}; nothing was changed: snapshots know what is missing"))
    })?;
    let known = Known { used: known.used.max(audited), ..known };
    let cuts = wardline_journal::quarantine(&config.journal, &into, known, clock::now())
        .map_err(|error| Failure::failed(format!("journal: {error}")))?;
    tell(&cuts).map_err(|error| Failure::failed(format!("cannot write what was done: {error}")))
}

fn tell(cuts: &[Cut]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if cuts.is_empty() {
        return writeln!(out, "the journal is sound; nothing was changed");
    }
    for Cut { segment, position, flaw, kept, lost } in cuts {
        match kept {
            Some(_) => writeln!(out, "{}: {flaw}; cut off at byte {position}", segment.display())?,
            None => writeln!(out, "{}: {flaw}", segment.display())?,
        }
        match lost.end - lost.start {
            0 => writeln!(out, "  no record is lost")?,
            1 => writeln!(out, "  record {} is lost to the journal", lost.start)?,
            count => {
                writeln!(
                    out,
                    "  {count} records are lost to the journal: {} to {}",
                    lost.start,
                    lost.end - 1
                )?;
            }
        }
        if let Some(kept) = kept {
            writeln!(out, "  kept whole as {}", kept.display())?;
        }
    }
    writeln!(out, "the broker can be started; then `wardline audit verify` names what the record lacks")
}
