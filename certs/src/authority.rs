//! The certificate authority: ECDSA on P-256, everywhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::files::{self, Lock, Secrecy};
use crate::index::Index;
use crate::{Certificate, CertsError, Overwrite, Reason, Revocation, Subject};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long an authority is valid.
pub const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);

/// How long a certificate is valid unless something else is asked for.
pub const DEFAULT_LIFETIME: Duration = DAY.saturating_mul(365);

/// How long a revocation list is good (its nextUpdate). Every change makes a new one; a site where nothing changes makes one
/// with [`Authority::refresh`].
pub const CRL_LIFETIME: Duration = DAY.saturating_mul(90);

/// How far validity begins before now, for clients whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// Bytes of a serial number: enough that random ones never meet, below the 20 of RFC 5280 section 4.1.2.2.
const SERIAL_BYTES: usize = 16;

/// An authority in a folder.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// The end of its own validity.
    expires: Timestamp,
}

/// A certificate just issued or renewed, as it stands in its files.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// What the index says of it.
    pub certificate: Certificate,
    /// PEM; the authority that signed it is the trust anchor, so the chain is this one.
    pub certificate_pem: String,
    /// PKCS #8 in PEM.
    pub key_pem: String,
    /// Where the certificate is.
    pub certificate_path: PathBuf,
    /// Where the key is.
    pub key_path: PathBuf,
}

impl Authority {
    /// Makes a new authority in `dir`, and the folder if needed.
    ///
    /// # Errors
    /// When there is one already and `overwrite` does not allow to replace it; when a file cannot be written.
    pub fn create(dir: &Path, overwrite: Overwrite, now: Timestamp) -> Result<Self, CertsError> {
        std::fs::create_dir_all(dir).map_err(CertsError::file("make the folder", dir))?;
        let _lock = Lock::of(dir)?;
        let key = KeyPair::generate()?;
        let serial = random_serial()?;
        // Part of the serial number in the name: two authorities never look alike to a client that trusts both.
        let name = format!("Wardline device CA {}", hex(serial.get(..4).unwrap_or_default()));
        let expires = later(now, AUTHORITY_LIFETIME)?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let mut params = issuer_params(&name);
        params.not_before = epoch + since_epoch(now)? - BACKDATE;
        params.not_after = epoch + since_epoch(expires)?;
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.self_signed(&key)?;

        files::write_key(&dir.join("ca.key"), &key.serialize_pem(), overwrite)?;
        files::write(&dir.join("ca.pem"), certificate.pem().as_bytes(), Secrecy::Public)?;
        let authority = Self { dir: dir.to_owned(), issuer: Issuer::new(params, key), expires };
        let mut index = Index { authority: name, expires, crl_number: 0, certificates: Vec::new() };
        authority.publish(&mut index, now)?;
        Ok(authority)
    }

    /// Whether `dir` has an authority.
    pub fn exists(dir: &Path) -> bool {
        dir.join("ca.key").exists()
    }

    /// Opens the authority in `dir`.
    ///
    /// # Errors
    /// When there is none, or its files cannot be read or do not belong together.
    pub fn open(dir: &Path) -> Result<Self, CertsError> {
        if !Self::exists(dir) {
            return Err(CertsError::NoAuthority(dir.to_owned()));
        }
        let index = Index::read(dir)?;
        let key = read_key(&dir.join("ca.key"))?;
        let path = dir.join("ca.pem");
        let damaged = |reason: &str| CertsError::damaged(&path, &reason);
        let certificate = CertificateDer::from_pem_slice(files::read(&path)?.as_bytes())
            .map_err(|_| damaged("it is no PEM"))?;
        let certificate =
            webpki::EndEntityCert::try_from(&certificate).map_err(|_| damaged("it is no certificate"))?;
        if *certificate.subject_public_key_info() != *key.subject_public_key_info() {
            return Err(damaged("it is not the certificate of ca.key"));
        }
        Ok(Self {
            dir: dir.to_owned(),
            issuer: Issuer::new(issuer_params(&index.authority), key),
            expires: index.expires,
        })
    }

    /// Issues a certificate with a new key, and writes both.
    ///
    /// # Errors
    /// When there is a key of that name and `overwrite` does not allow to replace it; when `lifetime` goes beyond the
    /// authority's; when a file cannot be written.
    pub fn issue(
        &self,
        subject: &Subject,
        lifetime: Duration,
        overwrite: Overwrite,
        now: Timestamp,
    ) -> Result<IssuedCertificate, CertsError> {
        let _lock = Lock::of(&self.dir)?;
        let key_path = self.path(&subject.name(), "key");
        if overwrite == Overwrite::No {
            files::must_not_exist(&key_path)?;
        }
        let key = KeyPair::generate()?;
        let (certificate, certificate_pem) = self.sign(subject, &key, lifetime, now)?;
        files::write_key(&key_path, &key.serialize_pem(), overwrite)?;
        self.hand_out(certificate, certificate_pem, key.serialize_pem())
    }

    /// Issues a certificate for the key that `name` has, with the same subject. The one before stays valid until it expires,
    /// so that there is time to carry the new one to the device.
    ///
    /// # Errors
    /// When nothing was issued under that name, or the newest certificate is revoked, or the key is not there.
    pub fn renew(
        &self,
        name: &str,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<IssuedCertificate, CertsError> {
        let _lock = Lock::of(&self.dir)?;
        let index = Index::read(&self.dir)?;
        let newest = index.certificates.iter().rev().find(|certificate| certificate.name == name);
        let newest = newest.ok_or_else(|| CertsError::Unknown(name.to_owned()))?;
        if newest.revoked.is_some() {
            return Err(CertsError::Revoked(name.to_owned()));
        }
        let key = read_key(&self.path(name, "key"))?;
        let (certificate, certificate_pem) = self.sign(&newest.subject, &key, lifetime, now)?;
        self.hand_out(certificate, certificate_pem, key.serialize_pem())
    }

    /// Revokes every certificate of that name that has not expired, or the one with that serial number, and makes a new
    /// revocation list. Returns those now revoked; what was revoked before keeps its date and reason.
    ///
    /// # Errors
    /// When nothing was issued under that name or serial number; when a file cannot be written.
    pub fn revoke(
        &self,
        name_or_serial: &str,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Vec<Certificate>, CertsError> {
        let _lock = Lock::of(&self.dir)?;
        let mut index = Index::read(&self.dir)?;
        let mut revoked = Vec::new();
        let mut known = false;
        for certificate in &mut index.certificates {
            if certificate.name != name_or_serial && certificate.serial != name_or_serial {
                continue;
            }
            known = true;
            if certificate.is_valid(now) {
                certificate.revoked = Some(Revocation { at: now, reason });
            }
            if certificate.revoked.is_some() {
                revoked.push(certificate.clone());
            }
        }
        if !known {
            return Err(CertsError::Unknown(name_or_serial.to_owned()));
        }
        self.publish(&mut index, now)?;
        Ok(revoked)
    }

    /// Makes a new revocation list although nothing was revoked, before the old one is out of date.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn refresh(&self, now: Timestamp) -> Result<(), CertsError> {
        let _lock = Lock::of(&self.dir)?;
        self.publish(&mut Index::read(&self.dir)?, now)
    }

    /// Every certificate ever issued, oldest first.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self) -> Result<Vec<Certificate>, CertsError> {
        Ok(Index::read(&self.dir)?.certificates)
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{name}.{extension}"))
    }

    /// Signs, and enters into the index before anybody has the certificate.
    fn sign(
        &self,
        subject: &Subject,
        key: &KeyPair,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<(Certificate, String), CertsError> {
        let expires = later(now, lifetime)?;
        if expires > self.expires {
            return Err(CertsError::Validity { wanted: expires, end: self.expires });
        }
        let serial = random_serial()?;
        let (name_type, name) = subject.common_name();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(name_type, name);
        params.subject_alt_names = subject.alternative_names()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![subject.key_usage()];
        params.use_authority_key_identifier_extension = true;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_epoch(now)? - BACKDATE;
        params.not_after = epoch + since_epoch(expires)?;
        params.serial_number = Some(SerialNumber::from(serial.clone()));
        let pem = params.signed_by(key, &self.issuer)?.pem();

        let certificate = Certificate {
            name: subject.name(),
            serial: hex(&serial),
            subject: subject.clone(),
            issued: now,
            expires,
            revoked: None,
        };
        let mut index = Index::read(&self.dir)?;
        index.certificates.push(certificate.clone());
        self.publish(&mut index, now)?;
        Ok((certificate, pem))
    }

    fn hand_out(
        &self,
        certificate: Certificate,
        certificate_pem: String,
        key_pem: String,
    ) -> Result<IssuedCertificate, CertsError> {
        let certificate_path = self.path(&certificate.name, "pem");
        files::write(&certificate_path, certificate_pem.as_bytes(), Secrecy::Public)?;
        let key_path = self.path(&certificate.name, "key");
        Ok(IssuedCertificate { certificate, certificate_pem, key_pem, certificate_path, key_path })
    }

    /// Writes the index, then a revocation list made from it: a crash between leaves a list that the next change corrects.
    fn publish(&self, index: &mut Index, now: Timestamp) -> Result<(), CertsError> {
        index.crl_number = index.crl_number.saturating_add(1);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        // What has expired no longer needs to be on the list (RFC 5280 section 3.3).
        let listed = index.certificates.iter().filter(|certificate| now < certificate.expires);
        let revoked_certs = listed
            .filter_map(|certificate| certificate.revoked.map(|revocation| (certificate, revocation)))
            .map(|(certificate, revocation)| {
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from(self.serial(certificate)?),
                    revocation_time: epoch + since_epoch(revocation.at)?,
                    reason_code: Some(revocation.reason.into()),
                    invalidity_date: None,
                })
            })
            .collect::<Result<_, CertsError>>()?;
        let list = CertificateRevocationListParams {
            this_update: epoch + since_epoch(now)? - BACKDATE,
            next_update: epoch + since_epoch(later(now, CRL_LIFETIME)?)?,
            crl_number: SerialNumber::from(index.crl_number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = list.signed_by(&self.issuer)?.pem()?;
        index.write(&self.dir)?;
        files::write(&self.dir.join("ca.crl"), pem.as_bytes(), Secrecy::Public)
    }

    fn serial(&self, certificate: &Certificate) -> Result<Vec<u8>, CertsError> {
        let bytes = certificate.serial.as_bytes().chunks(2);
        let bytes = bytes.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let damaged =
            || CertsError::damaged(&self.dir.join("index.json"), &format!("serial {}", certificate.serial));
        bytes.collect::<Option<_>>().ok_or_else(damaged)
    }
}

/// All that an authority signs with, and its own certificate says.
fn issuer_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn read_key(path: &Path) -> Result<KeyPair, CertsError> {
    KeyPair::from_pem(&files::read(path)?).map_err(|error| CertsError::damaged(path, &error))
}

/// Positive, and never with a leading zero byte: DER keeps it as it is.
fn random_serial() -> Result<Vec<u8>, CertsError> {
    let mut serial = vec![0; SERIAL_BYTES];
    rand::fill(&mut serial)?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(serial)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn later(now: Timestamp, by: Duration) -> Result<Timestamp, CertsError> {
    now.checked_add(by).map_err(|_| CertsError::Time)
}

/// Since 1970-01-01, the day that every date above is counted from.
fn since_epoch(at: Timestamp) -> Result<Duration, CertsError> {
    u64::try_from(at.as_second()).map(Duration::from_secs).map_err(|_| CertsError::Time)
}

#[cfg(test)]
mod tests;
