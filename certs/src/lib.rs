//! The hospital's device PKI for development and small sites: a certificate authority in a folder, and a token issuer
//! beside it.
//!
//! It is not a PKI product: no intermediate authorities, no OCSP, no enrolment protocol, keys in files and not in hardware. A
//! hospital that has a PKI uses that; the broker asks only for certificates whose SAN URI names a principal.
//!
//! | file | what |
//! |---|---|
//! | `ca.pem`, `ca.key` | the authority |
//! | `ca.crl` | what it has revoked; refreshed by every change |
//! | `NAME.pem`, `NAME.key` | what it has issued: `server`, `device-ID`, `staff-ID`, `service-ID` |
//! | `index.json` | every certificate ever issued, so that each can be revoked |
//! | `token.key`, `jwks.json` | the token issuer's private and public key |
//!
//! Invariants
//! - a certificate is in the index before its file exists, so nothing valid is unknown to the authority;
//! - a private key is never replaced unless the caller says [`Overwrite::Yes`], and only its owner can read it (0600);
//! - a file is there whole or not at all: each is written aside, synced, and renamed;
//! - changes by several processes at once follow one another, under a lock;
//! - time is an argument; randomness is the system's.

mod authority;
mod error;
mod files;
mod index;
mod subject;
mod token;

use std::path::Path;

use jiff::Timestamp;

pub use authority::{AUTHORITY_LIFETIME, Authority, CRL_LIFETIME, DEFAULT_LIFETIME, IssuedCertificate};
pub use error::CertsError;
pub use files::Overwrite;
pub use index::{Certificate, Reason, Revocation};
pub use subject::{InvalidSubject, Subject};
pub use token::{TokenKey, TokenRequest};

/// Makes everything a broker with mutual TLS and tokens needs in `dir`: authority, revocation list, a server certificate for
/// `server_names` (DNS names or IP addresses), token key.
///
/// # Errors
/// When a key exists already and `overwrite` does not allow to replace it (then nothing is changed), and when a file cannot
/// be written.
pub fn init(
    dir: &Path,
    server_names: &[String],
    overwrite: Overwrite,
    now: Timestamp,
) -> Result<(Authority, TokenKey), CertsError> {
    let server = Subject::server(None, server_names)?;
    if overwrite == Overwrite::No {
        for key in ["ca.key", "server.key", "token.key"] {
            files::must_not_exist(&dir.join(key))?;
        }
    }
    let authority = Authority::create(dir, overwrite, now)?;
    authority.issue(&server, DEFAULT_LIFETIME, overwrite, now)?;
    let token_key = TokenKey::create(dir, overwrite)?;
    Ok((authority, token_key))
}
