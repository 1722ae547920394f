//! An issuer's public keys, from a JWK set (RFC 7517), checked once when loaded.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use crate::shorten;

/// Bytes of a JWK set; identity providers publish a handful of keys, about 2 KiB each with certificates.
const SET_BYTES_MAX: usize = 256 * 1024;
/// Keys in a set.
const KEYS_MAX: usize = 64;
/// Bytes of an Ed25519 public key, and of a coordinate on P-256.
const POINT_BYTES: usize = 32;
/// Bytes of an RSA modulus: 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The signature algorithms a token may have: asymmetric, so that whoever can verify cannot issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Algorithm {
    /// Ed25519.
    EdDSA,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::EdDSA, Self::ES256, Self::PS256, Self::RS256];

    /// As in a token's `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDSA => "EdDSA",
            Self::ES256 => "ES256",
            Self::PS256 => "PS256",
            Self::RS256 => "RS256",
        }
    }

    pub(crate) fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::PS256 => jsonwebtoken::Algorithm::PS256,
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|a| a.as_str() == text).ok_or(UnknownAlgorithm)
    }
}

impl TryFrom<String> for Algorithm {
    type Error = UnknownAlgorithm;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Symmetric, `none`, or not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token's algorithm is one of EdDSA, ES256, PS256, RS256")]
pub struct UnknownAlgorithm;

/// The keys of one issuer.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
pub(crate) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(crate) material: DecodingKey,
}

impl Key {
    pub(crate) fn takes(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

#[derive(Deserialize)]
struct SetJson {
    keys: Vec<KeyJson>,
}

#[derive(Deserialize)]
struct KeyJson {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// Private part: of no use here, and a leak.
    d: Option<serde::de::IgnoredAny>,
}

impl Keys {
    /// Reads a JWK set. Keys that cannot verify by one of `allowed` (for encryption, on other curves) are left out.
    pub(crate) fn parse(set: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyError> {
        if set.len() > SET_BYTES_MAX {
            return Err(KeyError::TooLarge);
        }
        let set: SetJson = serde_json::from_slice(set).map_err(|e| KeyError::Malformed(e.to_string()))?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let mut keys: Vec<Key> = Vec::new();
        for (index, json) in set.keys.iter().enumerate() {
            let name = || {
                json.kid.as_deref().map_or_else(|| format!("number {}", index + 1), |k| shorten(k).to_owned())
            };
            let Some(key) = json.read(allowed).map_err(|fault| fault.of(name()))? else { continue };
            if keys.iter().any(|other| other.id == key.id) {
                return Err(KeyError::Ambiguous(name()));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self(keys))
    }

    /// The key with that `kid`; without one, the only key there is.
    pub(crate) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match (kid, self.0.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(kid), keys) => keys.iter().find(|key| key.id.as_deref() == Some(kid)),
        }
    }
}

enum Fault {
    Symmetric,
    Private,
    Invalid(&'static str),
}

impl Fault {
    fn of(self, key: String) -> KeyError {
        match self {
            Self::Symmetric => KeyError::Symmetric(key),
            Self::Private => KeyError::Private(key),
            Self::Invalid(part) => KeyError::Invalid { key, part },
        }
    }
}

impl KeyJson {
    fn read(&self, allowed: &[Algorithm]) -> Result<Option<Key>, Fault> {
        if self.kty == "oct" {
            return Err(Fault::Symmetric);
        }
        if self.d.is_some() {
            return Err(Fault::Private);
        }
        let curve = self.crv.as_deref();
        let able: &[Algorithm] = match (self.kty.as_str(), curve) {
            ("OKP", Some("Ed25519")) => &[Algorithm::EdDSA],
            ("EC", Some("P-256")) => &[Algorithm::ES256],
            ("RSA", _) => &[Algorithm::PS256, Algorithm::RS256],
            _ => &[],
        };
        let meant = |algorithm: &Algorithm| self.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str());
        let algorithms: Vec<Algorithm> =
            able.iter().copied().filter(|a| meant(a) && allowed.contains(a)).collect();
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        if algorithms.is_empty() || !for_signatures {
            return Ok(None);
        }
        let material = match self.kty.as_str() {
            "OKP" => DecodingKey::from_ed_der(&number(&self.x, "x", |l| l == POINT_BYTES)?),
            "EC" => {
                let mut point = vec![UNCOMPRESSED_POINT];
                point.extend(number(&self.x, "x", |l| l == POINT_BYTES)?);
                point.extend(number(&self.y, "y", |l| l == POINT_BYTES)?);
                DecodingKey::from_ec_der(&point)
            }
            _ => {
                let modulus = number(&self.n, "n", |l| MODULUS_BYTES.contains(&l))?;
                let exponent = number(&self.e, "e", |l| (1..=8).contains(&l))?;
                DecodingKey::from_rsa_raw_components(&modulus, &exponent)
            }
        };
        Ok(Some(Key { id: self.kid.clone(), algorithms, material }))
    }
}

/// SEC 1 section 2.3.3: first byte of a point whose both coordinates follow.
const UNCOMPRESSED_POINT: u8 = 0x04;

fn number(text: &Option<String>, part: &'static str, fits: impl Fn(usize) -> bool) -> Result<Vec<u8>, Fault> {
    text.as_deref()
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .filter(|bytes| fits(bytes.len()))
        .ok_or(Fault::Invalid(part))
}

/// Why a JWK set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// More than 256 KiB.
    #[error("the key set has more than {SET_BYTES_MAX} bytes: is it a JWK set?")]
    TooLarge,
    /// More than 64 keys.
    #[error("the key set has more than {KEYS_MAX} keys: remove those that are retired")]
    TooMany,
    /// Not JSON, or not a JWK set.
    #[error("it is not a JWK set ({{\"keys\":[…]}}): {0}")]
    Malformed(String),
    /// Two keys have the same `kid`, or both have none.
    #[error("key {0} has the kid of another key, or both have none: give each its own")]
    Ambiguous(String),
    /// A shared secret among public keys.
    #[error(
        "key {0} is a symmetric secret: whoever verifies with it could issue tokens; use an asymmetric key"
    )]
    Symmetric(String),
    /// A private key among public keys.
    #[error("key {0} has its private part \"d\": remove it here, and replace the key if others have seen it")]
    Private(String),
    /// A part is missing or has the wrong length.
    #[error("key {key}: \"{part}\" is missing or has the wrong length")]
    Invalid {
        /// Its `kid`, or its place in the set.
        key: String,
        /// The JWK member.
        part: &'static str,
    },
    /// Nothing remains.
    #[error("the key set has no signature key for the allowed algorithms")]
    Empty,
    /// The issuer's own settings leave nothing that could verify.
    #[error("the list of algorithms is empty: name at least one of EdDSA, ES256, PS256, RS256")]
    NoAlgorithms,
    /// Two issuers with one name.
    #[error("issuer {0} is there twice")]
    DuplicateIssuer(String),
}
