//! What processes have used, and all that they have started.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};
use wardline_bench::proc::{self, Usage};

/// Processes that are told together.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
}

/// One look at a part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used {
    cpu_seconds: f64,
    threads: BTreeMap<String, f64>,
}

impl Part {
    pub(crate) fn look(&self) -> Used {
        let threads = Usage::of(self.pid).map(|usage| usage.threads).unwrap_or_default();
        let mut used = Used {
            threads: threads.into_iter().map(|(name, (_, ticks))| (name, ticks.seconds())).collect(),
            ..Used::default()
        };
        let mut left = vec![self.pid];
        while let Some(pid) = left.pop() {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            // What has ended and was waited for is in its parent's figures.
            used.cpu_seconds += cpu_seconds(&read("stat")).unwrap_or_default();
            let children = read(&format!("task/{pid}/children"));
            left.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        used
    }
}

impl Used {
    /// Since an earlier look, with CPU by thread where there are several.
    pub(crate) fn since(&self, earlier: &Self) -> Value {
        let mut threads: Vec<(&String, f64)> = self
            .threads
            .iter()
            .map(|(name, seconds)| (name, seconds - earlier.threads.get(name).copied().unwrap_or_default()))
            .filter(|(_, seconds)| *seconds > 0.0)
            .collect();
        threads.sort_by(|one, other| other.1.total_cmp(&one.1));
        json!({
            "cpu_seconds": self.cpu_seconds - earlier.cpu_seconds,
            "threads": threads.iter().map(|(name, seconds)| json!([name, seconds])).collect::<Vec<_>>(),
        })
    }
}

/// User and system time of a process and of its children that have ended, from `/proc/PID/stat`: the 14th to 17th field
/// of proc_pid_stat(5). The second is a name that may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    (ticks.len() == 4).then(|| proc::seconds(ticks.iter().sum()))
}

/// What the disk under `path` has written so far, for whomever. What `/proc/PID/io` has of a process is no measure of it:
/// there a file system with large folios counts all of one each time that a byte of it is written.
pub(crate) fn disk_written_bytes(path: &Path) -> Option<u64> {
    let device = fs::metadata(path).ok()?.dev();
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    written_bytes(&fs::read_to_string("/proc/diskstats").ok()?, device)
}

/// The tenth field of a disk's line, in sectors of 512 bytes whatever its own are.
fn written_bytes(diskstats: &str, (major, minor): (u32, u32)) -> Option<u64> {
    const SECTOR_BYTES: u64 = 512;
    diskstats.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let is_it = fields.next()?.parse() == Ok(major) && fields.next()?.parse() == Ok(minor);
        is_it.then(|| Some(fields.nth(7)?.parse::<u64>().ok()? * SECTOR_BYTES)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_that_have_ended_count() {
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 980 0 0 0 100 20 30 4 20 0 4 0 100 1000 200";
        let ticks = cpu_seconds(stat).unwrap() / proc::seconds(1);
        assert!((ticks - 154.0).abs() < 1e-6);
        assert_eq!(cpu_seconds("12 (short) S 1"), None);
    }

    #[test]
    fn a_disk_is_known_by_its_numbers() {
        let diskstats = "   7  0 loop0 1 0 2 3 4 0 5 6 0 7 8\n 254  0 vda 10 1 20 2 30 3 40 4 0 5 6\n";
        assert_eq!(written_bytes(diskstats, (254, 0)), Some(40 * 512));
        assert_eq!(written_bytes(diskstats, (254, 1)), None);
    }

    #[test]
    fn what_a_process_has_used_grows() {
        let part = Part { name: "this", pid: std::process::id() };
        let before = part.look();
        let began = std::time::Instant::now();
        let used = loop {
            let used = part.look().since(&before);
            if used["cpu_seconds"].as_f64().unwrap() > 0.0 || began.elapsed().as_secs() > 10 {
                break used;
            }
        };
        assert!(used["cpu_seconds"].as_f64().unwrap() > 0.0, "{used}");
    }
}
