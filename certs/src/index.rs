//! The authority's memory: every certificate it ever issued.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{self, Secrecy};
use crate::{CertsError, Subject};

const FILE: &str = "index.json";

/// One issued certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Of its files, without `.pem` and `.key`; after a renewal several certificates have the same.
    pub name: String,
    /// Serial number in hexadecimal, unique for ever.
    pub serial: String,
    /// Who it is for.
    pub subject: Subject,
    /// When it was issued.
    pub issued: Timestamp,
    /// The end of its validity.
    pub expires: Timestamp,
    /// When and why it was revoked, if it was.
    pub revoked: Option<Revocation>,
}

impl Certificate {
    /// Neither expired nor revoked.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.expires
    }
}

/// That a certificate is not to be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate is revoked (RFC 5280 section 5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// None given.
    #[default]
    Unspecified,
    /// The key was lost, stolen or seen.
    KeyCompromise,
    /// A newer certificate has taken its place.
    Superseded,
    /// The device is gone, the person has left.
    CessationOfOperation,
}

impl From<Reason> for rcgen::RevocationReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unspecified => Self::Unspecified,
            Reason::KeyCompromise => Self::KeyCompromise,
            Reason::Superseded => Self::Superseded,
            Reason::CessationOfOperation => Self::CessationOfOperation,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    /// The authority's common name: with its key all that is needed to sign again.
    pub(crate) authority: String,
    /// The end of its validity.
    pub(crate) expires: Timestamp,
    /// Of the newest revocation list; only ever rises (RFC 5280 section 5.2.3).
    pub(crate) crl_number: u64,
    pub(crate) certificates: Vec<Certificate>,
}

impl Index {
    pub(crate) fn read(dir: &Path) -> Result<Self, CertsError> {
        let path = dir.join(FILE);
        serde_json::from_str(&files::read(&path)?).map_err(|error| CertsError::damaged(&path, &error))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), CertsError> {
        let path = dir.join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(|error| CertsError::damaged(&path, &error))?;
        files::write(&path, &json, Secrecy::Public)
    }
}
