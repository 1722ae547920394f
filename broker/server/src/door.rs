//! A listener's door: who may come in, and whether those inside may stay after a reload.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use wardline_acl::{
    AuthError, Grants, Identity, Issuers, Policy, Principal, Require, UriPrefix, authenticate, reauthenticate,
};
use wardline_core::Denial;
use wardline_wire::{Connect, ReasonCode};

use crate::{
    ace::{self, Ace},
    config::ListenerLimits,
};

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

impl TlsLock {
    /// Judges a client's chain, its own certificate first, as at `now`; no chain is none to judge.
    ///
    /// # Errors
    /// What is wrong with it: expired, revoked, of another authority.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), rustls::Error> {
        let (Some(verifier), Some((certificate, intermediates))) = (&self.verifier, chain.split_first())
        else {
            return Ok(());
        };
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_client_cert(certificate, intermediates, at).map(|_| ())
    }
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
    /// What it grants those who come in.
    pub limits: ListenerLimits,
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

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self { reason: denial.reason, text: denial.text, principal: String::new() }
    }
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
        let identity = self.identify(&chain, connect.password.as_deref(), now).map_err(|error| Refusal {
            reason: error.reason(),
            text: error.to_string(),
            principal: String::new(),
        })?;
        self.let_in(identity, chain)
    }

    /// Begins enhanced authentication for a CONNECT that names `method`.
    ///
    /// # Errors
    /// There is no such method here [MQTT-4.12.0-1].
    pub fn exchange(
        self: &Arc<Self>,
        method: &str,
        chain: &[CertificateDer<'static>],
    ) -> Result<Ace, Refusal> {
        let takes_tokens = matches!(self.demand, Demand::Credentials(require) if require.token());
        if method == ace::METHOD && takes_tokens {
            return Ok(Ace::new(self, chain));
        }
        let text = if takes_tokens {
            format!("authentication method {method:?} is not offered; {:?} is", ace::METHOD)
        } else {
            format!("authentication method {method:?} is not offered; this listener takes no tokens")
        };
        Err(Refusal { reason: ReasonCode::BadAuthenticationMethod, text, principal: String::new() })
    }

    /// Who a client is, by its certificate `chain` and `token`, as far as the listener demands them.
    ///
    /// # Errors
    /// What is missing, refused, or not in agreement.
    pub fn identify(
        &self,
        chain: &[CertificateDer<'static>],
        token: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Identity, AuthError> {
        match &self.demand {
            Demand::Anonymous(principal) => {
                Ok(Identity { principal: principal.clone(), claims: None, thumbprint: None })
            }
            Demand::Credentials(require) => {
                let issuers = Arc::clone(&self.locks.borrow().issuers);
                authenticate(*require, chain.first(), token, &issuers, &self.prefix, now)
            }
        }
    }

    /// Who somebody inside is by a new token: the same principal.
    ///
    /// # Errors
    /// As for a token at CONNECT, or that it is of somebody else.
    pub fn renew(&self, present: &Identity, token: &[u8], now: Timestamp) -> Result<Identity, AuthError> {
        let issuers = Arc::clone(&self.locks.borrow().issuers);
        reauthenticate(present, token, &issuers, now)
    }

    /// Lets in whom the policy names.
    ///
    /// # Errors
    /// The reason for the client, and the sentence for the record.
    pub fn let_in(
        &self,
        identity: Identity,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Admitted, Refusal> {
        let locks = self.locks.borrow().clone();
        if !locks.policy.knows(&identity.principal) {
            return Err(Refusal {
                reason: ReasonCode::NotAuthorized,
                text: format!("the policy does not name {}", identity.principal),
                principal: identity.principal.to_string(),
            });
        }
        let grants = Arc::new(locks.policy.grants(&identity.principal, identity.claims.as_deref()));
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
        if let Some(tls) = &locks.tls {
            tls.verify(&admitted.chain, now)
                .map_err(|error| format!("the client certificate is not good any more: {error}"))?;
        }
        admitted.grants = Arc::new(locks.policy.grants(principal, admitted.identity.claims.as_deref()));
        Ok(())
    }
}

impl Admitted {
    /// Who they are.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Takes over what a new token says. What they may do follows with [`Door::readmit`].
    pub fn renewed(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// What they may do.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// When their token ends, if they came with one.
    pub fn expires(&self) -> Option<Timestamp> {
        self.identity.claims.as_ref().map(|claims| claims.expires)
    }
}
