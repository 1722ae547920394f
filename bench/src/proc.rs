//! What Linux knows of a process, and which process listens on a port: `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use rustix::param::{clock_ticks_per_second, page_size};

/// CPU time, in ticks of the kernel's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// In the program.
    pub user: u64,
    /// In the kernel, on its behalf.
    pub system: u64,
}

impl Ticks {
    /// Both, as seconds.
    pub fn seconds(&self) -> f64 {
        seconds(self.user) + seconds(self.system)
    }

    /// From an earlier reading to this.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// Ticks as seconds.
pub fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

/// One reading of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of all its threads, also those that have ended.
    pub cpu: Ticks,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// By name of thread: how many there are, and their CPU time.
    pub threads: BTreeMap<String, (u32, Ticks)>,
}

impl Usage {
    /// Of a process; `None` when there is no such process, or it is not ours to look at.
    pub fn of(pid: u32) -> Option<Self> {
        let (_, cpu) = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        let pages = parse_statm(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)?;
        let mut threads: BTreeMap<String, (u32, Ticks)> = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            // A thread may end while it is looked at.
            let Ok(text) = fs::read_to_string(task.path().join("stat")) else { continue };
            let Some((name, ticks)) = parse_stat(&text) else { continue };
            let (count, sum) = threads.entry(name.to_owned()).or_default();
            *count += 1;
            sum.user += ticks.user;
            sum.system += ticks.system;
        }
        Some(Self { cpu, resident_bytes: pages * page_size() as u64, threads })
    }

    /// CPU time by name of thread since an earlier reading; most first.
    pub fn threads_since(&self, earlier: &Self) -> Vec<(String, u32, Ticks)> {
        let mut threads: Vec<_> = self
            .threads
            .iter()
            .map(|(name, (count, ticks))| {
                let before = earlier.threads.get(name).map(|(_, ticks)| *ticks).unwrap_or_default();
                (name.clone(), *count, ticks.since(&before))
            })
            .collect();
        threads.sort_by_key(|(_, _, ticks)| std::cmp::Reverse(ticks.user + ticks.system));
        threads
    }
}

/// What a process is called.
pub fn name(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text).map(|(name, _)| name.to_owned())
}

/// Name and CPU time from `/proc/PID/stat`. The name is in parentheses and may hold any character, these too.
pub fn parse_stat(text: &str) -> Option<(&str, Ticks)> {
    let (before, after) = text.rsplit_once(") ")?;
    let (_, name) = before.split_once(" (")?;
    // `after` begins with the third field; user and system time are the 14th and 15th of proc_pid_stat(5).
    let mut fields = after.split_ascii_whitespace().skip(11);
    let user = fields.next()?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    Some((name, Ticks { user, system }))
}

/// Resident pages from `/proc/PID/statm`.
pub fn parse_statm(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The process that listens where a client has connected to; `None` if that is not on this machine, or not ours to look at.
pub fn listener(address: SocketAddr) -> Option<u32> {
    let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| parse_listeners(&text, address.port()))
        .collect();
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let listens = descriptors.any(|descriptor| {
            let Ok(target) = fs::read_link(descriptor.path()) else { return false };
            wanted.iter().any(|wanted| target.as_os_str() == wanted.as_str())
        });
        listens.then_some(pid)
    })
}

/// Inodes of sockets that listen on a port, from `/proc/net/tcp` or `/proc/net/tcp6`.
pub fn parse_listeners(text: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (_, local_port) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let is_it = u16::from_str_radix(local_port, 16) == Ok(port) && state == LISTEN;
        is_it.then(|| fields.nth(5)?.parse().ok()).flatten()
    };
    text.lines().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat =
            "1234 (tokio (rt) 1) S 1 1234 1234 0 -1 4194560 980 0 0 0 321 45 0 0 20 0 4 0 100 1000 200\n";
        assert_eq!(parse_stat(stat), Some(("tokio (rt) 1", Ticks { user: 321, system: 45 })));
        assert_eq!(parse_stat("1234 (cut"), None);
        assert_eq!(parse_stat("1234 (short) S 1 2 3"), None);
    }

    #[test]
    fn resident_pages_are_the_second_number() {
        assert_eq!(parse_statm("2345 678 90 1 0 2 0\n"), Some(678));
        assert_eq!(parse_statm(""), None);
    }

    #[test]
    fn only_who_listens_on_the_port_is_found() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31337 1 0 100 0 0 10 0
   1: 0100007F:075B 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 31338 1 0 20 4 30 10 -1
   2: 0100007F:075C 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31339 1 0 100 0 0 10 0
";
        assert_eq!(parse_listeners(tcp, 0x75B), [31337]);
        let tcp6 = "header
   0: 00000000000000000000000000000000:22B3 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 77 1 0 100
   1: nonsense
";
        assert_eq!(parse_listeners(tcp6, 8883), [77]);
        assert_eq!(parse_listeners(tcp6, 1883), [0; 0]);
    }

    #[test]
    fn this_process_finds_itself_by_its_port_and_sees_itself_work() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let pid = listener(socket.local_addr().unwrap());
        assert_eq!(pid, Some(std::process::id()));
        let before = Usage::of(std::process::id()).unwrap();
        assert!(before.resident_bytes > 1 << 20 && !before.threads.is_empty());
        let mut after = before.clone();
        let began = std::time::Instant::now();
        while after.cpu == before.cpu && began.elapsed().as_secs() < 10 {
            after = Usage::of(std::process::id()).unwrap();
        }
        assert!(after.cpu.since(&before.cpu).seconds() > 0.0);
        let by_thread = after.threads_since(&before);
        assert!(by_thread.windows(2).all(|pair| pair[0].2.seconds() >= pair[1].2.seconds()));
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
