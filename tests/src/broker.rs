//! A running `wardline serve`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::Signal;

use crate::{DEADLINE, Process, Site, binary};

/// The longest that a broker may take to read a long journal.
const RECOVERY_MAX: Duration = Duration::from_secs(600);

/// `wardline serve` on a [`Site`]; killed when dropped, its data stay with the site.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    ready: String,
}

/// How a `wardline` ended.
#[derive(Debug)]
pub struct Exit {
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// All it said, on both streams.
    pub said: String,
}

impl Broker {
    /// Starts it and waits until it accepts connections.
    ///
    /// # Panics
    /// If it does not; the message has all it said.
    pub fn start(site: &Site) -> Self {
        Self::start_with(site, &[])
    }

    /// [`Self::start`] with environment variables such as `("WARDLINE__LIMITS__MAX_PACKET", "4KiB")`.
    pub fn start_with(site: &Site, environment: &[(&str, &str)]) -> Self {
        Self::start_command(&mut serve(site, environment))
    }

    /// [`Self::start`] by a command that becomes `wardline serve`.
    pub fn start_command(command: &mut Command) -> Self {
        Self::start_within(DEADLINE, command)
    }

    /// [`Self::start_with`] where there is so much to recover that it may take long.
    pub fn recover(site: &Site, environment: &[(&str, &str)]) -> Self {
        Self::start_within(RECOVERY_MAX, &mut serve(site, environment))
    }

    fn start_within(time: Duration, command: &mut Command) -> Self {
        let process = Process::start(command);
        let ready = process.wait_for_within(time, "the line `ready`", |line| line.starts_with("ready"));
        Self { process, ready }
    }

    /// Starts one that is expected to give up, and returns its end.
    ///
    /// # Panics
    /// If it runs on.
    pub fn fail_to_start(site: &Site, environment: &[(&str, &str)]) -> Exit {
        let mut process = Process::start(&mut serve(site, environment));
        let status = process.wait();
        Exit { status: status.code(), said: process.said() }
    }

    /// Where the listener `name` listens, from the line `ready`.
    pub fn address(&self, name: &str) -> SocketAddr {
        let address = self.ready.split(' ').find_map(|word| {
            let (listener, url) = word.split_once('=')?;
            let (_, address) = url.split_once("://")?;
            (listener == name).then(|| address.parse().expect("an address follows the transport"))
        });
        address.unwrap_or_else(|| panic!("no listener `{name}` in: {}", self.ready))
    }

    /// The port of the listener `name`.
    pub fn port(&self, name: &str) -> u16 {
        self.address(name).port()
    }

    /// The body at `path` of the HTTP listener, and its status.
    pub fn http(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address("http")).expect("HTTP is listening");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        (status.expect("a status line"), body.unwrap_or_default())
    }

    /// The value of one series of `/metrics`.
    ///
    /// # Panics
    /// If there is no such series.
    pub fn metric<T: FromStr>(&self, series: &str) -> T {
        let (status, text) = self.http("/metrics");
        assert_eq!(status, 200, "{text}");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }

    /// Waits for a line of its log.
    pub fn wait_for_log(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.process.wait_for(what, wanted)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory of the process, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.proc_number("status", "VmRSS:") * 1_024
    }

    /// Memory that the process has asked for, touched or not, in bytes.
    pub fn data_bytes(&self) -> u64 {
        self.proc_number("status", "VmData:") * 1_024
    }

    /// What the process has had written to disk so far, in bytes.
    pub fn disk_write_bytes(&self) -> u64 {
        self.proc_number("io", "write_bytes:")
    }

    /// The number behind `label` in `/proc/PID/{file}`.
    fn proc_number(&self, file: &str, label: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).expect("it runs");
        let number = text.lines().find_map(|line| line.strip_prefix(label)?.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("Linux tells the number")
    }

    /// All it has said.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Has it read policy, keys, certificates and rules anew.
    pub fn reload(&self) {
        self.process.signal(Signal::HUP);
    }

    /// `kill -9`. Gives all it said.
    ///
    /// # Panics
    /// If it had ended by itself; the message has all it said.
    pub fn kill(self) -> String {
        kill(self.process)
    }

    /// Starts it, and `kill -9` after `time`, whatever it is doing then. Gives all it said.
    ///
    /// # Panics
    /// If it had ended by itself; the message has all it said.
    pub fn start_and_kill(site: &Site, environment: &[(&str, &str)], time: Duration) -> String {
        let process = Process::start(&mut serve(site, environment));
        // That nothing is waited for is the point: any instant will do.
        std::thread::sleep(time);
        kill(process)
    }

    /// SIGTERM, and its end.
    pub fn terminate(mut self) -> Exit {
        self.process.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for an end that it brings about itself.
    pub fn wait(&mut self) -> Exit {
        let status = self.process.wait();
        Exit { status: status.code(), said: self.process.said() }
    }
}

/// The command that becomes `wardline serve` on a site.
fn serve(site: &Site, environment: &[(&str, &str)]) -> Command {
    let mut command = binary::wardline();
    command.arg("serve").arg("--config").arg(site.config()).envs(environment.iter().copied());
    command
}

fn kill(mut process: Process) -> String {
    process.signal(Signal::KILL);
    let status = process.wait();
    let said = process.said();
    assert!(status.code().is_none(), "it had ended by itself ({status}):\n{said}");
    said
}
