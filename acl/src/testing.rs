//! An issuer for tests.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use crate::{Algorithm, Claims, IssuerSource, Issuers, TokenError};

pub(crate) const ISSUER: &str = "https://id.hospital.example";
pub(crate) const AUDIENCE: &str = "wardline";
pub(crate) const KEY_ID: &str = "2026-11";

pub(crate) fn now() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().unwrap()
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    /// The public key as it is found in certificates, without its algorithm.
    pub(crate) public: Vec<u8>,
    pub(crate) jwk: Value,
}

impl Signer {
    pub(crate) fn ed25519() -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let public = pair.der_bytes().to_vec();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": KEY_ID, "x": base64url(&public) });
        Self {
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(pair.serialized_der()),
            public,
            jwk,
        }
    }

    pub(crate) fn p256() -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let public = pair.der_bytes().to_vec();
        let (x, y) = (base64url(&public[1..33]), base64url(&public[33..]));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": KEY_ID, "use": "sig", "x": x, "y": y });
        Self {
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(pair.serialized_der()),
            public,
            jwk,
        }
    }

    /// For PS256; the same key could sign RS256.
    pub(crate) fn rsa() -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::PS256).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = KEY_ID.into();
        Self { algorithm: Algorithm::PS256, key, public: pair.der_bytes().to_vec(), jwk }
    }

    pub(crate) fn jwks(&self) -> Vec<u8> {
        json!({ "keys": [self.jwk] }).to_string().into_bytes()
    }

    pub(crate) fn issuers(&self) -> Issuers {
        self.issuers_with(&[self.algorithm])
    }

    pub(crate) fn issuers_with(&self, algorithms: &[Algorithm]) -> Issuers {
        let jwks = self.jwks();
        Issuers::load([IssuerSource { issuer: ISSUER, audience: AUDIENCE, jwks: &jwks, algorithms }]).unwrap()
    }

    pub(crate) fn claims(&self) -> Value {
        let now = now().as_second();
        json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "device:mon-12", "iat": now, "exp": now + 3600, "jti": "1" })
    }

    pub(crate) fn header(&self) -> Header {
        Header { kid: Some(KEY_ID.to_owned()), ..Header::new(self.algorithm.of_library()) }
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        encode(&self.header(), claims, &self.key).unwrap()
    }

    pub(crate) fn verify(&self, claims: &Value) -> Result<Claims, TokenError> {
        self.issuers().verify(self.token(claims).as_bytes(), now(), None)
    }
}
