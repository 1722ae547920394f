//! Who a client certificate speaks for: the SAN URI, the one field that is made for names of this sort.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use crate::{InvalidPrincipal, Kind, Principal};

/// Bytes of a SHA-256 digest.
const DIGEST_BYTES: usize = 32;

/// What stands before `device:ID` in a SAN URI. Compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct UriPrefix(pub String);

impl Default for UriPrefix {
    fn default() -> Self {
        Self("urn:wardline:".to_owned())
    }
}

/// The principal in a certificate whose chain TLS has verified: the one SAN URI that begins with `prefix`.
///
/// # Errors
/// When it is no X.509 certificate, when no or more than one URI begins with `prefix`, and when the rest names no
/// principal or one of the broker's own.
pub fn principal_from_certificate(
    certificate: &CertificateDer<'_>,
    prefix: &UriPrefix,
) -> Result<Principal, CertificateError> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|_| CertificateError::Malformed)?;
    let mut names = parsed.valid_uri_names().filter_map(|uri| uri.strip_prefix(prefix.0.as_str()));
    let name = names.next().ok_or_else(|| CertificateError::NoName(prefix.0.clone()))?;
    if names.next().is_some() {
        return Err(CertificateError::SeveralNames(prefix.0.clone()));
    }
    let principal: Principal = name.parse()?;
    if principal.kind() == Kind::Plugin {
        return Err(CertificateError::Plugin);
    }
    Ok(principal)
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not DER of an X.509 v3 certificate.
    #[error("the client certificate cannot be read")]
    Malformed,
    /// No SAN URI with the prefix.
    #[error(
        "the client certificate has no SAN URI that begins with {0}: issue it with one, as in {0}device:mon-12"
    )]
    NoName(String),
    /// More than one.
    #[error("the client certificate has several SAN URIs that begin with {0}: issue it with exactly one")]
    SeveralNames(String),
    /// The URI goes on with something else.
    #[error("the client certificate's SAN URI names no principal: {0}")]
    Principal(#[from] InvalidPrincipal),
    /// Claims to be a part of the broker.
    #[error("the client certificate claims to be a plugin; these are parts of the broker and never connect")]
    Plugin,
}

/// SHA-256 of a certificate's DER: what `cnf."x5t#S256"` binds a token to (RFC 8705 section 3.1).
/// Reads and prints as base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thumbprint([u8; DIGEST_BYTES]);

impl Thumbprint {
    /// Of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; DIGEST_BYTES];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl FromStr for Thumbprint {
    type Err = InvalidThumbprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidThumbprint)?;
        bytes.try_into().map(Self).map_err(|_| InvalidThumbprint)
    }
}

/// Not 32 bytes in base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a thumbprint (x5t#S256) is the SHA-256 of a certificate in base64url without padding, 43 characters"
)]
pub struct InvalidThumbprint;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn name(uris: &[&str]) -> Result<String, CertificateError> {
        principal_from_certificate(&certificate(uris), &UriPrefix::default()).map(|p| p.to_string())
    }

    #[test]
    fn the_one_uri_with_the_prefix_is_the_principal() {
        assert_eq!(name(&["urn:wardline:device:mon-12"]).unwrap(), "device:mon-12");
        assert_eq!(name(&["https://hospital.example/x", "urn:wardline:staff:n.ito"]).unwrap(), "staff:n.ito");
        let own = UriPrefix("https://id.hospital.example/".to_owned());
        let der = certificate(&["https://id.hospital.example/service:lab", "urn:wardline:device:mon-12"]);
        assert_eq!(principal_from_certificate(&der, &own).unwrap().as_str(), "service:lab");
    }

    #[test]
    fn none_several_or_wrong_names_are_refused() {
        let prefix = || UriPrefix::default().0;
        assert_eq!(name(&[]), Err(CertificateError::NoName(prefix())));
        assert_eq!(name(&["urn:other:device:a"]), Err(CertificateError::NoName(prefix())));
        let several = ["urn:wardline:device:a", "urn:wardline:device:b"];
        assert_eq!(name(&several), Err(CertificateError::SeveralNames(prefix())));
        let twice = ["urn:wardline:device:a", "urn:wardline:device:a"];
        assert_eq!(name(&twice), Err(CertificateError::SeveralNames(prefix())));
        assert_eq!(
            name(&["urn:wardline:device:a/b"]),
            Err(CertificateError::Principal(InvalidPrincipal::Id))
        );
        assert_eq!(name(&["urn:wardline:mon-12"]), Err(CertificateError::Principal(InvalidPrincipal::Kind)));
        assert_eq!(name(&["urn:wardline:plugin:escalation"]), Err(CertificateError::Plugin));
        let rubbish = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        let refused = principal_from_certificate(&rubbish, &UriPrefix::default());
        assert_eq!(refused, Err(CertificateError::Malformed));
    }

    #[test]
    fn a_thumbprint_reads_and_prints_the_same() {
        let thumbprint = Thumbprint::of(&CertificateDer::from(b"abc".as_slice()));
        // SHA-256("abc"), FIPS 180-2 appendix B.1.
        assert_eq!(thumbprint.to_string(), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
        assert_eq!(thumbprint.to_string().parse(), Ok(thumbprint));
        for text in ["", "ungWv48Bz", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0"] {
            assert_eq!(text.parse::<Thumbprint>(), Err(InvalidThumbprint), "{text:?}");
        }
    }
}
