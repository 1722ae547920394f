//! Wardline and other brokers under the same loads in turn, on the machine at hand:
//!
//! `tests/versus [--rounds N] [--seconds N] [--only LOAD,LOAD] [--peer 'NAME=COMMAND']… [--out DIR]`, or
//! `cargo run --release -p wardline-tests --example versus -- …`
//!
//! Takes mosquitto and rumqttd where they are, and any other by its command, in which `{port}` stands for the port to listen
//! on at 127.0.0.1 and `{dir}` for a directory of its own. Each run has a broker that was just started. Rounds are
//! interleaved: each load goes to each broker before any comes again. Prints medians, with what each is of Wardline's, and
//! keeps the report of each run in DIR.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement ends where it cannot go on, and a command talks to people"
)]

mod loads;
mod peers;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;
use wardline_tests::{machine, wardline, workspace};

use loads::{LOADS, Load};
use peers::Peer;
use table::Results;

const WRONG_USAGE: u8 = 2;
const USAGE: &str =
    "usage: versus [--rounds N] [--seconds N] [--only LOAD,LOAD] [--peer 'NAME=COMMAND'] [--out DIR]";

struct Order {
    rounds: u32,
    seconds: u32,
    loads: Vec<&'static Load>,
    peers: Vec<Peer>,
    out: PathBuf,
}

fn main() -> ExitCode {
    let order = match order(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(reason) => {
            eprintln!("{reason}\n{USAGE}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    fs::create_dir_all(&order.out).expect("the directory for results can be made");
    let machine = machine::describe();
    fs::write(order.out.join("machine.json"), format!("{machine:#}\n")).expect("results can be written");
    let mut results = Results::default();
    for round in 1..=order.rounds {
        for load in &order.loads {
            for peer in &order.peers {
                eprintln!("round {round}: {}: {}", load.name, peer.name);
                let file = order.out.join(format!("{round}-{}-{}.json", load.name, peer.name));
                results.add(load.name, &peer.name, measure(peer, load, order.seconds, &file));
            }
        }
    }
    let names: Vec<&str> = order.peers.iter().map(|peer| peer.name.as_str()).collect();
    let table = format!("{}\n{}", machine::line(&machine), results.table(&order.loads, &names, order.rounds));
    fs::write(order.out.join("table.md"), &table).expect("results can be written");
    println!("{table}\nEach run: {}", order.out.display());
    ExitCode::SUCCESS
}

/// One load on one broker; its report is in `file` then.
fn measure(peer: &Peer, load: &Load, seconds: u32, file: &Path) -> Value {
    let running = peer.start();
    let mut bench = wardline();
    let arguments = load.on_wardline.filter(|_| peer.is_wardline()).unwrap_or(load.arguments);
    bench.arg("bench").args(arguments).args(["--seconds", &seconds.to_string()]);
    bench.args(["--url", &format!("mqtt://{}", running.address)]).args(["--pid", &running.pid().to_string()]);
    let output = bench.arg("--json").arg(file).output().expect("the bench can be run");
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).expect("the bench writes JSON"),
        // It could not even begin, which is a result too.
        Err(_) => {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            eprintln!("  {reason}");
            serde_json::json!({ "complete": false, "troubles": [reason] })
        }
    }
}

fn order(mut words: impl Iterator<Item = String>) -> Result<Order, String> {
    let mut order = Order {
        rounds: 3,
        seconds: 10,
        loads: LOADS.iter().collect(),
        peers: peers::at_hand(),
        out: workspace().join("target/versus").join(machine::time_stamp()),
    };
    while let Some(option) = words.next() {
        let value = words.next().ok_or(format!("{option} wants a value"))?;
        let number =
            || value.parse().ok().filter(|number| *number > 0).ok_or(format!("'{value}' is no number"));
        match option.as_str() {
            "--rounds" => order.rounds = number()?,
            "--seconds" => order.seconds = number()?,
            "--out" => order.out = value.into(),
            "--peer" => order.peers.push(Peer::of_command(&value)?),
            "--only" => order.loads = value.split(',').map(Load::named).collect::<Result<_, _>>()?,
            _ => return Err(format!("there is no {option}")),
        }
    }
    Ok(order)
}
