//! How much memory the process has, where the system tells.

use std::fs;

/// Of this process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident_bytes: u64,
    /// The most it was.
    pub resident_bytes_peak: u64,
}

/// What the system tells; `None` where there is no `/proc`. Reads no disk.
pub fn used() -> Option<Memory> {
    parse(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<Memory> {
    let kibibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
    };
    Some(Memory { resident_bytes: kibibytes("VmRSS:")?, resident_bytes_peak: kibibytes("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_proc_are_read() {
        let status = "Name:\twardline\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        let memory = Memory { resident_bytes: 1 << 20, resident_bytes_peak: 2 << 20 };
        assert_eq!(parse(status), Some(memory));
        assert_eq!(parse("Name:\twardline\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_some() {
        let memory = used().unwrap();
        assert!(memory.resident_bytes > 0 && memory.resident_bytes_peak >= memory.resident_bytes);
    }
}
