//! How much of MQTT 3.1.1 and 5.0 is shown to be kept, statement by statement:
//!
//! `cargo run -p wardline-tests --example conformance [-- --all]`
//!
//! Prints a line for each section: its normative statements, how many have tests, how many have a reason that none can;
//! with `--all` every statement with what covers it. Exits 1 when a statement is not covered or the catalogue is not true.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to people")]

use std::process::ExitCode;

use wardline_tests::catalogue::Conformance;
use wardline_tests::workspace;

const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--all"] => true,
        _ => {
            eprintln!("usage: conformance [--all]");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let conformance = match Conformance::load(workspace()) {
        Ok(conformance) => conformance,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for catalogue in conformance.catalogues() {
        println!("{catalogue}");
        if all {
            for statement in catalogue.statements() {
                print!("{statement}");
            }
            println!();
        }
    }
    let problems = conformance.problems();
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
