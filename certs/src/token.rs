//! Tokens for development and small sites; elsewhere the hospital's identity provider issues them.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData};
use serde_json::{Value, json};

use crate::files::{self, Secrecy};
use crate::{CertsError, Overwrite};

/// Bytes of a token's `jti`: random ones never meet.
const TOKEN_ID_BYTES: usize = 16;

/// An Ed25519 key that signs tokens, with its public half in `jwks.json`.
pub struct TokenKey {
    key: EncodingKey,
    id: String,
}

/// What a token is to say.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// `sub`: `device:ID`, `staff:ID` or `service:ID`.
    pub principal: String,
    /// `roles`; `None`: all that the policy gives.
    pub roles: Option<Vec<String>>,
    /// `scope`: AIF-MQTT (RFC 9237); `None`: all that the roles grant.
    pub scope: Option<Value>,
    /// From now on.
    pub lifetime: Duration,
    /// `cnf."x5t#S256"`: the thumbprint of the client certificate it is bound to.
    pub bind: Option<String>,
}

impl TokenKey {
    /// Makes `token.key` and `jwks.json` in `dir`.
    ///
    /// # Errors
    /// When there is a key already and `overwrite` does not allow to replace it; when a file cannot be written.
    pub fn create(dir: &Path, overwrite: Overwrite) -> Result<Self, CertsError> {
        std::fs::create_dir_all(dir).map_err(CertsError::file("make the folder", dir))?;
        let pair = KeyPair::generate_for(&PKCS_ED25519)?;
        files::write_key(&dir.join("token.key"), &pair.serialize_pem(), overwrite)?;
        let x = URL_SAFE_NO_PAD.encode(pair.der_bytes());
        let id = key_id(&x);
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "use": "sig", "alg": "EdDSA" });
        let jwks = format!("{:#}\n", json!({ "keys": [jwk] }));
        files::write(&dir.join("jwks.json"), jwks.as_bytes(), Secrecy::Public)?;
        Ok(Self { key: EncodingKey::from_ed_der(pair.serialized_der()), id })
    }

    /// Opens `token.key` in `dir`.
    ///
    /// # Errors
    /// When there is none, or it is no Ed25519 key.
    pub fn open(dir: &Path) -> Result<Self, CertsError> {
        let path = dir.join("token.key");
        if !path.exists() {
            return Err(CertsError::NoTokenKey(dir.to_owned()));
        }
        let damaged = |error: rcgen::Error| CertsError::damaged(&path, &error);
        let pair =
            KeyPair::from_pkcs8_pem_and_sign_algo(&files::read(&path)?, &PKCS_ED25519).map_err(damaged)?;
        let id = key_id(&URL_SAFE_NO_PAD.encode(pair.der_bytes()));
        Ok(Self { key: EncodingKey::from_ed_der(pair.serialized_der()), id })
    }

    /// The `kid` of its tokens: the key's thumbprint (RFC 7638).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs a token that begins now.
    ///
    /// # Errors
    /// When the lifetime is out of range, or the system gives no random numbers.
    pub fn issue(&self, request: &TokenRequest, now: Timestamp) -> Result<String, CertsError> {
        let mut token_id = [0; TOKEN_ID_BYTES];
        rand::fill(&mut token_id)?;
        let expires = now.checked_add(request.lifetime).map_err(|_| CertsError::Time)?;
        let mut claims = json!({
            "iss": request.issuer,
            "sub": request.principal,
            "aud": request.audience,
            "iat": now.as_second(),
            "nbf": now.as_second(),
            "exp": expires.as_second(),
            "jti": URL_SAFE_NO_PAD.encode(token_id),
        });
        if let Some(claims) = claims.as_object_mut() {
            let binding = request.bind.as_ref().map(|thumbprint| json!({ "x5t#S256": thumbprint }));
            let optional = [
                ("roles", request.roles.clone().map(Value::from)),
                ("scope", request.scope.clone()),
                ("cnf", binding),
            ];
            claims.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        Ok(encode(&header, &claims, &self.key)?)
    }
}

/// RFC 7638: SHA-256 of the required members in lexical order, without white space.
fn key_id(x: &str) -> String {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_id_is_the_thumbprint_of_rfc_8037() {
        // RFC 8037 appendix A.3.
        let id = key_id("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_key_opens_as_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let made = TokenKey::create(dir.path(), Overwrite::No).unwrap();
        assert_eq!(TokenKey::open(dir.path()).unwrap().id(), made.id());
        assert!(matches!(TokenKey::create(dir.path(), Overwrite::No), Err(CertsError::Exists(_))));
        assert_eq!(TokenKey::open(dir.path()).unwrap().id(), made.id());
        assert_ne!(TokenKey::create(dir.path(), Overwrite::Yes).unwrap().id(), made.id());
        assert!(matches!(TokenKey::open(&dir.path().join("none")), Err(CertsError::NoTokenKey(_))));
    }
}
