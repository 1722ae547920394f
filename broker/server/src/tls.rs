//! TLS for listeners: rustls with one provider, set up here and nowhere else.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ServerSessionMemoryCache, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{door::TlsLock, farewell};

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
    /// The oldest version that is spoken.
    pub oldest: TlsVersion,
    /// What MQTT travels in, by its name in ALPN. A client that names protocols must name this one; most name none.
    pub protocol: &'static [u8],
}

/// A version of TLS. What is older than these is not spoken at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2, which devices of ten years ago have.
    #[default]
    V1_2,
    /// 1.3.
    V1_3,
}

/// Sessions that a listener remembers for resumption, some 2 KiB each: a ward's devices come back after a power cut without
/// a full handshake. They are forgotten with the next reload, so what they stood for is never older than its lists.
const SESSIONS_MAX: usize = 4_096;
/// Tickets for a client of TLS 1.3: it has one connection.
const TICKETS: usize = 1;

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
    let versions: &[&SupportedProtocolVersion] = match files.oldest {
        TlsVersion::V1_2 => &[&TLS12, &TLS13],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
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
    let mut config = builder.with_single_cert(chain, key).map_err(|error| setup(&error))?;
    config.alpn_protocols = vec![files.protocol.to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    config.send_tls13_tickets = TICKETS;
    Ok(TlsLock { acceptor: TlsAcceptor::from(Arc::new(config)), verifier })
}

/// Takes a handshake; gives the stream and the client's verified chain. What a client resumes is judged anew: its certificate
/// may have expired since.
///
/// # Errors
/// What is wrong with the handshake or the certificate; the client has been told as far as TLS can.
pub async fn accept<S>(
    lock: &TlsLock,
    stream: S,
    now: impl FnOnce() -> Timestamp,
) -> io::Result<(TlsStream<S>, Vec<CertificateDer<'static>>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = match lock.acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((error, mut stream)) => {
            // The alert is written; a client of TLS 1.3 may have sent its CONNECT before it came.
            farewell::close(&mut stream).await;
            return Err(error);
        }
    };
    let session = stream.get_ref().1;
    let chain = session.peer_certificates().unwrap_or_default();
    let chain: Vec<_> = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    if session.handshake_kind() == Some(HandshakeKind::Resumed)
        && let Err(error) = lock.verify(&chain, now())
    {
        farewell::close(&mut stream).await;
        return Err(io::Error::other(format!(
            "resumed with a certificate that is not good any more: {error}"
        )));
    }
    Ok((stream, chain))
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
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock;

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

    #[test]
    fn a_resumed_session_is_judged_by_its_certificate_anew() {
        let directory = tempfile::tempdir().unwrap();
        let now = clock::now();
        let names = ["localhost".to_owned()];
        let (authority, _) =
            wardline_certs::init(directory.path(), &names, wardline_certs::Overwrite::No, now).unwrap();
        let subject = wardline_certs::Subject::device("mon-12").unwrap();
        let hour = Duration::from_secs(3_600);
        let issued = authority.issue(&subject, hour, wardline_certs::Overwrite::No, now).unwrap();
        for oldest in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let lock = lock(&TlsFiles {
                certificate: directory.path().join("server.pem"),
                key: directory.path().join("server.key"),
                client_ca: Some(directory.path().join("ca.pem")),
                crl: vec![directory.path().join("ca.crl")],
                require_certificate: true,
                oldest,
                protocol: b"mqtt",
            })
            .unwrap();
            let client = client(directory.path(), &issued, oldest);
            let (first, kind) = handshake(&lock, &client, now);
            assert_eq!((first.unwrap().len(), kind), (1, Some(HandshakeKind::Full)));
            let (second, kind) = handshake(&lock, &client, now);
            assert_eq!((second.unwrap().len(), kind), (1, Some(HandshakeKind::Resumed)));
            let (third, kind) = handshake(&lock, &client, now + 2 * hour);
            assert_eq!(kind, Some(HandshakeKind::Resumed));
            let error = third.unwrap_err().to_string();
            assert!(error.contains("not good any more") && error.contains("expired"), "{error}");
        }
    }

    /// A client that speaks only 1.2 where that is allowed, so that both kinds of resumption are seen.
    fn client(
        directory: &Path,
        issued: &wardline_certs::IssuedCertificate,
        oldest: TlsVersion,
    ) -> Arc<rustls::ClientConfig> {
        let versions: &[&SupportedProtocolVersion] = match oldest {
            TlsVersion::V1_2 => &[&TLS12],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let mut roots = RootCertStore::empty();
        roots.add(certificates(&directory.join("ca.pem")).unwrap().remove(0)).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                certificates(&issued.certificate_path).unwrap(),
                PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
            )
            .unwrap();
        Arc::new(config)
    }

    type Accepted = io::Result<Vec<CertificateDer<'static>>>;

    /// What the server gets, judging at `now`, and how the client says it came about.
    fn handshake(
        lock: &TlsLock,
        client: &Arc<rustls::ClientConfig>,
        now: Timestamp,
    ) -> (Accepted, Option<HandshakeKind>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(16 * 1_024);
            let server = async {
                let (mut stream, chain) = accept(lock, near, || now).await?;
                stream.write_all(b"in").await?;
                stream.shutdown().await?;
                Ok(chain)
            };
            let connect = async {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(client));
                let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
                let mut stream = connector.connect(name, far).await.unwrap();
                // The ticket comes behind the handshake.
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await.unwrap();
                stream.get_ref().1.handshake_kind()
            };
            tokio::join!(server, connect)
        })
    }
}
