//! The whole path under load, and the same job done as it is done today, in one run:
//!
//! `tests/ward [--devices N] [--pagers N] [--rate R] [--alerts A] [--seconds S] [--commit always] [--no-tls]
//! [--only wardline|today] [--out DIR]`, or `cargo run --release -p wardline-tests --example ward -- …`
//!
//! Devices with a certificate and a token each publish readings of twelve signals at a fixed rate, some beyond a limit;
//! pagers must hear of each of those; every publish must become a row in PostgreSQL. Wardline does all of it in one program.
//! Today it is a broker (mosquitto), a rule process and a consumer that inserts. Both ways have the same load, rules,
//! certificates and PostgreSQL. Prints a table, keeps every figure in DIR, and fails if an alert or a row is missing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement ends where it cannot go on, and a command talks to people"
)]

mod cost;
mod load;
mod table;
mod today;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use wardline_test_postgres::Postgres;
use wardline_tests::{Broker, Site, machine, ward, workspace};

use cost::Part;
use load::Load;
use today::Today;

const WRONG_USAGE: u8 = 2;
const USAGE: &str = "usage: ward [--devices N] [--pagers N] [--rate R] [--alerts A] [--seconds S] [--commit always|interval:5ms|off] \
     [--no-tls] [--only wardline|today] [--out DIR]";
const WAYS: [&str; 2] = ["wardline", "today"];

/// What is to be measured.
struct Order {
    devices: u32,
    pagers: u32,
    /// Readings a second.
    rate: u32,
    /// Of them beyond a limit.
    alerts: u32,
    seconds: u32,
    /// `journal.commit`.
    commit: String,
    /// Mutual TLS and tokens; without, nobody is asked who they are.
    tls: bool,
    ways: Vec<&'static str>,
    out: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((word, rest)) if word == today::RULES => today::rules::run(rest),
        Some((word, rest)) if word == today::CONSUMER => today::consumer::run(rest),
        _ => match order(words.into_iter()) {
            Ok(order) => return measure(&order),
            Err(reason) => {
                eprintln!("{reason}\n{USAGE}");
                return ExitCode::from(WRONG_USAGE);
            }
        },
    }
    ExitCode::SUCCESS
}

fn measure(order: &Order) -> ExitCode {
    fs::create_dir_all(&order.out).expect("the directory for results can be made");
    let machine = machine::describe();
    let postgres = Postgres::start();
    let site = Site::new();
    ward::furnish(&site, order.devices, order.pagers);
    if order.tls {
        eprintln!("issuing certificates and tokens");
        ward::identify(&site, order.devices, order.pagers);
    }
    let mut results: Vec<(&str, Value)> = Vec::new();
    for &way in &order.ways {
        eprintln!("{way}");
        // What the way before left to be written is not this one's.
        postgres.query("CHECKPOINT");
        let result = if way == "wardline" {
            by_wardline(&site, &postgres, order)
        } else if let Some(mosquitto) = machine::installed("mosquitto") {
            by_today(&mosquitto, &site, &postgres, order)
        } else {
            eprintln!("mosquitto is not installed: only Wardline is measured");
            continue;
        };
        let file = order.out.join(format!("{way}.json"));
        fs::write(file, format!("{:#}\n", json!({ "machine": machine, "result": result })))
            .expect("results can be written");
        results.push((way, result));
    }
    let table = format!("{}\n{}", machine::line(&machine), table::table(order, &results));
    fs::write(order.out.join("table.md"), &table).expect("results can be written");
    println!("{table}\nEach figure: {}", order.out.display());
    let complete = |result: &Value| result["load"]["complete"] == true && result["rows_missing"] == 0;
    if results.iter().all(|(_, result)| complete(result)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn by_wardline(site: &Site, postgres: &Postgres, order: &Order) -> Value {
    let store = postgres.url();
    let broker = Broker::start_with(
        site,
        &[("WARDLINE__AUDIT__STORE", &store), ("WARDLINE__JOURNAL__COMMIT", &order.commit)],
    );
    let parts = [
        Part { name: "broker", pid: broker.id() },
        Part { name: "PostgreSQL", pid: postgres.id().expect("it runs") },
    ];
    let address = broker.address(if order.tls { "ward" } else { "lab" });
    let lag = || broker.metric::<f64>("wardline_audit_lag_records") as u64;
    let load = Load { order, way: "wardline", port: address.port(), tokens: true, site };
    let result = load.measure(&parts, Some(&lag), |_| lag());
    with_rows(result, postgres, "audit.publishes")
}

fn by_today(mosquitto: &str, site: &Site, postgres: &Postgres, order: &Order) -> Value {
    let today = Today::start(mosquitto, site, postgres, order);
    let parts = [
        Part { name: "broker", pid: today.mosquitto.id() },
        Part { name: "rule process", pid: today.rules.id() },
        Part { name: "consumer", pid: today.consumer.id() },
        Part { name: "PostgreSQL", pid: postgres.id().expect("it runs") },
    ];
    let load = Load { order, way: "today", port: today.address.port(), tokens: false, site };
    // Each alert is told twice: that it begins, and that it ends.
    let due = |messages: &Value| count(messages, "sent") + 2 * count(messages, "due");
    let result = load.measure(&parts, None, |messages| due(messages).saturating_sub(today.rows()));
    with_rows(result, postgres, "today.publishes")
}

fn count(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap_or_default()
}

/// Compares what was sent and raised with the rows of `table`.
fn with_rows(mut result: Value, postgres: &Postgres, table: &str) -> Value {
    let rows = postgres.query(&format!(
        "SELECT count(*) FILTER (WHERE topic LIKE 'telemetry/%'), count(*) FILTER (WHERE topic LIKE 'alerts/%' \
         AND convert_from(payload, 'UTF8') LIKE '%\"phase\":\"start\"%') FROM {table}"
    ));
    let (readings, alerts) = rows.split_once('|').expect("two columns");
    let number = |text: &str| text.parse::<u64>().expect("a count");
    let (readings, alerts) = (number(readings), number(alerts));
    let messages = &result["load"]["messages"];
    let missing = count(messages, "sent").abs_diff(readings) + count(messages, "due").abs_diff(alerts);
    result["rows"] = json!({ "readings": readings, "alerts": alerts });
    result["rows_missing"] = missing.into();
    result
}

fn order(mut words: impl Iterator<Item = String>) -> Result<Order, String> {
    let mut order = Order {
        devices: 100,
        pagers: 4,
        rate: 20_000,
        alerts: 20,
        seconds: 30,
        commit: "always".to_owned(),
        tls: true,
        ways: WAYS.to_vec(),
        out: workspace().join("target/ward").join(machine::time_stamp()),
    };
    while let Some(option) = words.next() {
        if option == "--no-tls" {
            order.tls = false;
            continue;
        }
        let value = words.next().ok_or(format!("{option} wants a value"))?;
        let number =
            || value.parse().ok().filter(|number| *number > 0).ok_or(format!("'{value}' is no number"));
        match option.as_str() {
            "--devices" => order.devices = number()?,
            "--pagers" => order.pagers = number()?,
            "--rate" => order.rate = number()?,
            "--alerts" => order.alerts = number()?,
            "--seconds" => order.seconds = number()?,
            "--commit" => order.commit = value,
            "--out" => order.out = value.into(),
            "--only" => {
                let way = WAYS.into_iter().find(|way| *way == value);
                order.ways = vec![way.ok_or(format!("'{value}' is neither of {}", WAYS.join(", ")))?];
            }
            _ => return Err(format!("there is no {option}")),
        }
    }
    Ok(order)
}
