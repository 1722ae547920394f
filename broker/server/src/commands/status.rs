//! `wardline status`: what a running broker says of itself.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use super::{Failure, Outcome};
use crate::{config::Config, status::Status};

/// How long it is waited for each step of an answer: a node that takes longer has stopped working.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer is never so long.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Options of `wardline status`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The broker's configuration, which says where its HTTP listener is
    #[arg(long, value_name = "FILE", required_unless_present = "url", conflicts_with = "url")]
    config: Option<PathBuf>,
    /// Address of the broker's HTTP listener, as http://127.0.0.1:9180
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Say it in JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command: exit 0 where the broker works.
pub fn run(args: Args) -> Outcome {
    let (address, journal) = locate(&args)?;
    let body = ask(address).map_err(|error| {
        let process = journal.and_then(|directory| wardline_journal::in_use_by(&directory));
        let holder = process.map(|pid| format!("; process {pid} has the journal open")).unwrap_or_default();
        Failure::failed(format!("no broker answers on http://{address}: {error}{holder}"))
    })?;
    let status: Status = serde_json::from_str(&body).map_err(|error| {
        Failure::failed(format!("what answers on http://{address} is no broker of this version: {error}"))
    })?;
    let said = if args.json { format!("{}\n", body.trim_end()) } else { status.to_string() };
    io::stdout()
        .write_all(said.as_bytes())
        .map_err(|error| Failure::failed(format!("cannot write the answer: {error}")))?;
    match status.failure {
        None => Ok(()),
        Some(_) => Err(Failure::failed("")),
    }
}

/// Where to ask, and the journal's directory where that is known.
fn locate(args: &Args) -> Result<(SocketAddr, Option<PathBuf>), Failure> {
    if let Some(url) = &args.url {
        let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let address = address.parse().map_err(|_| {
            Failure::usage(format!("`{url}` is no address of a broker; write http://127.0.0.1:9180"))
        })?;
        return Ok((address, None));
    }
    let path = args.config.as_deref().unwrap_or_else(|| "wardline.toml".as_ref());
    let config = Config::load(path, crate::config::environment())
        .map_err(|problems| Failure::usage(problems.to_string()))?;
    match config.http {
        Some(address) if address.port() != 0 => Ok((reachable(address), Some(config.journal.directory))),
        Some(_) => Err(Failure::usage(
            "the configuration lets the system choose the HTTP port: take it from the line `ready`, as --url",
        )),
        None => Err(Failure::usage(
            "the broker has no HTTP listener to be asked on: give `bind` in [http] an address",
        )),
    }
}

/// Who listens on every address is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => {}
        IpAddr::V4(_) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
    }
    address
}

/// The body of `GET /status`. HTTP 1.0, so that it comes as it is and the connection ends with it.
fn ask(address: SocketAddr) -> Result<String, String> {
    let said = |error: io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(said)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(said)?;
    write!(stream, "GET /status HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n").map_err(said)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(said)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("it says nothing that is HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("it answers `{status}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        let asked = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:9180"), "127.0.0.1:9180");
        assert_eq!(asked("[::]:9180"), "[::1]:9180");
        assert_eq!(asked("10.1.2.3:9180"), "10.1.2.3:9180");
    }

    #[test]
    fn an_address_that_is_none_is_wrong_usage() {
        let args = Args { config: None, url: Some("ward".to_owned()), json: false };
        assert_eq!(run(args).unwrap_err().status, 2);
    }
}
