//! Where and of what figures are, and what is installed there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::workspace;
use serde_json::{Value, json};

/// Processor, kernel, time and commit.
pub fn describe() -> Value {
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
pub fn line(machine: &Value) -> String {
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
pub fn time_stamp() -> String {
    #[expect(clippy::disallowed_methods, reason = "when it was measured is part of what was measured")]
    let now = jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H%MZ").to_string()
}

/// The program of this name, where it is looked for; Debian keeps servers where not every PATH leads.
pub fn installed(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    directories
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .map(|path| path.display().to_string())
}

fn git(arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(workspace()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
