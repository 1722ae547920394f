use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::testing::{AUDIENCE, ISSUER, KEY_ID, Signer, base64url, now};

fn with(claim: &str, value: impl Into<Value>) -> Result<Claims, TokenError> {
    let signer = Signer::ed25519();
    let mut claims = signer.claims();
    claims[claim] = value.into();
    signer.verify(&claims)
}

fn without(claim: &str) -> Result<Claims, TokenError> {
    let signer = Signer::ed25519();
    let mut claims = signer.claims();
    claims.as_object_mut().unwrap().remove(claim);
    signer.verify(&claims)
}

fn load(jwks: &Value, algorithms: &[Algorithm]) -> Result<Issuers, KeyError> {
    let jwks = jwks.to_string().into_bytes();
    let source = IssuerSource { issuer: ISSUER, audience: AUDIENCE, jwks: &jwks, algorithms };
    Issuers::load([source]).map_err(|(_, error)| error)
}

#[test]
fn a_good_token_of_every_algorithm_is_taken() {
    for signer in [Signer::ed25519(), Signer::p256(), Signer::rsa()] {
        let mut claims = signer.claims();
        claims["roles"] = json!(["monitor"]);
        claims["scope"] = json!([["telemetry/#", ["pub"]]]);
        let claims = signer.verify(&claims).unwrap();
        assert_eq!(claims.principal.as_str(), "device:mon-12");
        assert_eq!(claims.expires.as_second(), now().as_second() + 3600);
        assert_eq!(claims.roles, Some(vec!["monitor".to_owned()]));
        assert_eq!(claims.scope.unwrap().0.len(), 1);
        assert_eq!(claims.id.as_deref(), Some("1"));
    }
    let signer = Signer::rsa();
    let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(jsonwebtoken::Algorithm::RS256) };
    let token = encode(&header, &signer.claims(), &signer.key).unwrap();
    let mut jwk = signer.jwk;
    jwk.as_object_mut().unwrap().remove("alg");
    let issuers = load(&json!({ "keys": [jwk] }), &[Algorithm::RS256]).unwrap();
    assert!(issuers.verify(token.as_bytes(), now(), None).is_ok());
}

#[test]
fn time_is_what_the_caller_says() {
    let second = now().as_second();
    assert!(with("exp", second + 1).is_ok());
    assert_eq!(with("exp", second), Err(TokenError::Expired(now())));
    assert!(with("exp", second as f64 + 1.9).is_ok());
    assert!(matches!(with("exp", second as f64 + 0.9), Err(TokenError::Expired(_))), "a fraction is dropped");
    let leeway = i64::try_from(NOT_BEFORE_LEEWAY.as_secs()).unwrap();
    assert!(with("nbf", second + leeway).is_ok());
    assert!(matches!(with("nbf", second + leeway + 1), Err(TokenError::NotYetValid(_))));
    for wrong in [json!(1e300), json!(u64::MAX), json!(-1e300)] {
        assert!(matches!(with("exp", wrong), Err(TokenError::Malformed(_))));
    }
    assert!(matches!(with("exp", "tomorrow"), Err(TokenError::Malformed(_))));
}

#[test]
fn claims_of_somebody_or_something_else_are_refused() {
    assert_eq!(
        with("iss", "https://evil.example"),
        Err(TokenError::OtherIssuer("https://evil.example".to_owned()))
    );
    assert_eq!(with("aud", "another"), Err(TokenError::Audience(AUDIENCE.to_owned())));
    assert_eq!(with("aud", json!(["another", "third"])), Err(TokenError::Audience(AUDIENCE.to_owned())));
    assert!(with("aud", json!(["another", AUDIENCE])).is_ok());
    assert_eq!(with("sub", "mon-12"), Err(TokenError::Principal(InvalidPrincipal::Kind)));
    assert_eq!(with("sub", "device:a/b"), Err(TokenError::Principal(InvalidPrincipal::Id)));
    assert_eq!(with("sub", "plugin:escalation"), Err(TokenError::Plugin));
    for claim in ["iss", "aud", "exp", "sub"] {
        assert_eq!(without(claim), Err(TokenError::Missing(claim)));
    }
    assert!(matches!(with("scope", "openid profile"), Err(TokenError::Scope(_))));
    assert!(matches!(with("scope", json!([["a/#/b", ["pub"]]])), Err(TokenError::Scope(_))));
    assert!(matches!(with("roles", "monitor"), Err(TokenError::Malformed(_))));
}

#[test]
fn a_binding_is_honoured_or_the_token_refused() {
    let certificate = Thumbprint::of(&b"certificate".as_slice().into());
    let other = Thumbprint::of(&b"other".as_slice().into());
    let signer = Signer::ed25519();
    let mut claims = signer.claims();
    claims["cnf"] = json!({ "x5t#S256": certificate.to_string() });
    let token = signer.token(&claims);
    let verify = |shown| signer.issuers().verify(token.as_bytes(), now(), shown);
    assert_eq!(verify(Some(&certificate)).unwrap().bound_to, Some(certificate));
    assert_eq!(verify(Some(&other)), Err(TokenError::OtherCertificate));
    assert_eq!(verify(None), Err(TokenError::CertificateMissing));
    for unknown in [json!({}), json!({ "jwk": {} }), json!({ "x5t#S256": "short" })] {
        assert_eq!(with("cnf", unknown), Err(TokenError::Confirmation));
    }
}

#[test]
fn no_algorithm_but_the_keys_own_is_taken() {
    let signer = Signer::ed25519();
    let issuers = signer.issuers_with(&Algorithm::ALL);
    let refused = |token: &str| issuers.verify(token.as_bytes(), now(), None).unwrap_err();
    let claims = base64url(signer.claims().to_string());

    for alg in ["none", "None", "NONE", ""] {
        let header = base64url(json!({ "alg": alg, "kid": KEY_ID }).to_string());
        assert_eq!(refused(&format!("{header}.{claims}.")), TokenError::Algorithm(alg.to_owned()));
    }
    // The public key used as an HMAC secret.
    let confused = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(jsonwebtoken::Algorithm::HS256) };
    let token = encode(&confused, &signer.claims(), &EncodingKey::from_secret(&signer.public)).unwrap();
    assert_eq!(refused(&token), TokenError::Algorithm("HS256".to_owned()));
    // An algorithm that the issuer may use, but not with this key.
    let p256 = Signer::p256();
    assert_eq!(refused(&p256.token(&p256.claims())), TokenError::Algorithm("ES256".to_owned()));
    // A key that could, but an issuer that may not.
    let rsa = Signer::rsa();
    let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(jsonwebtoken::Algorithm::RS256) };
    let token = encode(&header, &rsa.claims(), &rsa.key).unwrap();
    let error = rsa.issuers().verify(token.as_bytes(), now(), None).unwrap_err();
    assert_eq!(error, TokenError::Algorithm("RS256".to_owned()));
}

#[test]
fn a_key_is_found_by_its_kid_and_never_guessed() {
    let (signer, mut second) = (Signer::ed25519(), Signer::ed25519());
    second.jwk["kid"] = "other".into();
    let token_with = |kid: Option<&str>| {
        let header = Header { kid: kid.map(str::to_owned), ..signer.header() };
        encode(&header, &signer.claims(), &signer.key).unwrap()
    };
    let one = signer.issuers();
    let two = load(&json!({ "keys": [signer.jwk, second.jwk] }), &[Algorithm::EdDSA]).unwrap();
    let verify = |issuers: &Issuers, kid| issuers.verify(token_with(kid).as_bytes(), now(), None);
    assert!(verify(&one, Some(KEY_ID)).is_ok());
    assert!(verify(&one, None).is_ok(), "there is only one it could be");
    assert_eq!(verify(&one, Some("gone")), Err(TokenError::UnknownKey(Some("gone".to_owned()))));
    assert!(verify(&two, Some(KEY_ID)).is_ok());
    assert_eq!(verify(&two, None), Err(TokenError::UnknownKey(None)));
    assert_eq!(verify(&two, Some("other")), Err(TokenError::Signature), "another's key");
}

#[test]
fn whatever_is_altered_is_refused() {
    let signer = Signer::ed25519();
    let issuers = signer.issuers();
    let token = signer.token(&signer.claims());
    let refused = |token: &[u8]| issuers.verify(token, now(), None).unwrap_err();

    let parts: Vec<&str> = token.split('.').collect();
    let mut widened = signer.claims();
    widened["sub"] = "service:lab".into();
    let widened = format!("{}.{}.{}", parts[0], base64url(widened.to_string()), parts[2]);
    assert_eq!(refused(widened.as_bytes()), TokenError::Signature);
    assert_eq!(refused(format!("{}.{}.", parts[0], parts[1]).as_bytes()), TokenError::Signature);
    for index in 0..token.len() {
        for change in [0x01, 0x04, 0x80] {
            let mut altered = token.clone().into_bytes();
            altered[index] ^= change;
            refused(&altered);
        }
        refused(&token.as_bytes()[..index]);
    }
    for malformed in ["", ".", "..", "...", "a.b.c", "secret"] {
        assert!(matches!(refused(malformed.as_bytes()), TokenError::Malformed(_)), "{malformed}");
    }
    assert!(matches!(refused(&[0xff; 40]), TokenError::Malformed(_)));
    assert_eq!(refused(&vec![b'a'; TOKEN_BYTES_MAX + 1]), TokenError::TooLong(TOKEN_BYTES_MAX + 1));
    let header = base64url(json!({ "alg": "EdDSA", "kid": KEY_ID, "crit": ["b64"] }).to_string());
    assert!(matches!(
        refused(format!("{header}.{}.{}", parts[1], parts[2]).as_bytes()),
        TokenError::Malformed(_)
    ));
}

#[test]
fn a_key_set_is_checked_when_it_is_loaded() {
    let eddsa = [Algorithm::EdDSA];
    let jwk = Signer::ed25519().jwk;
    let changed = |part: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[part] = value;
        json!({ "keys": [jwk] })
    };
    let error = |jwks: &Value| load(jwks, &eddsa).unwrap_err();
    assert!(matches!(error(&json!([])), KeyError::Malformed(_)));
    assert_eq!(error(&json!({ "keys": [] })), KeyError::Empty);
    assert_eq!(error(&json!({ "keys": [jwk, jwk] })), KeyError::Ambiguous(KEY_ID.to_owned()));
    assert_eq!(error(&changed("use", "enc".into())), KeyError::Empty);
    assert_eq!(error(&changed("crv", "Ed448".into())), KeyError::Empty);
    assert_eq!(error(&changed("alg", "ES256".into())), KeyError::Empty);
    assert_eq!(error(&changed("d", "AAAA".into())), KeyError::Private(KEY_ID.to_owned()));
    assert_eq!(error(&changed("kty", "oct".into())), KeyError::Symmetric(KEY_ID.to_owned()));
    let invalid = KeyError::Invalid { key: KEY_ID.to_owned(), part: "x" };
    assert_eq!(error(&changed("x", "AAAA".into())), invalid);
    assert_eq!(load(&json!({ "keys": [jwk] }), &[Algorithm::ES256]).unwrap_err(), KeyError::Empty);
    assert_eq!(load(&json!({ "keys": [jwk] }), &[]).unwrap_err(), KeyError::NoAlgorithms);
    let others = json!({ "keys": [{ "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB" }, jwk] });
    assert!(load(&others, &Algorithm::ALL).is_ok(), "keys for other uses are left out");
    let key_set = json!({ "keys": [jwk] }).to_string().into_bytes();
    let source = IssuerSource { issuer: ISSUER, audience: AUDIENCE, jwks: &key_set, algorithms: &eddsa };
    let (issuer, twice) = Issuers::load([source, source]).unwrap_err();
    assert_eq!((issuer.as_str(), twice), (ISSUER, KeyError::DuplicateIssuer(ISSUER.to_owned())));
}

#[test]
fn several_issuers_each_vouch_with_their_own_key() {
    let (first, second) = (Signer::ed25519(), Signer::ed25519());
    let (first_keys, second_keys) = (first.jwks(), second.jwks());
    let algorithms = &[Algorithm::EdDSA];
    let issuers = Issuers::load([
        IssuerSource { issuer: ISSUER, audience: AUDIENCE, jwks: &first_keys, algorithms },
        IssuerSource { issuer: "second", audience: "ward", jwks: &second_keys, algorithms },
    ])
    .unwrap();
    let mut claims = first.claims();
    claims["iss"] = "second".into();
    claims["aud"] = "ward".into();
    assert_eq!(issuers.verify(second.token(&claims).as_bytes(), now(), None).unwrap().issuer, "second");
    let usurped = issuers.verify(first.token(&claims).as_bytes(), now(), None);
    assert_eq!(usurped, Err(TokenError::Signature));
}

#[test]
fn a_reload_withdraws_issuers_and_keys() {
    let (signer, mut next) = (Signer::ed25519(), Signer::ed25519());
    let claims = signer.verify(&signer.claims()).unwrap();
    assert!(signer.issuers().vouch_for(&claims));
    next.jwk["kid"] = "2026-12".into();
    let both = load(&json!({ "keys": [next.jwk, signer.jwk] }), &[Algorithm::EdDSA]).unwrap();
    assert!(both.vouch_for(&claims), "keys overlap while they change");
    assert!(!next.issuers().vouch_for(&claims), "the old key is gone");
    assert!(!Issuers::default().vouch_for(&claims));
}
