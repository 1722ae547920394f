//! The PROXY protocol, versions 1 and 2: a proxy's word on where the connection it passes on comes from.
//!
//! The specification is <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>. The header stands before everything
//! else, TLS included, so it is read to its last byte and not one further.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What version 1 begins with, and its shortest and longest line, its end included.
const V1_START: &[u8] = b"PROXY ";
const V1_BYTES_MIN: usize = b"PROXY UNKNOWN\r\n".len();
const V1_BYTES_MAX: usize = 107;
const V1_END: &[u8] = b"\r\n";

/// What version 2 begins with, and how much of it is always there.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;
/// Addresses and extensions after the fixed part. Proxies keep to one segment; a client's certificate name may need more.
const V2_VARIABLE_BYTES_MAX: usize = 4_096;

/// Commands of version 2.
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

/// Families of version 2.
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;
/// Two paths.
const UNIX_ADDRESS_BYTES: usize = 216;

/// The extension that holds a CRC32c of the whole header, computed with zeros in its own place.
const CRC32C: u8 = 0x03;
const CRC32C_BYTES: usize = 4;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The socket's other end: the proxy checks on us, or cannot tell.
    Socket,
    /// Behind the proxy, at this address.
    Behind(SocketAddr),
}

/// How far a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least so many bytes of it are missing.
    Needs(usize),
    /// It is complete.
    Done(Source),
}

/// Why a header is not one.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It ended before its header did.
    #[error("the connection ended before the PROXY protocol header did")]
    Ended,
    /// The socket failed.
    #[error("reading the PROXY protocol header: {0}")]
    Io(#[from] io::Error),
    /// Something stands in its place.
    #[error("no PROXY protocol header; have the proxy send one, or take proxy_protocol off this listener")]
    Missing,
    /// It breaks the rules of its version.
    #[error("malformed PROXY protocol header of version {version}: {what}")]
    Malformed {
        /// 1 or 2.
        version: u8,
        /// What is wrong.
        what: &'static str,
    },
}

/// Reads a header off the front of `stream`, and nothing of what follows it.
///
/// # Errors
/// What is there instead of a header.
pub async fn read_source<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Source, ProxyError> {
    let mut header = Vec::with_capacity(V1_BYTES_MAX);
    loop {
        match parse(&header)? {
            Progress::Done(source) => return Ok(source),
            Progress::Needs(bytes) => {
                if (&mut *stream).take(bytes as u64).read_buf(&mut header).await? == 0 {
                    return Err(ProxyError::Ended);
                }
            }
        }
    }
}

/// Looks at what has come of a header; whoever reads no more than it says it needs never reads past the header.
///
/// # Errors
/// As soon as it is sure that this is no header.
pub fn parse(bytes: &[u8]) -> Result<Progress, ProxyError> {
    if bytes.is_empty() {
        // The least that either version has.
        return Ok(Progress::Needs(V1_BYTES_MIN));
    }
    if agree(bytes, V1_START) {
        parse_v1(bytes)
    } else if agree(bytes, V2_SIGNATURE) {
        parse_v2(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

/// Whether the two are equal as far as both go.
fn agree(left: &[u8], right: &[u8]) -> bool {
    left.iter().zip(right).all(|(left, right)| left == right)
}

fn parse_v1(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let malformed = |what| ProxyError::Malformed { version: 1, what };
    let Some(end) = bytes.windows(V1_END.len()).position(|pair| pair == V1_END) else {
        let ending = if bytes.ends_with(b"\r") { 1 } else { V1_END.len() };
        let needs = ending.max(V1_BYTES_MIN.saturating_sub(bytes.len()));
        if bytes.len() + needs > V1_BYTES_MAX {
            return Err(malformed("no end of line within 107 bytes"));
        }
        return Ok(Progress::Needs(needs));
    };
    let line = bytes.get(V1_START.len()..end).and_then(|line| std::str::from_utf8(line).ok());
    let line = line.ok_or(malformed("not a line of text"))?;
    let mut words = line.split(' ');
    let (source, destination): (Option<IpAddr>, Option<IpAddr>) = match words.next() {
        // What else the line may say is to be ignored.
        Some("UNKNOWN") => return Ok(Progress::Done(Source::Socket)),
        Some("TCP4") => (
            words.next().and_then(|word| word.parse::<Ipv4Addr>().ok()).map(IpAddr::V4),
            words.next().and_then(|word| word.parse::<Ipv4Addr>().ok()).map(IpAddr::V4),
        ),
        Some("TCP6") => (
            words.next().and_then(|word| word.parse::<Ipv6Addr>().ok()).map(IpAddr::V6),
            words.next().and_then(|word| word.parse::<Ipv6Addr>().ok()).map(IpAddr::V6),
        ),
        _ => return Err(malformed("neither TCP4, TCP6 nor UNKNOWN")),
    };
    let (source_port, destination_port) = (words.next().and_then(port), words.next().and_then(port));
    match (source, destination, source_port, destination_port, words.next()) {
        (Some(source), Some(_), Some(source_port), Some(_), None) => {
            Ok(Progress::Done(Source::Behind(SocketAddr::new(source.to_canonical(), source_port))))
        }
        _ => Err(malformed("not two addresses and two ports")),
    }
}

/// A port without sign and leading zeros.
fn port(word: &str) -> Option<u16> {
    let plain = word == "0" || word.starts_with(|first: char| matches!(first, '1'..='9'));
    word.parse().ok().filter(|_| plain)
}

fn parse_v2(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let malformed = |what| ProxyError::Malformed { version: 2, what };
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(Progress::Needs(V2_FIXED_BYTES - bytes.len()));
    };
    let [.., version_and_command, family, length_high, length_low] = *fixed;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if version_and_command >> 4 != 2 {
        return Err(malformed("its version is not 2"));
    }
    if length > V2_VARIABLE_BYTES_MAX {
        return Err(malformed("over 4096 bytes of addresses and extensions"));
    }
    let command = version_and_command & 0x0F;
    if command != LOCAL && command != PROXY {
        return Err(malformed("its command is neither LOCAL nor PROXY"));
    }
    let Some(variable) = rest.get(..length) else {
        return Ok(Progress::Needs(length - rest.len()));
    };
    if command == LOCAL || family == UNSPECIFIED {
        // Whatever follows is to be ignored.
        return Ok(Progress::Done(Source::Socket));
    }
    let mut rest = variable;
    let source = match family {
        TCP4 => source_v4(&mut rest),
        TCP6 => source_v6(&mut rest),
        // A path on the proxy's machine is no address to us.
        UNIX => rest.split_off(..UNIX_ADDRESS_BYTES).map(|_| Source::Socket),
        _ => return Err(malformed("its protocol is not a stream over IPv4, IPv6 or Unix sockets")),
    };
    let source = source.ok_or(malformed("too short for its addresses"))?;
    check_extensions(bytes, V2_FIXED_BYTES + length - rest.len(), V2_FIXED_BYTES + length)
        .map_err(malformed)?;
    Ok(Progress::Done(source))
}

/// Takes source address, destination address, source port and destination port; gives the source.
fn source_v4(block: &mut &[u8]) -> Option<Source> {
    let (source, _) = (block.try_get_u32().ok()?, block.try_get_u32().ok()?);
    let (port, _) = (block.try_get_u16().ok()?, block.try_get_u16().ok()?);
    Some(Source::Behind(SocketAddr::new(Ipv4Addr::from(source).into(), port)))
}

fn source_v6(block: &mut &[u8]) -> Option<Source> {
    let (source, _) = (block.try_get_u128().ok()?, block.try_get_u128().ok()?);
    let (port, _) = (block.try_get_u16().ok()?, block.try_get_u16().ok()?);
    Some(Source::Behind(SocketAddr::new(Ipv6Addr::from(source).to_canonical(), port)))
}

/// Walks over the extensions at `header[at..end]`; a checksum among them must be right.
fn check_extensions(header: &[u8], mut at: usize, end: usize) -> Result<(), &'static str> {
    const CUT: &str = "an extension goes beyond the header's end";
    while at < end {
        let &[kind, high, low] = header.get(at..).and_then(<[u8]>::first_chunk).ok_or(CUT)?;
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        let bytes = header.get(..end).and_then(|header| header.get(value..at)).ok_or(CUT)?;
        if kind == CRC32C {
            let stated: [u8; CRC32C_BYTES] = bytes.try_into().map_err(|_| "a checksum is four bytes")?;
            let (before, after) = (header.get(..value).ok_or(CUT)?, header.get(at..end).ok_or(CUT)?);
            let sum = crc32c::crc32c_append(crc32c::crc32c(before), &[0; CRC32C_BYTES]);
            if crc32c::crc32c_append(sum, after) != u32::from_be_bytes(stated) {
                return Err("its checksum is wrong");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
