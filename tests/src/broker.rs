//! A running `wardline serve`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::Signal;

use crate::{DEADLINE, Process, Site, binary};

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
        let mut command = binary::wardline();
        Self::start_command(
            command.arg("serve").arg("--config").arg(site.config()).envs(environment.iter().copied()),
        )
    }

    /// [`Self::start`] by a command that becomes `wardline serve`.
    pub fn start_command(command: &mut Command) -> Self {
        let process = Process::start(command);
        let ready = process.wait_for("the line `ready`", |line| line.starts_with("ready"));
        Self { process, ready }
    }

    /// Starts one that is expected to give up, and returns its end.
    ///
    /// # Panics
    /// If it runs on.
    pub fn fail_to_start(site: &Site, environment: &[(&str, &str)]) -> Exit {
        let mut command = binary::wardline();
        command.arg("serve").arg("--config").arg(site.config()).envs(environment.iter().copied());
        let mut process = Process::start(&mut command);
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

    /// Waits for a line of its log.
    pub fn wait_for_log(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.process.wait_for(what, wanted)
    }

    /// Resident memory of the process, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux has this line");
        let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kibibytes.expect("a number of KiB") * 1_024
    }

    /// All it has said.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Has it read policy, keys, certificates and rules anew.
    pub fn reload(&self) {
        self.process.signal(Signal::HUP);
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
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
