//! The dates in certificates and revocation lists (RFC 5280), and nothing else of them.
//!
//! Whether a chain is good is decided by TLS; this only tells a person in time. What it cannot read it leaves out, as the
//! file's user has its own, better words for that.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_VERSION: u8 = 0xA0;

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

/// Of every certificate in a PEM file.
pub(super) fn certificates(path: &Path) -> Vec<Period> {
    let pem = fs::read(path).unwrap_or_default();
    CertificateDer::pem_slice_iter(&pem).flatten().filter_map(|certificate| period(&certificate)).collect()
}

/// When each revocation list in a PEM file should have been replaced; a list need not say.
pub(super) fn next_updates(path: &Path) -> Vec<Timestamp> {
    let pem = fs::read(path).unwrap_or_default();
    CertificateRevocationListDer::pem_slice_iter(&pem)
        .flatten()
        .filter_map(|list| next_update(&list))
        .collect()
}

/// `validity` of a TBSCertificate [RFC 5280 4.1].
fn period(certificate: &[u8]) -> Option<Period> {
    let mut fields = Der(Der(Der(certificate).next()?.content).next()?.content);
    let first = fields.next()?;
    if first.tag == EXPLICIT_VERSION {
        fields.next()?;
    }
    // After the serial number: signature algorithm, issuer, validity.
    let validity = fields.nth(2)?;
    let mut times = Der(validity.content);
    Some(Period { from: time(&times.next()?)?, until: time(&times.next()?)? })
}

/// `nextUpdate` of a TBSCertList [RFC 5280 5.1].
fn next_update(list: &[u8]) -> Option<Timestamp> {
    let mut fields = Der(Der(Der(list).next()?.content).next()?.content);
    let first = fields.next()?;
    if first.tag == INTEGER {
        fields.next()?;
    }
    // After the signature algorithm: issuer, thisUpdate, nextUpdate.
    time(&fields.nth(2)?)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` [RFC 5280 4.1.2.5].
fn time(element: &Element<'_>) -> Option<Timestamp> {
    let digits = std::str::from_utf8(element.content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match element.tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let pair = |index: usize| rest.get(2 * index..2 * index + 2)?.parse::<i8>().ok();
    let civil = DateTime::new(year, pair(0)?, pair(1)?, pair(2)?, pair(3)?, pair(4)?, 0).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// One element of DER.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

/// Elements one after another; ends where the bytes are no DER.
struct Der<'a>(&'a [u8]);

impl<'a> Iterator for Der<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            // Four octets of length are more than any file that is read here.
            let length = (octets.len() <= 4)
                .then(|| octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)))?;
            (length, rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, content })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wardline_certs::{CRL_LIFETIME, Overwrite, Subject};

    use super::*;

    #[test]
    fn the_dates_are_those_that_were_asked_for() {
        let directory = tempfile::TempDir::new().unwrap();
        let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let (authority, _) =
            wardline_certs::init(directory.path(), &["localhost".to_owned()], Overwrite::No, now).unwrap();
        let lifetime = Duration::from_secs(90 * 24 * 3_600);
        authority.issue(&Subject::device("mon-1").unwrap(), lifetime, Overwrite::No, now).unwrap();
        // One beyond 2049 is written as GeneralizedTime.
        let later: Timestamp = "2050-01-01T00:00:00Z".parse().unwrap();
        let elsewhere = tempfile::TempDir::new().unwrap();
        wardline_certs::init(elsewhere.path(), &["localhost".to_owned()], Overwrite::No, later).unwrap();

        let [device] = certificates(&directory.path().join("device-mon-1.pem"))[..] else {
            panic!("one certificate")
        };
        assert_eq!(device.until, now.checked_add(lifetime).unwrap());
        assert!(device.from <= now && device.until > now);
        let [late] = certificates(&elsewhere.path().join("server.pem"))[..] else {
            panic!("one certificate")
        };
        assert!(late.from <= later && late.until > later);
        let next = now.checked_add(CRL_LIFETIME).unwrap();
        assert_eq!(next_updates(&directory.path().join("ca.crl")), [next]);
    }

    #[test]
    fn any_bytes_are_survived() {
        let directory = tempfile::TempDir::new().unwrap();
        let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        wardline_certs::init(directory.path(), &["localhost".to_owned()], Overwrite::No, now).unwrap();
        let der = CertificateDer::from_pem_file(directory.path().join("server.pem")).unwrap();
        for end in 0..der.len() {
            assert_eq!(period(&der[..end]), None, "{end} bytes");
        }
        for position in 0..der.len() {
            let mut changed = der.to_vec();
            changed[position] ^= 0xFF;
            let _ = (period(&changed), next_update(&changed));
        }
    }
}
