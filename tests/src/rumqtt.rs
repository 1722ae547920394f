//! rumqttc as a device or a pager: options with mutual TLS, and events waited for with a deadline.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::{TlsConfiguration, Transport, v5};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Broker, Credentials, DEADLINE, Site};

/// Requests that a client may hold.
const CAPACITY: usize = 100;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The client's side of TLS: trusts `ca`, and shows `credentials`.
pub fn client_config(ca: &Path, credentials: Option<&Credentials>) -> Arc<ClientConfig> {
    client_config_of(ca, credentials, rustls::DEFAULT_VERSIONS)
}

/// [`client_config`] that speaks only these versions.
pub fn client_config_of(
    ca: &Path,
    credentials: Option<&Credentials>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a CA certificate")).expect("a usable CA certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider has them")
        .with_root_certificates(roots);
    Arc::new(match credentials {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(&files.certificate).expect("a readable certificate");
            let chain = chain.collect::<Result<_, _>>().expect("a certificate in PEM");
            let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key in PEM");
            builder.with_client_auth_cert(chain, key).expect("a key of the certificate")
        }
    })
}

/// TLS that trusts `ca` and shows `credentials`, if any.
pub fn tls(ca: &Path, credentials: Option<&Credentials>) -> Transport {
    Transport::tls_with_config(TlsConfiguration::Rustls(client_config(ca, credentials)))
}

/// A client of MQTT 3.1.1.
pub struct V4 {
    /// To publish and subscribe.
    pub client: rumqttc::Client,
    connection: rumqttc::Connection,
}

impl V4 {
    /// Connects to a local port; a token is sent as the password.
    ///
    /// # Errors
    /// What rumqttc says when the broker refuses.
    pub fn connect(id: &str, port: u16, transport: Transport, token: Option<&str>) -> Result<Self, String> {
        let mut options = rumqttc::MqttOptions::new(id, "localhost", port);
        options.set_transport(transport).set_keep_alive(KEEP_ALIVE);
        if let Some(token) = token {
            // MQTT 3.1.1 has no password without a user name [MQTT3-3.1.2-22]; which one is of no account.
            options.set_credentials("token", token);
        }
        let (client, connection) = rumqttc::Client::new(options, CAPACITY);
        let mut client = Self { client, connection };
        client.wait(|packet| matches!(packet, rumqttc::Packet::ConnAck(_)).then_some(()))?;
        Ok(client)
    }

    /// Drives the connection until `wanted` takes an incoming packet.
    ///
    /// # Errors
    /// What ended the connection before, or that nothing came in time.
    pub fn wait<T>(&mut self, wanted: impl Fn(&rumqttc::Packet) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.connection.recv_timeout(left) {
                Ok(Ok(rumqttc::Event::Incoming(packet))) => {
                    if let Some(found) = wanted(&packet) {
                        return Ok(found);
                    }
                }
                Ok(Ok(rumqttc::Event::Outgoing(_))) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(error) => return Err(format!("nothing came in time: {error:?}")),
            }
        }
    }
}

/// A client of MQTT 5.
pub struct V5 {
    /// To publish and subscribe.
    pub client: v5::Client,
    connection: v5::Connection,
}

impl V5 {
    /// Connects to a local port; a token is sent as the password.
    ///
    /// # Errors
    /// What rumqttc says when the broker refuses.
    pub fn connect(id: &str, port: u16, transport: Transport, token: Option<&str>) -> Result<Self, String> {
        let mut options = v5::MqttOptions::new(id, "localhost", port);
        options.set_transport(transport).set_keep_alive(KEEP_ALIVE);
        if let Some(token) = token {
            // rumqttc has no password without a user name; which one is of no account.
            options.set_credentials("token", token);
        }
        let (client, connection) = v5::Client::new(options, CAPACITY);
        let mut client = Self { client, connection };
        client.wait(|packet| matches!(packet, v5::mqttbytes::v5::Packet::ConnAck(_)).then_some(()))?;
        Ok(client)
    }

    /// The pager of the nurse `staff:n.ito`, on the listener `ward`, subscribed to the alerts of its unit.
    ///
    /// # Panics
    /// If the broker does not let it.
    pub fn pager(site: &Site, broker: &Broker) -> Self {
        let nurse = site.staff("n.ito");
        let badge = site.token_bound_to("staff:n.ito", &nurse);
        let transport = tls(&site.ca(), Some(&nurse));
        let mut pager =
            Self::connect("pager", broker.port("ward"), transport, Some(&badge)).expect("it is let in");
        pager.client.subscribe("alerts/icu-3/nurse/#", v5::mqttbytes::QoS::AtLeastOnce).expect("it runs");
        pager
            .wait(|packet| matches!(packet, v5::mqttbytes::v5::Packet::SubAck(_)).then_some(()))
            .expect("the subscription is answered");
        pager
    }

    /// Drives the connection until `wanted` takes an incoming packet.
    ///
    /// # Errors
    /// What ended the connection before, or that nothing came in time.
    pub fn wait<T>(&mut self, wanted: impl Fn(&v5::mqttbytes::v5::Packet) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.connection.recv_timeout(left) {
                Ok(Ok(v5::Event::Incoming(packet))) => {
                    if let Some(found) = wanted(&packet) {
                        return Ok(found);
                    }
                }
                Ok(Ok(v5::Event::Outgoing(_))) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(error) => return Err(format!("nothing came in time: {error:?}")),
            }
        }
    }
}
