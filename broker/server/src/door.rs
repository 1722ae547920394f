//! A listener's door: who may come in, and whether those inside may stay after a reload.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use wardline_acl::{Grants, Identity, Issuers, Policy, Principal, Require, UriPrefix, authenticate};
use wardline_wire::{Connect, ReasonCode};

/// What a door opens with. Made anew by a reload and swapped whole, so that nobody sees half of it.
pub struct Locks {
    /// Whose tokens are good.
    pub issuers: Arc<Issuers>,
    /// Who may do what.
    pub policy: Arc<Policy>,
    /// Set where the listener speaks TLS.
    pub tls: Option<TlsLock>,
}

/// The TLS side of a door.
#[derive(Clone)]
pub struct TlsLock {
    /// Takes handshakes.
    pub acceptor: TlsAcceptor,
    /// Judges client certificates, where the listener asks for them.
    pub verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// How a listener knows who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Everybody here is this principal.
    Anonymous(Principal),
    /// Certificate, token, or both.
    Credentials(Require),
}

/// A listener's door.
pub struct Door {
    /// The listener's name, for the record.
    pub name: Arc<str>,
    /// How it knows who somebody is.
    pub demand: Demand,
    /// How certificates name principals.
    pub prefix: UriPrefix,
    /// Bytes of one packet from a client.
    pub packet_bytes_max: u32,
    /// How long a CONNECT may take from the first byte of the connection on.
    pub connect_timeout: Duration,
    /// The present locks.
    pub locks: watch::Receiver<Arc<Locks>>,
}

/// Why somebody was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the CONNACK.
    pub reason: ReasonCode,
    /// For the record.
    pub text: String,
    /// Who it would have been, as far as that is proved; else empty.
    pub principal: String,
}

/// Somebody who was let in.
#[derive(Debug)]
pub struct Admitted {
    identity: Identity,
    /// The client's chain as TLS verified it, its own certificate first; empty without one.
    chain: Vec<CertificateDer<'static>>,
    grants: Arc<Grants>,
}

impl Door {
    /// Decides on a CONNECT; `chain` is what TLS has verified, the client's own certificate first.
    ///
    /// # Errors
    /// The reason for the client, and the sentence for the record.
    pub fn admit(
        &self,
        connect: &Connect,
        chain: Vec<CertificateDer<'static>>,
        now: Timestamp,
    ) -> Result<Admitted, Refusal> {
        let refusal = |reason, text: String| Refusal { reason, text, principal: String::new() };
        if let Some(method) = &connect.properties.authentication_method {
            let text =
                format!("authentication method {method} is not offered; send the token as the password");
            return Err(refusal(ReasonCode::BadAuthenticationMethod, text));
        }
        let locks = self.locks.borrow().clone();
        let identity = match &self.demand {
            Demand::Anonymous(principal) => {
                Identity { principal: principal.clone(), claims: None, thumbprint: None }
            }
            Demand::Credentials(require) => authenticate(
                *require,
                chain.first(),
                connect.password.as_deref(),
                &locks.issuers,
                &self.prefix,
                now,
            )
            .map_err(|error| refusal(error.reason(), error.to_string()))?,
        };
        if !locks.policy.knows(&identity.principal) {
            return Err(Refusal {
                reason: ReasonCode::NotAuthorized,
                text: format!("the policy does not name {}", identity.principal),
                principal: identity.principal.to_string(),
            });
        }
        let grants = Arc::new(locks.policy.grants(&identity.principal, identity.claims.as_ref()));
        Ok(Admitted { identity, chain, grants })
    }

    /// Whether somebody inside may stay under the present locks; takes over what they may do from now on.
    ///
    /// # Errors
    /// Why not, for the client and the record.
    pub fn readmit(&self, admitted: &mut Admitted, now: Timestamp) -> Result<(), String> {
        let locks = self.locks.borrow().clone();
        let principal = &admitted.identity.principal;
        if !locks.policy.knows(principal) {
            return Err(format!("the policy does not name {principal} any more"));
        }
        if let Some(claims) = &admitted.identity.claims
            && !locks.issuers.vouch_for(claims)
        {
            return Err(format!("the token's key or issuer {} is not trusted any more", claims.issuer));
        }
        let verifier = locks.tls.as_ref().and_then(|tls| tls.verifier.as_ref());
        if let (Some(verifier), Some((certificate, intermediates))) = (verifier, admitted.chain.split_first())
        {
            let seconds = u64::try_from(now.as_second()).unwrap_or_default();
            let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            verifier
                .verify_client_cert(certificate, intermediates, at)
                .map_err(|error| format!("the client certificate is not good any more: {error}"))?;
        }
        admitted.grants = Arc::new(locks.policy.grants(principal, admitted.identity.claims.as_ref()));
        Ok(())
    }
}

impl Admitted {
    /// What they may do.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// When their token ends, if they came with one.
    pub fn expires(&self) -> Option<Timestamp> {
        self.identity.claims.as_ref().map(|claims| claims.expires)
    }
}
