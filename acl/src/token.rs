//! Tokens: JWTs signed by an issuer the site trusts (RFC 7519, RFC 8725, RFC 8705).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::jwks::Keys;
use crate::one_or_many::OneOrMany;
use crate::{Algorithm, InvalidPrincipal, KeyError, Kind, Principal, Scope, Thumbprint, shorten};

/// Bytes of a token; an identity provider's with a long scope has 2 to 3 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How far an issuer's clock may be ahead of the broker's. Only for `nbf`: a token just issued must not be refused. `exp` gets
/// none, so that a token never outlives what it says.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(10);

/// An issuer as configured.
#[derive(Clone, Copy, Debug)]
pub struct IssuerSource<'a> {
    /// The token's `iss`.
    pub issuer: &'a str,
    /// What the token's `aud` must name.
    pub audience: &'a str,
    /// Its public keys: a JWK set (RFC 7517).
    pub jwks: &'a [u8],
    /// The algorithms it may sign with.
    pub algorithms: &'a [Algorithm],
}

/// The issuers a site trusts, with their keys.
#[derive(Clone, Debug, Default)]
pub struct Issuers(Vec<Issuer>);

#[derive(Clone, Debug)]
struct Issuer {
    name: String,
    audience: String,
    algorithms: Vec<Algorithm>,
    keys: Keys,
}

/// What a token says, once it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub principal: Principal,
    /// `iss`.
    pub issuer: String,
    /// `kid` of the header: which of the issuer's keys signed it.
    pub key_id: Option<String>,
    /// `exp`: from then on the token is worth nothing.
    pub expires: Timestamp,
    /// `jti`, for the audit record.
    pub id: Option<String>,
    /// `roles`: of the principal's roles in the policy only these. `None`: all.
    pub roles: Option<Vec<String>>,
    /// `scope`: of what the roles grant only this. `None`: all.
    pub scope: Option<Scope>,
    /// `cnf."x5t#S256"`: the token is worth something only with this certificate.
    pub bound_to: Option<Thumbprint>,
}

impl Issuers {
    /// Reads every issuer's keys.
    ///
    /// # Errors
    /// The issuer at fault, and what is wrong with its keys or settings.
    pub fn load<'a>(sources: impl IntoIterator<Item = IssuerSource<'a>>) -> Result<Self, (String, KeyError)> {
        let mut issuers: Vec<Issuer> = Vec::new();
        for source in sources {
            let fault = |error| (source.issuer.to_owned(), error);
            if issuers.iter().any(|other| other.name == source.issuer) {
                return Err(fault(KeyError::DuplicateIssuer(source.issuer.to_owned())));
            }
            if source.algorithms.is_empty() {
                return Err(fault(KeyError::NoAlgorithms));
            }
            issuers.push(Issuer {
                name: source.issuer.to_owned(),
                audience: source.audience.to_owned(),
                algorithms: source.algorithms.to_vec(),
                keys: Keys::parse(source.jwks, source.algorithms).map_err(fault)?,
            });
        }
        Ok(Self(issuers))
    }

    /// Verifies a token as it came in a CONNECT's password or in enhanced authentication data. `certificate` is that of the
    /// same connection, if it has one.
    ///
    /// # Errors
    /// The first thing wrong with it, cheapest checks first; only what follows the signature has been said by the issuer.
    pub fn verify(
        &self,
        token: &[u8],
        now: Timestamp,
        certificate: Option<&Thumbprint>,
    ) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong(token.len()));
        }
        let token = std::str::from_utf8(token).map_err(|_| TokenError::Malformed("it is not text"))?;
        let (signed, signature) = token.rsplit_once('.').ok_or(NOT_THREE_PARTS)?;
        let (header, payload) = signed.split_once('.').ok_or(NOT_THREE_PARTS)?;
        let header: Header = part(header).ok_or(TokenError::Malformed("its header cannot be read"))?;
        let payload: Payload = part(payload).ok_or(TokenError::Malformed("its claims cannot be read"))?;

        let issuer = self.issuer(payload.iss.as_deref())?;
        issuer.verify_signature(&header, signed, signature)?;
        payload.check(issuer, header.kid, now, certificate)
    }

    /// Whether a token verified before a reload would still have an issuer and a key: false once either is withdrawn. Its
    /// expiry is not looked at.
    pub fn vouch_for(&self, claims: &Claims) -> bool {
        let issuer = self.0.iter().find(|issuer| issuer.name == claims.issuer);
        issuer.is_some_and(|issuer| issuer.keys.find(claims.key_id.as_deref()).is_some())
    }

    fn issuer(&self, name: Option<&str>) -> Result<&Issuer, TokenError> {
        let name = name.ok_or(TokenError::Missing("iss"))?;
        self.0
            .iter()
            .find(|i| i.name == name)
            .ok_or_else(|| TokenError::OtherIssuer(shorten(name).to_owned()))
    }
}

/// What a token says, believed by nobody: for a person who asks why it is refused.
pub fn unverified_claims(token: &[u8]) -> Option<serde_json::Value> {
    let token = std::str::from_utf8(token).ok().filter(|token| token.len() <= TOKEN_BYTES_MAX)?;
    part(token.split('.').nth(1)?)
}

const NOT_THREE_PARTS: TokenError = TokenError::Malformed("a signed JWT has three parts with dots between");

/// Base64url of JSON.
fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&json).ok()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that the receiver must understand; there are none here (RFC 7515 section 4.1.11).
    crit: Option<serde::de::IgnoredAny>,
}

impl Issuer {
    fn verify_signature(&self, header: &Header, signed: &str, signature: &str) -> Result<(), TokenError> {
        if header.crit.is_some() {
            return Err(TokenError::Malformed("its header demands extensions (crit) that are not known"));
        }
        let algorithm: Algorithm = header
            .alg
            .parse()
            .ok()
            .filter(|algorithm| self.algorithms.contains(algorithm))
            .ok_or_else(|| TokenError::Algorithm(shorten(&header.alg).to_owned()))?;
        let unknown_key = || TokenError::UnknownKey(header.kid.as_deref().map(|kid| shorten(kid).to_owned()));
        let key = self.keys.find(header.kid.as_deref()).ok_or_else(unknown_key)?;
        // The key decides what it may verify, not the token: else a public key could pass for another sort of key.
        if !key.takes(algorithm) {
            return Err(TokenError::Algorithm(algorithm.to_string()));
        }
        let verified =
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.material, algorithm.of_library());
        if matches!(verified, Ok(true)) { Ok(()) } else { Err(TokenError::Signature) }
    }
}

#[derive(Deserialize)]
struct Payload {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<OneOrMany>,
    exp: Option<serde_json::Number>,
    nbf: Option<serde_json::Number>,
    jti: Option<String>,
    roles: Option<Vec<String>>,
    /// Left as it is at first, so that a scope of another sort gets an answer of its own.
    scope: Option<serde_json::Value>,
    cnf: Option<Confirmation>,
}

#[derive(Deserialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    thumbprint: Option<String>,
}

impl Payload {
    fn check(
        self,
        issuer: &Issuer,
        key_id: Option<String>,
        now: Timestamp,
        certificate: Option<&Thumbprint>,
    ) -> Result<Claims, TokenError> {
        let audiences = self.aud.ok_or(TokenError::Missing("aud"))?.0;
        if !audiences.contains(&issuer.audience) {
            return Err(TokenError::Audience(issuer.audience.clone()));
        }
        let expires = numeric_date(&self.exp.ok_or(TokenError::Missing("exp"))?)?;
        if now >= expires {
            return Err(TokenError::Expired(expires));
        }
        if let Some(number) = self.nbf {
            let not_before = numeric_date(&number)?;
            if now.checked_add(NOT_BEFORE_LEEWAY).is_ok_and(|latest| latest < not_before) {
                return Err(TokenError::NotYetValid(not_before));
            }
        }
        let bound_to = self.cnf.map(|cnf| cnf.check(certificate)).transpose()?;
        let principal: Principal = self.sub.ok_or(TokenError::Missing("sub"))?.parse()?;
        if principal.kind() == Kind::Plugin {
            return Err(TokenError::Plugin);
        }
        let scope = self.scope.map(serde_json::from_value).transpose();
        Ok(Claims {
            principal,
            issuer: issuer.name.clone(),
            key_id,
            expires,
            id: self.jti.as_deref().map(|id| shorten(id).to_owned()),
            roles: self.roles,
            scope: scope.map_err(|e| TokenError::Scope(shorten(&e.to_string()).to_owned()))?,
            bound_to,
        })
    }
}

impl Confirmation {
    fn check(self, certificate: Option<&Thumbprint>) -> Result<Thumbprint, TokenError> {
        let bound_to = self.thumbprint.and_then(|text| text.parse().ok()).ok_or(TokenError::Confirmation)?;
        match certificate {
            None => Err(TokenError::CertificateMissing),
            Some(certificate) if *certificate == bound_to => Ok(bound_to),
            Some(_) => Err(TokenError::OtherCertificate),
        }
    }
}

/// Seconds since 1970, possibly with a fraction (RFC 7519 section 2), which is dropped: an expiry comes earlier, not later.
fn numeric_date(number: &serde_json::Number) -> Result<Timestamp, TokenError> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float saturates, and what is out of range is refused"
    )]
    let seconds = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64));
    seconds
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or(TokenError::Malformed("exp and nbf are seconds since 1970"))
}

/// Why a token is refused. Never holds the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Over [`TOKEN_BYTES_MAX`].
    #[error("the token has {0} bytes, more than the {TOKEN_BYTES_MAX} allowed")]
    TooLong(usize),
    /// Not a JWT.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// A claim that must be there is not.
    #[error("the token has no claim \"{0}\"")]
    Missing(&'static str),
    /// Nobody configured.
    #[error(
        "the token is from another issuer, {0:?}: configure it as an identity.issuer, or use another token"
    )]
    OtherIssuer(String),
    /// Not in the issuer's list, or not one that the key is for.
    #[error("the token's algorithm {0:?} is not allowed for this issuer and key")]
    Algorithm(String),
    /// No key with that `kid`, or no `kid` and several keys.
    #[error("the token is signed with an unknown key, {0:?}: is the issuer's key set up to date?")]
    UnknownKey(Option<String>),
    /// Altered, or signed by somebody else.
    #[error("the token's signature is wrong")]
    Signature,
    /// Meant for another service.
    #[error("the token is for another audience than {0:?}")]
    Audience(String),
    /// Too late.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// Too early.
    #[error("the token is not valid before {0}: compare the clocks of issuer and broker")]
    NotYetValid(Timestamp),
    /// `cnf` with something else than a certificate's thumbprint.
    #[error("the token is bound (cnf) in a way that is not x5t#S256")]
    Confirmation,
    /// Bound, and no certificate there.
    #[error("the token is bound to a certificate, and the connection has none")]
    CertificateMissing,
    /// Bound, and not to this one.
    #[error("the token is bound to another certificate")]
    OtherCertificate,
    /// `sub` is not one.
    #[error("the token's sub names no principal: {0}")]
    Principal(#[from] InvalidPrincipal),
    /// Claims to be a part of the broker.
    #[error("the token claims to be a plugin; these are parts of the broker and never connect")]
    Plugin,
    /// Not AIF-MQTT.
    #[error("the token's scope is not AIF-MQTT: {0}")]
    Scope(String),
}

#[cfg(test)]
mod tests;
