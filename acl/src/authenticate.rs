//! From what a client shows to who it is.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use wardline_wire::ReasonCode;

use crate::{
    CertificateError, Claims, Issuers, Principal, Thumbprint, TokenError, UriPrefix,
    principal_from_certificate,
};

/// What a listener demands. There is no "nothing": a listener without authentication names its one principal itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Require {
    /// A client certificate; a password is not looked at.
    Certificate,
    /// A token; a certificate is looked at only if the token is bound to one.
    Token,
    /// Both, naming one principal.
    Both,
}

impl Require {
    /// From a list such as `["certificate", "token"]`; `None` if nothing is demanded.
    pub fn of(certificate: bool, token: bool) -> Option<Self> {
        match (certificate, token) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Certificate),
            (false, true) => Some(Self::Token),
            (false, false) => None,
        }
    }

    /// Whether a certificate is demanded.
    pub fn certificate(self) -> bool {
        self != Self::Token
    }

    /// Whether a token is demanded.
    pub fn token(self) -> bool {
        self != Self::Certificate
    }
}

/// Who a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The one principal that all credentials name.
    pub principal: Principal,
    /// What the token says, if one was demanded.
    pub claims: Option<Box<Claims>>,
    /// Of the connection's certificate, if it has one.
    pub thumbprint: Option<Thumbprint>,
}

/// Decides who a client is. `certificate` is one whose chain, dates and revocation TLS has verified; `password` is that of
/// the CONNECT, or the token in enhanced authentication data.
///
/// # Errors
/// What is missing, refused, or not in agreement.
pub fn authenticate(
    require: Require,
    certificate: Option<&CertificateDer<'_>>,
    password: Option<&[u8]>,
    issuers: &Issuers,
    prefix: &UriPrefix,
    now: Timestamp,
) -> Result<Identity, AuthError> {
    let thumbprint = certificate.map(Thumbprint::of);
    let certified = || -> Result<Principal, AuthError> {
        let certificate = certificate.ok_or(AuthError::NoCertificate)?;
        Ok(principal_from_certificate(certificate, prefix)?)
    };
    let claimed = || -> Result<Claims, AuthError> {
        let token = password.filter(|password| !password.is_empty()).ok_or(AuthError::NoToken)?;
        Ok(issuers.verify(token, now, thumbprint.as_ref())?)
    };
    let (principal, claims) = match require {
        Require::Certificate => (certified()?, None),
        Require::Token => {
            let claims = claimed()?;
            (claims.principal.clone(), Some(Box::new(claims)))
        }
        Require::Both => {
            let principal = certified()?;
            let claims = claimed()?;
            if principal != claims.principal {
                return Err(AuthError::Disagree { certificate: principal, token: claims.principal });
            }
            (principal, Some(Box::new(claims)))
        }
    };
    Ok(Identity { principal, claims, thumbprint })
}

/// Takes a new token within a connection (MQTT 5 section 4.12.1). It must name the principal that the connection has.
///
/// # Errors
/// As for a token at CONNECT, or [`AuthError::OtherPrincipal`]; the identity as it was stays good until its own token expires.
pub fn reauthenticate(
    identity: &Identity,
    token: &[u8],
    issuers: &Issuers,
    now: Timestamp,
) -> Result<Identity, AuthError> {
    let claims = issuers.verify(token, now, identity.thumbprint.as_ref())?;
    if claims.principal != identity.principal {
        return Err(AuthError::OtherPrincipal { was: identity.principal.clone(), token: claims.principal });
    }
    Ok(Identity { claims: Some(Box::new(claims)), ..identity.clone() })
}

/// Why nobody was let in. The text goes to the audit record and never holds a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Demanded, and not shown.
    #[error("this listener demands a client certificate, and there is none")]
    NoCertificate,
    /// Shown, and names nobody.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Demanded, and not shown.
    #[error("this listener demands a token, as the CONNECT's password or by method ace, and there is none")]
    NoToken,
    /// Shown, and refused.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Two principals.
    #[error("the certificate is of {certificate}, but the token of {token}")]
    Disagree {
        /// Who the certificate names.
        certificate: Principal,
        /// Who the token names.
        token: Principal,
    },
    /// A renewed token for somebody else.
    #[error("the connection is of {was}, but the new token of {token}")]
    OtherPrincipal {
        /// Who the connection belongs to.
        was: Principal,
        /// Who the token names.
        token: Principal,
    },
}

impl AuthError {
    /// For the CONNACK to a token in the password, or to a certificate.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::NoToken | Self::Token(_) => ReasonCode::BadUserNameOrPassword,
            Self::NoCertificate
            | Self::Certificate(_)
            | Self::Disagree { .. }
            | Self::OtherPrincipal { .. } => ReasonCode::NotAuthorized,
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;
    use crate::testing::{Signer, now};

    fn certificate(uri: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn ask(
        require: Require,
        certificate: Option<&CertificateDer<'_>>,
        token: Option<&str>,
        signer: &Signer,
    ) -> Result<Identity, AuthError> {
        let password = token.map(str::as_bytes);
        authenticate(require, certificate, password, &signer.issuers(), &UriPrefix::default(), now())
    }

    #[test]
    fn each_demand_takes_what_it_names_and_nothing_less() {
        let signer = Signer::ed25519();
        let mine = certificate("urn:wardline:device:mon-12");
        let other = certificate("urn:wardline:device:mon-13");
        let nameless = certificate("urn:other:device:mon-12");
        let token = signer.token(&signer.claims());
        let (token, rubbish) = (Some(token.as_str()), Some("secret"));

        for (require, certificate, token) in [
            (Require::Certificate, Some(&mine), None),
            (Require::Certificate, Some(&mine), rubbish),
            (Require::Token, None, token),
            (Require::Token, Some(&nameless), token),
            (Require::Both, Some(&mine), token),
        ] {
            let identity = ask(require, certificate, token, &signer).unwrap();
            assert_eq!(identity.principal.as_str(), "device:mon-12");
            assert_eq!(identity.claims.is_some(), require.token());
        }

        use ReasonCode::{BadUserNameOrPassword, NotAuthorized};
        for (require, certificate, token, reason) in [
            (Require::Certificate, None, token, NotAuthorized),
            (Require::Certificate, Some(&nameless), token, NotAuthorized),
            (Require::Token, Some(&mine), None, BadUserNameOrPassword),
            (Require::Token, Some(&mine), Some(""), BadUserNameOrPassword),
            (Require::Token, Some(&mine), rubbish, BadUserNameOrPassword),
            (Require::Both, Some(&mine), None, BadUserNameOrPassword),
            (Require::Both, None, token, NotAuthorized),
            (Require::Both, Some(&mine), rubbish, BadUserNameOrPassword),
            (Require::Both, Some(&other), token, NotAuthorized),
        ] {
            let error = ask(require, certificate, token, &signer).unwrap_err();
            assert_eq!(error.reason(), reason, "{require:?}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_bound_token_is_worth_something_only_with_its_certificate() {
        let signer = Signer::ed25519();
        let mine = certificate("urn:wardline:device:mon-12");
        let stolen_by = certificate("urn:wardline:device:mon-12");
        let mut claims = signer.claims();
        claims["cnf"] = serde_json::json!({ "x5t#S256": Thumbprint::of(&mine).to_string() });
        let token = signer.token(&claims);
        assert!(ask(Require::Both, Some(&mine), Some(&token), &signer).is_ok());
        assert!(ask(Require::Token, Some(&mine), Some(&token), &signer).is_ok());
        let error = ask(Require::Both, Some(&stolen_by), Some(&token), &signer).unwrap_err();
        assert_eq!(error, AuthError::Token(TokenError::OtherCertificate));
        let error = ask(Require::Token, None, Some(&token), &signer).unwrap_err();
        assert_eq!(error, AuthError::Token(TokenError::CertificateMissing));
    }

    #[test]
    fn a_renewed_token_keeps_the_principal() {
        let signer = Signer::ed25519();
        let token = signer.token(&signer.claims());
        let identity = ask(Require::Token, None, Some(&token), &signer).unwrap();
        let mut claims = signer.claims();
        claims["exp"] = (now().as_second() + 7200).into();
        let renewed = signer.token(&claims);
        let renewed = reauthenticate(&identity, renewed.as_bytes(), &signer.issuers(), now()).unwrap();
        assert!(renewed.claims.unwrap().expires > identity.claims.as_ref().unwrap().expires);

        claims["sub"] = "device:mon-13".into();
        let foreign = signer.token(&claims);
        let error = reauthenticate(&identity, foreign.as_bytes(), &signer.issuers(), now()).unwrap_err();
        assert!(matches!(&error, AuthError::OtherPrincipal { token, .. } if token.id() == "mon-13"));
        assert_eq!(error.reason(), ReasonCode::NotAuthorized);
    }
}
