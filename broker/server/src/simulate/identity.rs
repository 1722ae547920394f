//! Which broker, and who the client is there: certificate and token.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rumqttc::{TlsConfiguration, Transport};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use wardline_acl::Thumbprint;
use wardline_certs::{CertsError, TokenKey, TokenRequest};

use crate::tls;

/// Address of a broker: `mqtt://host:port`, or `mqtts://host:port` with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Name or IPv4 address; with TLS, one that is in the broker's certificate.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("'{text}' is not a broker's URL; write mqtts://host:8883 or mqtt://host:1883");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (tls, usual_port) = match scheme {
            "mqtts" | "ssl" => (true, 8883),
            "mqtt" | "tcp" => (false, 1883),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            None => (rest, usual_port),
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        };
        if host.is_empty() || host.contains(['/', '@', ':', '[', ']']) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl std::fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "mqtts" } else { "mqtt" }, self.host, self.port)
    }
}

/// Files that prove who a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Authorities that the broker's certificate must chain to, PEM.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain and its private key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The token, as it goes into the password of CONNECT.
    pub token: Option<String>,
}

/// What every token that is issued here says, as the broker's configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
}

/// A token issued here lives as long as a shift with its handover; who connects later takes a new one.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

impl Credentials {
    /// The files of `name` (`device-mon-12`) in a folder as `wardline certs` makes it; no token.
    pub fn in_dir(dir: &Path, name: &str) -> Self {
        let file = |extension| dir.join(format!("{name}.{extension}"));
        Self { ca: Some(dir.join("ca.pem")), certificate: Some((file("pem"), file("key"))), token: None }
    }

    /// Issues a token for `principal` that begins now, bound to the certificate if there is one.
    pub fn issue_token(
        &mut self,
        key: &TokenKey,
        terms: &TokenTerms,
        principal: &str,
        now: Timestamp,
    ) -> Result<(), CredentialsError> {
        let bind = match &self.certificate {
            None => None,
            Some((path, _)) => {
                certificates(path)?.first().map(|certificate| Thumbprint::of(certificate).to_string())
            }
        };
        let request = TokenRequest {
            issuer: terms.issuer.clone(),
            audience: terms.audience.clone(),
            principal: principal.to_owned(),
            roles: None,
            scope: None,
            lifetime: TOKEN_LIFETIME,
            bind,
        };
        self.token = Some(key.issue(&request, now)?);
        Ok(())
    }
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read, or does not hold what it should.
    #[error("{}: cannot read {what}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// TLS without knowing whom to trust.
    #[error("TLS needs the broker's CA certificate: name its file with --ca")]
    NoAuthority,
    /// A token cannot be issued.
    #[error(transparent)]
    Token(#[from] CertsError),
    /// Certificate and key do not make a TLS identity.
    #[error("TLS cannot be set up with this certificate and key: {0}")]
    Setup(#[from] rustls::Error),
}

/// One client of a broker, ready to connect.
#[derive(Clone)]
pub struct Identity {
    /// MQTT client identifier.
    pub client_id: String,
    /// Which broker.
    pub broker: BrokerUrl,
    pub(super) transport: Transport,
    pub(super) token: Option<String>,
}

impl Identity {
    /// Reads the credentials' files; those for TLS are only looked at if `broker` wants it.
    pub fn load(
        client_id: &str,
        broker: &BrokerUrl,
        credentials: &Credentials,
    ) -> Result<Self, CredentialsError> {
        let transport = if broker.tls {
            Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(client_config(credentials)?)))
        } else {
            Transport::tcp()
        };
        Ok(Self {
            client_id: client_id.to_owned(),
            broker: broker.clone(),
            transport,
            token: credentials.token.clone(),
        })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the key inside the transport nor the token belongs into a log.
        f.debug_struct("Identity")
            .field("client_id", &self.client_id)
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}

/// How TLS is spoken with these credentials.
///
/// # Errors
/// The file that cannot be used, and why; or that none says whom to trust.
pub fn client_config(credentials: &Credentials) -> Result<ClientConfig, CredentialsError> {
    let ca = credentials.ca.as_deref().ok_or(CredentialsError::NoAuthority)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| file_error(ca, "a CA certificate", &error))?;
    }
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some((chain, key)) = &credentials.certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let pem = read(key, "a private key")?;
    let key =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| file_error(key, "a private key", &error))?;
    Ok(builder.with_client_auth_cert(certificates(chain)?, key)?)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let pem = read(path, "a certificate")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(file_error(path, "a certificate", &"no PEM certificate in it")),
        Err(error) => Err(file_error(path, "a certificate", &error)),
    }
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|error| file_error(path, what, &error))
}

fn file_error(path: &Path, what: &'static str, reason: &dyn std::fmt::Display) -> CredentialsError {
    CredentialsError::File { path: path.to_owned(), what, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_scheme_a_host_and_a_port() {
        let url = |text: &str| text.parse::<BrokerUrl>().map(|url| url.to_string());
        assert_eq!(url("mqtts://localhost:18883").unwrap(), "mqtts://localhost:18883");
        assert_eq!(url("mqtts://ward.example/").unwrap(), "mqtts://ward.example:8883");
        assert_eq!(url("mqtt://127.0.0.1").unwrap(), "mqtt://127.0.0.1:1883");
        for wrong in [
            "localhost:1883",
            "http://localhost",
            "mqtt://",
            "mqtt://a:b",
            "mqtt://u@h:1",
            "mqtt://[::1]:1883",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tls_without_a_known_authority_is_refused_before_connecting() {
        let broker = "mqtts://localhost".parse().unwrap();
        let error = Identity::load("mon-1", &broker, &Credentials::default()).unwrap_err();
        assert!(matches!(error, CredentialsError::NoAuthority));
        let ca = Some(PathBuf::from("/nonexistent/ca.pem"));
        let error =
            Identity::load("mon-1", &broker, &Credentials { ca, ..Credentials::default() }).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/ca.pem: cannot read a certificate"), "{error}");
    }
}
