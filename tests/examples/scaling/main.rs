//! What a message costs the broker against how much of everything there is, in tables for `docs/performance.md`:
//!
//! `tests/scaling [--seconds S] [--only SERIES,SERIES] [--plot FILE.svg]`, or `cargo run --release -p wardline-tests --example scaling -- …`
//!
//! Each row is a broker that was just started, under the load of `wardline bench`.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement ends where it cannot go on, and a command talks to people"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use wardline_bench::ward;
use wardline_tests::load::{self, Publisher};
use wardline_tests::{Broker, Site, machine, wardline};
use wardline_wire::Publish;

mod plot;

use plot::Panel;

const WRONG_USAGE: u8 = 2;
const USAGE: &str = "usage: scaling [--seconds S] [--only SERIES,SERIES] [--plot FILE.svg]";
/// Limits that are published and not yet acknowledged.
const WINDOW: u16 = 256;

/// One quantity that grows while all else stays.
struct Series {
    name: &'static str,
    title: &'static str,
    values: &'static [u32],
    /// Of `wardline bench`; `{}` stands for the value.
    arguments: &'static str,
    /// Whether the value is of limits for single patients.
    limits: bool,
    /// What the plot shows the cost of.
    plotted: Cost,
}

/// CPU of the broker by what it is for.
#[derive(Clone, Copy)]
enum Cost {
    Publish,
    Delivery,
}

impl Cost {
    /// Microseconds each.
    fn of(self, report: &Value) -> Option<f64> {
        let of = match self {
            Self::Publish => "sent",
            Self::Delivery => "delivered",
        };
        report.pointer(&format!("/broker/cpu_seconds_per_million_{of}")).and_then(Value::as_f64)
    }
}

const SERIES: &[Series] = &[
    Series {
        name: "connections",
        title: "devices connected, together 5,000 QoS 1 readings a second",
        // At the end as many as 20,000 descriptors, a common hard limit, leave for them.
        values: &[10, 100, 1_000, 10_000, 19_700],
        arguments: "ward --rate 5000 --alerts 5 --topics 4 --publishers {}",
        limits: false,
        plotted: Cost::Publish,
    },
    Series {
        name: "topics",
        title: "topics, QoS 1, 8 to 1",
        values: &[10, 100, 1_000, 10_000, 100_000, 1_000_000],
        arguments: "fan-in --qos 1 --topics {}",
        limits: false,
        plotted: Cost::Publish,
    },
    Series {
        name: "subscriptions",
        title: "other subscriptions with wildcards, QoS 1, 8 to 1",
        values: &[10, 100, 1_000, 10_000, 100_000, 1_000_000],
        arguments: "fan-in --qos 1 --subscriptions {}",
        limits: false,
        plotted: Cost::Publish,
    },
    Series {
        name: "payload",
        title: "bytes of a payload, QoS 1, 8 to 1",
        values: &[16, 64, 256, 1_024, 4_096, 16_384, 65_536],
        arguments: "fan-in --qos 1 --payload {}",
        limits: false,
        plotted: Cost::Publish,
    },
    Series {
        name: "fan-out",
        title: "subscribers to each message, QoS 1",
        values: &[1, 10, 100, 1_000, 10_000],
        arguments: "fan-out --qos 1 --subscribers {}",
        limits: false,
        plotted: Cost::Delivery,
    },
    Series {
        name: "rules",
        title: "patients with a limit of their own, readings under 12 rules for all, 100 devices",
        values: &[0, 10, 100, 1_000, 10_000],
        arguments: "ward --rate 5000 --alerts 5 --publishers 100",
        limits: true,
        plotted: Cost::Publish,
    },
];

fn main() -> ExitCode {
    let Order { seconds, series, plot } = match order(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(reason) => {
            eprintln!("{reason}\n{USAGE}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    println!("{}", machine::line(&machine::describe()));
    let mut panels = Vec::new();
    for series in series {
        println!(
            "| {} | CPU us of the broker for a publish | for a delivery | complete |\n|---|---|---|---|",
            series.title
        );
        let mut points = Vec::new();
        for &value in series.values {
            let report = measure(series, value, seconds);
            println!("{}", row(value, &report));
            points.extend(series.plotted.of(&report).map(|cost| (value.into(), cost)));
        }
        println!();
        let what = match series.plotted {
            Cost::Publish => "a publish",
            Cost::Delivery => "a delivery",
        };
        panels.push(Panel { title: format!("us for {what}: {}", series.name), points });
    }
    match plot.map(|file| (plot::draw(&file, &panels), file)) {
        Some((Err(error), file)) => {
            eprintln!("{}: {error}", file.display());
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// The report of `wardline bench` on a broker of its own.
fn measure(series: &Series, value: u32, seconds: u32) -> Value {
    let site = Site::new();
    site.write("rules.toml", &ward::rules());
    let connections = [("WARDLINE__LIMITS__CONNECTIONS", "60000")];
    let broker = Broker::start_with(&site, &connections);
    let address = broker.address("lab");
    if series.limits {
        set_limits(address, value);
    }
    let file = site.path().join("report.json");
    let arguments = series.arguments.replace("{}", &value.to_string());
    let mut bench = wardline();
    bench.arg("bench").args(arguments.split(' ')).args(["--seconds", &seconds.to_string()]);
    bench.args(["--url", &format!("mqtt://{address}"), "--pid", &broker.id().to_string()]);
    let output = bench.arg("--json").arg(&file).output().expect("the bench can be run");
    let Ok(text) = fs::read_to_string(&file) else {
        // It could not even begin, which is a result too.
        return json!({ "complete": false, "troubles": [String::from_utf8_lossy(&output.stderr).trim()] });
    };
    serde_json::from_str(&text).expect("the bench writes JSON")
}

/// Gives so many patients a limit of their own.
fn set_limits(broker: SocketAddr, patients: u32) {
    load::block_on(async {
        let mut clinician = Publisher::connect(broker, "limits").await.expect("it is let in");
        let limit = |patient: u64| {
            (patient < u64::from(patients)).then(|| Publish {
                topic: format!("limits/icu/b{patient}/hr").into(),
                retain: true,
                payload: r#"{"low":45,"reason":"athlete"}"#.into(),
                ..Publish::default()
            })
        };
        clinician.publish(WINDOW, limit).await.expect("the limits are taken");
    });
}

fn row(value: u32, report: &Value) -> String {
    let cost = |cost: Cost| cost.of(report).map_or("-".to_owned(), |cost| format!("{cost:.2}"));
    let trouble = report.pointer("/troubles/0").and_then(Value::as_str);
    let complete = trouble.map_or("yes".to_owned(), |trouble| format!("no: {trouble}"));
    format!("| {value} | {} | {} | {complete} |", cost(Cost::Publish), cost(Cost::Delivery))
}

struct Order {
    seconds: u32,
    series: Vec<&'static Series>,
    plot: Option<PathBuf>,
}

fn order(mut words: impl Iterator<Item = String>) -> Result<Order, String> {
    let mut order = Order { seconds: 10, series: SERIES.iter().collect(), plot: None };
    while let Some(option) = words.next() {
        let value = words.next().ok_or(format!("{option} wants a value"))?;
        match option.as_str() {
            "--seconds" => order.seconds = value.parse().map_err(|_| format!("'{value}' is no number"))?,
            "--only" => {
                let named = |name: &str| SERIES.iter().find(|series| series.name == name);
                let series = value.split(',').map(|name| named(name).ok_or(format!("there is no '{name}'")));
                order.series = series.collect::<Result<_, _>>()?;
            }
            "--plot" => order.plot = Some(value.into()),
            _ => return Err(format!("there is no {option}")),
        }
    }
    Ok(order)
}
