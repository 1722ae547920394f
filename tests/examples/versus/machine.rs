//! Where and of what the figures are.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use wardline_tests::workspace;

/// Processor, kernel, time and commit.
pub(crate) fn describe() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1.to_owned()))
        .unwrap_or_default();
    json!({
        "time": time_stamp(),
        "processor": processor,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "commit": git(&["rev-parse", "--short", "HEAD"]),
        "uncommitted_changes": !git(&["status", "--porcelain"]).is_empty(),
    })
}

/// The same in a sentence.
pub(crate) fn line(machine: &Value) -> String {
    let text = |name: &str| machine[name].as_str().unwrap_or_default().to_owned();
    let changed = if machine["uncommitted_changes"] == true { " with changes" } else { "" };
    format!(
        "{}: commit {}{changed}; {} cores of {}; Linux {}; load generator on the same machine.\n",
        text("time"),
        text("commit"),
        machine["cores"],
        text("processor"),
        text("kernel")
    )
}

/// UTC, as part of a file name.
pub(crate) fn time_stamp() -> String {
    #[expect(clippy::disallowed_methods, reason = "when it was measured is part of what was measured")]
    let now = jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H%MZ").to_string()
}

fn git(arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(workspace()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
