//! `wardline bench ward` on one way of doing the job, and what everybody used until all of it was in the database.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wardline_tests::{Process, Site, ward, wardline};

use crate::Order;
use crate::cost::{Part, Used, disk_written_bytes};

/// Names another binary for the load than for the broker, so that brokers can be compared under the same.
const LOAD_VARIABLE: &str = "WARDLINE_LOAD_BINARY";
/// For so long thousands of devices may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(600);
/// What a store has not taken for so long it will not take.
const STILL_MAX: Duration = Duration::from_secs(60);
/// Between two looks at how far behind the store is.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks whether it has everything.
const LOOK_AT_END: Duration = Duration::from_millis(20);

/// The load on one way.
pub(crate) struct Load<'a> {
    pub(crate) order: &'a Order,
    pub(crate) way: &'static str,
    pub(crate) port: u16,
    pub(crate) tokens: bool,
    pub(crate) site: &'a Site,
}

impl Load<'_> {
    /// Runs it. `behind` gives how many records the store does not have yet, where that can be known; `left` is given the
    /// load's messages and says how many the store does not have yet.
    pub(crate) fn measure(
        &self,
        parts: &[Part],
        behind: Option<&dyn Fn() -> u64>,
        left: impl Fn(&Value) -> u64,
    ) -> Value {
        let file = self.order.out.join(format!("{}-load.json", self.way));
        let broker = parts.first().expect("the broker is a part");
        let mut command = std::env::var_os(LOAD_VARIABLE).map_or_else(wardline, Command::new);
        command.args(["bench", "ward", "--pid", &broker.pid.to_string(), "--json"]).arg(&file);
        let mut load = Process::start(command.args(self.arguments()));
        load.wait_for_within(CONNECT_MAX, "the load's beginning", |line| line == "the load begins");
        let before: Vec<Used> = parts.iter().map(Part::look).collect();
        let disk = || disk_written_bytes(self.site.path());
        let disk_before = disk();
        let mut behind_max = 0;
        while !load.has_ended() {
            behind_max = behind_max.max(behind.map_or(0, |behind| behind()));
            std::thread::sleep(LOOK);
        }
        let (ended, behind_at_end) = (Instant::now(), behind.map(|behind| behind()));
        let text = fs::read_to_string(&file);
        let text = text.unwrap_or_else(|error| panic!("the load told nothing ({error}): {}", load.said()));
        let report: Value = serde_json::from_str(&text).expect("the bench writes JSON");
        let (mut least, mut moved) = (u64::MAX, ended);
        while least > 0 && moved.elapsed() < STILL_MAX {
            let now_left = left(&report["messages"]);
            if now_left < least {
                (least, moved) = (now_left, Instant::now());
            }
            std::thread::sleep(LOOK_AT_END);
        }
        let stored_after = (moved - ended).as_secs_f64();
        let used: Vec<Value> = parts
            .iter()
            .zip(&before)
            .map(|(part, before)| json!({ "part": part.name, "used": part.look().since(before) }))
            .collect();
        json!({
            "load": report,
            "parts": used,
            "disk_written_bytes": disk().zip(disk_before).map(|(after, before)| after.saturating_sub(before)),
            "behind_max_records": behind.map(|_| behind_max),
            "behind_at_end_records": behind_at_end,
            "stored_after_seconds": stored_after,
        })
    }

    fn arguments(&self) -> Vec<String> {
        let Order { devices, pagers, rate, alerts, seconds, tls, .. } = self.order;
        let scheme = if *tls { "mqtts" } else { "mqtt" };
        let mut arguments: Vec<String> = [
            ("--url", format!("{scheme}://localhost:{}", self.port)),
            ("--prefix", ward::PREFIX.to_owned()),
            ("--publishers", devices.to_string()),
            ("--subscribers", pagers.to_string()),
            ("--rate", rate.to_string()),
            ("--alerts", alerts.to_string()),
            ("--seconds", seconds.to_string()),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect();
        let mut directory = |option: &str, name: &str| {
            arguments.extend([option.to_owned(), self.site.path().join(name).display().to_string()]);
        };
        if *tls {
            directory("--certs", "certs");
        }
        if *tls && self.tokens {
            directory("--token-dir", "tokens");
        }
        arguments
    }
}
