//! The `wardline` command: one module for each subcommand.
//!
//! A subcommand's `run` returns an [`Outcome`]; only [`main`] turns it into an exit status: 0 done, 1 failed or a negative
//! finding, 2 wrong usage or configuration.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod acl;
pub mod audit;
pub mod bench;
pub mod certs;
pub mod check;
pub mod demo;
pub mod journal;
pub mod quarantine;
pub mod replay;
pub mod serve;
pub mod simulate;
pub mod status;
pub mod token;

/// What a subcommand ends with.
pub type Outcome = Result<(), Failure>;

/// Why a subcommand did not do what was asked; the message says what, where and how to mend it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Exit status: 1 or 2.
    pub status: u8,
    /// For a hospital engineer to act on. May be empty when the finding was already printed.
    pub message: String,
}

impl Failure {
    /// It was tried and failed, or the finding is negative: exit 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { status: 1, message: message.into() }
    }

    /// The command line or configuration is wrong: exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { status: 2, message: message.into() }
    }
}

#[derive(Parser, Debug)]
#[command(name = "wardline", version, about = "MQTT broker for hospitals", propagate_version = true)]
#[command(arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Watch a ward work, with nothing prepared: devices, an alert, a pager, an audited record
    Demo(demo::Args),
    /// Run the broker
    Serve(serve::Args),
    /// Validate configuration, policy, rules and keys; start nothing
    Check(check::Args),
    /// Make and issue certificates: the device PKI for development and small sites
    #[command(subcommand)]
    Certs(certs::Args),
    /// Issue development tokens, and explain what a token grants
    #[command(subcommand)]
    Token(token::Args),
    /// Explain a permission: the decision, and the rule that made it
    #[command(subcommand)]
    Acl(acl::Args),
    /// Read the audit record, and prove it complete
    #[command(subcommand)]
    Audit(audit::Args),
    /// Make the keys that the journal is encrypted with; mend a damaged one, on purpose and visibly
    #[command(subcommand)]
    Journal(journal::Args),
    /// Run recorded readings through rules: what would have alarmed
    Replay(replay::Args),
    /// Play a ward of devices against a broker, from a model or a recording
    Simulate(simulate::Args),
    /// Put load on any MQTT broker: messages, latency, connections, and what they cost it
    Bench(bench::Args),
    /// Ask a running broker how it is: sessions, lanes, journal, audit lag, alerts and alarms
    Status(status::Args),
}

/// Parses the command line, runs the subcommand, and reports a failure on standard error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Certs(args) => certs::run(args),
        Command::Token(args) => token::run(args),
        Command::Acl(args) => acl::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Journal(args) => journal::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Status(args) => status::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                report(&failure.message);
            }
            ExitCode::from(failure.status)
        }
    }
}

#[expect(clippy::print_stderr, reason = "this is where a command speaks to the person who typed it")]
fn report(message: &str) {
    eprintln!("wardline: {message}");
}
