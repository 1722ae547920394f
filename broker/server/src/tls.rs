//! TLS for listeners: rustls with one provider, set up here and nowhere else.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use crate::door::TlsLock;

/// The files a TLS listener is made of.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Authorities that client certificates must chain to; none: clients are not asked for a certificate.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists, PEM.
    pub crl: Vec<PathBuf>,
    /// Refuse a client without a certificate.
    pub require_certificate: bool,
}

/// Why a listener's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no PEM of that kind.
    #[error("{path}: cannot read {what}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// The pieces do not fit together.
    #[error("{path}: {reason}", path = path.display())]
    Setup {
        /// The certificate file of the listener.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

/// The one cryptography provider of this program.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Reads the files anew and makes a lock of them.
///
/// # Errors
/// The file that cannot be used, and why.
pub fn lock(files: &TlsFiles) -> Result<TlsLock, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key, "a private key")?)
        .map_err(|error| file(&files.key, "a private key", &error))?;
    let setup = |reason: &dyn std::fmt::Display| TlsError::Setup {
        path: files.certificate.clone(),
        reason: reason.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?;
    let verifier: Option<Arc<dyn ClientCertVerifier>> = match &files.client_ca {
        None => None,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| file(path, "a CA certificate", &error))?;
            }
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .with_crls(revocation_lists(&files.crl)?)
                .only_check_end_entity_revocation()
                .allow_unknown_revocation_status();
            if !files.require_certificate {
                verifier = verifier.allow_unauthenticated();
            }
            Some(verifier.build().map_err(|error| setup(&error))?)
        }
    };
    let builder = match &verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    };
    let config = builder.with_single_cert(chain, key).map_err(|error| setup(&error))?;
    Ok(TlsLock { acceptor: TlsAcceptor::from(Arc::new(config)), verifier })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path, "a certificate")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(file(path, "a certificate", &"no PEM certificate in it")),
        Err(error) => Err(file(path, "a certificate", &error)),
    }
}

fn revocation_lists(paths: &[PathBuf]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let mut lists = Vec::new();
    for path in paths {
        let pem = read(path, "a revocation list")?;
        let before = lists.len();
        for list in CertificateRevocationListDer::pem_slice_iter(&pem) {
            lists.push(list.map_err(|error| file(path, "a revocation list", &error))?);
        }
        if lists.len() == before {
            // Taken for an empty list, it would let every revoked client in.
            let mend = "no PEM revocation list in it; `openssl crl -inform DER -in FILE -out FILE.pem` converts one in DER";
            return Err(file(path, "a revocation list", &mend));
        }
    }
    Ok(lists)
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| file(path, what, &error))
}

fn file(path: &Path, what: &'static str, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), what, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_revocation_list_is_an_error_and_not_an_empty_list() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crl");
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in ["", "garbage", "\u{30}\u{82}", certificate] {
            fs::write(&path, content).unwrap();
            let error = revocation_lists(std::slice::from_ref(&path)).unwrap_err();
            assert!(error.to_string().contains("ca.crl"), "{error}");
        }
    }
}
