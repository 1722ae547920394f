//! Enhanced authentication method `ace`: the MQTT-TLS profile of ACE (RFC 9431).
//!
//! Accepted is, in a CONNECT and to re-authenticate, authentication data of a two-byte length and a token (a JWT) of that
//! length [RFC 9431, 2.2.4.2]. Proof of possession is TLS's: a token that is bound to a certificate (`cnf`, `x5t#S256`) is worth
//! something only on a connection made with it, and a proof that follows the token is then not looked at. A token that is bound
//! to nothing is taken as one in the password is, but not with a proof, which nothing here could check. Empty data, by which a
//! client asks where tokens are issued, is refused. One packet decides; there is no challenge.

use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use wardline_acl::Identity;
use wardline_core::{Denial, Exchange, Step};
use wardline_wire::ReasonCode;

use crate::door::Door;

/// The method's name.
pub const METHOD: &str = "ace";

/// One run of the method.
pub struct Ace {
    door: Arc<Door>,
    /// The client's chain as TLS verified it; empty without one.
    chain: Vec<CertificateDer<'static>>,
    /// Who is to be renewed; `None` at CONNECT.
    present: Option<Identity>,
}

impl Ace {
    /// For a CONNECT.
    pub fn new(door: &Arc<Door>, chain: &[CertificateDer<'static>]) -> Self {
        Self { door: Arc::clone(door), chain: chain.to_vec(), present: None }
    }

    /// For somebody inside, who stays the same principal.
    pub fn renewing(door: &Arc<Door>, present: &Identity) -> Self {
        Self { door: Arc::clone(door), chain: Vec::new(), present: Some(present.clone()) }
    }
}

impl Exchange for Ace {
    type Identity = Identity;

    fn step(&mut self, data: Option<&[u8]>, now: Timestamp) -> Result<Step<Identity>, Denial> {
        let (token, proof) = split(data.unwrap_or_default()).map_err(refused)?;
        let identity = match &self.present {
            None => self.door.identify(&self.chain, Some(token), now),
            Some(present) => self.door.renew(present, token, now),
        }
        .map_err(|error| refused(&error.to_string()))?;
        let bound = identity.claims.as_ref().is_some_and(|claims| claims.bound_to.is_some());
        if !proof.is_empty() && !bound {
            return Err(refused(
                "a proof of possession is taken only of a token bound (cnf) to the certificate",
            ));
        }
        Ok(Step::Done { identity, data: None })
    }
}

/// Token and what follows it.
fn split(data: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if data.is_empty() {
        return Err("the authentication data is empty, and where tokens are issued is not told here");
    }
    let malformed = "the authentication data of ace is a two-byte length and a token of that length";
    let (length, rest) = data.split_first_chunk().ok_or(malformed)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(malformed)
}

/// Not authorized: the one reason that both CONNACK and DISCONNECT can give.
fn refused(text: &str) -> Denial {
    Denial { reason: ReasonCode::NotAuthorized, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_as_long_as_its_length_says() {
        assert_eq!(split(b"\x00\x03abc"), Ok((&b"abc"[..], &b""[..])));
        assert_eq!(split(b"\x00\x03abcproof"), Ok((&b"abc"[..], &b"proof"[..])));
        assert_eq!(split(b"\x00\x00"), Ok((&b""[..], &b""[..])));
        for wrong in [&b""[..], b"\x00", b"\x00\x03ab", b"\xff\xffabc"] {
            assert!(split(wrong).is_err(), "{wrong:?}");
        }
    }
}
