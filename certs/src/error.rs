//! What can go wrong, and how to mend it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::InvalidSubject;

/// Why the authority or the token issuer did not do it.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: read, write, ….
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A key would have been replaced.
    #[error("{} exists already; --force replaces it, and what was issued with it becomes useless", .0.display())]
    Exists(PathBuf),
    /// The folder has no authority.
    #[error("no certificate authority in {}: make one with `wardline certs init`", .0.display())]
    NoAuthority(PathBuf),
    /// The folder has no token key.
    #[error("no token key in {}: make one with `wardline certs init`", .0.display())]
    NoTokenKey(PathBuf),
    /// A file is not what it should be.
    #[error("{} is damaged: {reason}; restore it from a copy", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// In what way.
        reason: String,
    },
    /// A name that cannot stand in a certificate.
    #[error(transparent)]
    Subject(#[from] InvalidSubject),
    /// Nothing issued under that name or serial number.
    #[error("nothing has been issued as {0:?}; `wardline certs list` shows what has")]
    Unknown(String),
    /// All certificates of that name are revoked.
    #[error("{0} is revoked and cannot be renewed; issue it anew with --force, with a new key")]
    Revoked(String),
    /// Longer than the authority lives, or no time at all.
    #[error("a certificate cannot be valid until {wanted}: the authority's own ends at {end}")]
    Validity {
        /// The end that was asked for.
        wanted: Timestamp,
        /// The authority's end.
        end: Timestamp,
    },
    /// A time that certificates cannot express.
    #[error("the validity is out of range")]
    Time,
    /// The cryptographic library refused.
    #[error("cannot make the certificate or list: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The cryptographic library refused.
    #[error("cannot make the token: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl CertsError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, reason: &dyn Display) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl From<aws_lc_rs::error::Unspecified> for CertsError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Random
    }
}
