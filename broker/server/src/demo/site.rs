//! The demonstration's folder: certificates, token key, configuration. Made where it is missing, kept where it is there.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use wardline_certs::{
    Authority, Certificate, CertsError, DEFAULT_LIFETIME, InvalidSubject, Overwrite, Subject, TokenKey,
};

use crate::{
    commands::token::{DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER},
    simulate::identity::{BrokerUrl, Credentials, CredentialsError, Identity, TokenTerms},
};

/// The unit of the demonstration.
pub const UNIT: &str = "icu-3";

/// Its beds, each with a monitor: `b1` with `mon-1`, and so on.
pub const BEDS: u32 = 4;

/// Names under which the broker is reached; they are in its certificate.
const SERVER_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A certificate that ends sooner than this is replaced before the demonstration begins.
const REMAINING_MIN: Duration = Duration::from_secs(24 * 3600);

const FILES: [(&str, &str); 3] = [
    ("wardline.toml", include_str!("wardline.toml")),
    ("policy.toml", include_str!("policy.toml")),
    ("rules.toml", include_str!("rules.toml")),
];

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A file or the folder cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates and keys.
    #[error(transparent)]
    Certs(#[from] CertsError),
    /// A name.
    #[error(transparent)]
    Subject(#[from] InvalidSubject),
    /// What a client connects with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// A prepared folder.
pub struct Site {
    dir: PathBuf,
    token_key: TokenKey,
}

impl Site {
    /// Makes what is missing in `dir`, renews certificates near their end, and touches nothing else.
    pub fn prepare(dir: &Path, now: Timestamp) -> Result<Self, SiteError> {
        let certs = dir.join("certs");
        let authority = match Authority::exists(&certs) {
            true => Authority::open(&certs)?,
            false => Authority::create(&certs, Overwrite::No, now)?,
        };
        authority.refresh(now)?;
        let known = authority.list()?;
        for subject in subjects()? {
            if !has_good_certificate(&certs, &known, &subject, now) {
                // What may be there is of an earlier demonstration, and useless.
                authority.issue(&subject, DEFAULT_LIFETIME, Overwrite::Yes, now)?;
            }
        }
        let token_key = match TokenKey::open(&certs) {
            Err(CertsError::NoTokenKey(_)) => TokenKey::create(&certs, Overwrite::No)?,
            opened => opened?,
        };
        for (name, text) in FILES {
            write_if_missing(&dir.join(name), text)?;
        }
        Ok(Self { dir: dir.to_owned(), token_key })
    }

    /// The broker's configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("wardline.toml")
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `subject` connects with as `client_id`: its certificate, and a token issued now and bound to it.
    pub fn identity(
        &self,
        subject: &Subject,
        client_id: &str,
        broker: &BrokerUrl,
        now: Timestamp,
    ) -> Result<Identity, SiteError> {
        Ok(Identity::load(client_id, broker, &self.credentials(subject, now)?)?)
    }

    /// Issues the token for whoever wants to join in, and returns the file it is in.
    pub fn guest_token(&self, now: Timestamp) -> Result<PathBuf, SiteError> {
        let guest = guest()?;
        let token = self.credentials(&guest, now)?.token.unwrap_or_default();
        let path = self.dir.join("certs").join(format!("{}.jwt", guest.name()));
        let write = || {
            // Anew, so that it has the mode of a secret whatever was there.
            fs::remove_file(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            File::options().write(true).create_new(true).mode(0o600).open(&path)?.write_all(token.as_bytes())
        };
        write().map_err(|source| SiteError::Write { path: path.clone(), source })?;
        Ok(path)
    }

    fn credentials(&self, subject: &Subject, now: Timestamp) -> Result<Credentials, SiteError> {
        let mut credentials = Credentials::in_dir(&self.dir.join("certs"), &subject.name());
        let terms =
            TokenTerms { issuer: DEVELOPMENT_ISSUER.to_owned(), audience: DEVELOPMENT_AUDIENCE.to_owned() };
        let principal = subject.principal().unwrap_or_default();
        credentials.issue_token(&self.token_key, &terms, &principal, now)?;
        Ok(credentials)
    }
}

/// The monitor of a bed.
pub fn monitor(bed: u32) -> Result<Subject, InvalidSubject> {
    Subject::device(&format!("mon-{bed}"))
}

/// The nurse who is paged first.
pub fn nurse() -> Result<Subject, InvalidSubject> {
    Subject::staff("n.ito")
}

/// The charge nurse, who is paged when the nurse does not answer.
pub fn charge() -> Result<Subject, InvalidSubject> {
    Subject::staff("c.okafor")
}

/// Whoever looks on from outside.
pub fn guest() -> Result<Subject, InvalidSubject> {
    Subject::service("guest")
}

fn subjects() -> Result<Vec<Subject>, InvalidSubject> {
    let server = Subject::server(None, &SERVER_NAMES.map(str::to_owned))?;
    let mut subjects = vec![server, nurse()?, charge()?, guest()?];
    for bed in 1..=BEDS {
        subjects.push(monitor(bed)?);
    }
    Ok(subjects)
}

fn has_good_certificate(certs: &Path, known: &[Certificate], subject: &Subject, now: Timestamp) -> bool {
    let name = subject.name();
    let Some(newest) = known.iter().rev().find(|certificate| certificate.name == name) else { return false };
    let soon = now.checked_add(REMAINING_MIN).unwrap_or(now);
    newest.is_valid(soon) && ["pem", "key"].iter().all(|end| certs.join(format!("{name}.{end}")).exists())
}

fn write_if_missing(path: &Path, text: &str) -> Result<(), SiteError> {
    match File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes())) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(SiteError::Write { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_795_248_000, 0);

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_second_visit_changes_nothing_that_is_still_good() {
        let dir = tempfile::tempdir().unwrap();
        Site::prepare(dir.path(), NOW).unwrap();
        fs::write(dir.path().join("rules.toml"), "# my own").unwrap();
        let key = read(&dir.path().join("certs/device-mon-2.key"));
        let jwks = read(&dir.path().join("certs/jwks.json"));
        Site::prepare(dir.path(), NOW).unwrap();
        assert_eq!(read(&dir.path().join("rules.toml")), "# my own");
        assert_eq!(read(&dir.path().join("certs/device-mon-2.key")), key);
        assert_eq!(read(&dir.path().join("certs/jwks.json")), jwks);
    }

    #[test]
    fn what_is_missing_or_worn_out_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        Site::prepare(dir.path(), NOW).unwrap();
        let key = dir.path().join("certs/device-mon-2.key");
        let before = read(&key);
        fs::remove_file(dir.path().join("certs/server.pem")).unwrap();
        fs::remove_file(dir.path().join("certs/token.key")).unwrap();
        let later = NOW.checked_add(DEFAULT_LIFETIME).unwrap();
        let site = Site::prepare(dir.path(), later).unwrap();
        assert_ne!(read(&key), before);
        let broker = "mqtts://localhost".parse().unwrap();
        site.identity(&monitor(2).unwrap(), "mon-2", &broker, later).unwrap();
        assert!(read(&site.guest_token(later).unwrap()).split('.').count() == 3);
        site.guest_token(later).unwrap();
    }

    #[test]
    fn every_principal_has_a_place_in_the_policy() {
        let policy = wardline_acl::Policy::parse(include_str!("policy.toml")).unwrap();
        assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
        for principal in subjects().unwrap().iter().filter_map(Subject::principal) {
            assert!(policy.knows(&principal.parse().unwrap()), "{principal}");
        }
    }

    #[test]
    fn the_rules_are_sound() {
        crate::rules::parse(include_str!("rules.toml")).unwrap();
    }

    #[test]
    fn the_configuration_is_valid_where_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::prepare(dir.path(), NOW).unwrap();
        crate::config::Config::load(&site.config(), std::iter::empty()).unwrap();
    }
}
