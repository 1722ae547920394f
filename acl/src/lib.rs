//! Who is it, and may they.
//!
//! A client proves who it is with a certificate, a token, or both ([`authenticate`]); the policy says what that [`Principal`]
//! may publish and subscribe ([`Policy`]); the two together are its [`Grants`], which answer every publish and every
//! subscription with a [`Decision`] that names the rule behind it.
//!
//! It is not TLS: that a certificate chains to a trusted authority, is in date and is not revoked has been decided before it
//! comes here. It does no I/O, fetches no keys and reads no clock: bytes and `now` come in, answers come out. To reload is to
//! build an [`Issuers`] or a [`Policy`] anew and swap it in.
//!
//! Invariants
//! - whoever is unknown, and whatever is unnamed, is refused;
//! - a denial wins over every grant, and holds whatever a token says;
//! - a token narrows what the policy gives its principal and never widens it;
//! - what a denial forbids is not subscribed, and where a wider subscription matches it, it is withheld at delivery;
//! - a wildcard in a rule stands for every topic, also for one that begins with `$`;
//! - nobody outside can be a `plugin:`, which is the broker's own kind of principal;
//! - no error carries a token or a key.

mod authenticate;
mod certificate;
mod decision;
mod grants;
mod jwks;
mod one_or_many;
mod pattern;
mod policy;
mod principal;
mod scope;
mod template;
#[cfg(test)]
mod testing;
mod token;

pub use authenticate::{AuthError, Identity, Require, authenticate, reauthenticate};
pub use certificate::{
    CertificateError, InvalidThumbprint, Thumbprint, UriPrefix, principal_from_certificate,
};
pub use decision::{Action, Decision};
pub use grants::{Grants, List, Rule};
pub use jwks::{Algorithm, KeyError, UnknownAlgorithm};
pub use policy::{Policy, PolicyError, PolicyErrors, PolicyWarning};
pub use principal::{InvalidPrincipal, Kind, Principal};
pub use scope::{InvalidScope, Scope, ScopeEntry};
pub use token::{Claims, IssuerSource, Issuers, TOKEN_BYTES_MAX, TokenError, unverified_claims};

/// Characters of foreign text that an error repeats.
const SHOWN_CHARS_MAX: usize = 64;

/// Foreign text cut to what an audit row or a log line should hold.
fn shorten(text: &str) -> &str {
    text.char_indices().nth(SHOWN_CHARS_MAX).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}
