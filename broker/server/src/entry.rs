//! From a client at the door to one that is known: its CONNECT and, where that names a method of authentication, the AUTH
//! packets that follow, within one deadline. Whoever is not let in is recorded and told why here.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{timeout, timeout_at},
};
use wardline_core::{Authentication, Denial, Exchange, Limit, Reply};
use wardline_journal::Origin;
use wardline_wire::{Auth, ConnAck, Connect, DecodeError, Decoder, Packet, ReasonCode, Version, encode, fit};

use crate::{
    ace::Ace,
    arrival::Arrival,
    clock,
    door::{Admitted, Door, Refusal},
    farewell::{self, FAREWELL_MAX},
    node::Node,
};

/// Somebody who may come in.
pub struct Entry {
    /// What was asked for.
    pub connect: Box<Connect>,
    /// Who it is.
    pub admitted: Admitted,
    /// Enhanced authentication, where CONNECT named a method.
    pub authentication: Option<Authentication<Ace>>,
    /// Its last word, for the CONNACK.
    pub authentication_data: Option<Bytes>,
}

/// Somebody who may not.
enum Outside {
    /// Left before it was decided.
    Gone,
    /// Sent what cannot be read.
    Unreadable(DecodeError),
    /// Was refused.
    Refused(Box<Connect>, Refusal),
}

/// Takes a client from its first byte to a decision. `None`: it was not let in, and has been told; what it sent behind its
/// CONNECT is not looked at [MQTT-3.1.4-1] [MQTT-3.1.4-2] [MQTT-3.1.4-6].
pub async fn enter<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    decoder: &mut Decoder,
    input: &mut BytesMut,
    arrival: Arrival,
    peer: &str,
    door: &Arc<Door>,
    node: &Node,
) -> Option<Entry> {
    let knock = knock(stream, decoder, input, arrival.chain, door);
    let Ok(outcome) = timeout_at(arrival.deadline, knock).await else {
        node.metrics().limit_reached(Limit::ConnectTimeout, &door.name);
        let text = format!("no CONNECT within {} s", door.limits.connect_timeout.as_secs_f32());
        node.refuse(Origin { peer, ..Origin::default() }, ReasonCode::MaximumConnectTime, &text);
        farewell::close(stream).await;
        return None;
    };
    match outcome {
        Ok(entry) => return Some(entry),
        Err(Outside::Gone) => {}
        Err(Outside::Unreadable(error)) => {
            count_unreadable(&error, door, node);
            let origin = Origin { peer, ..Origin::default() };
            let connack = node.refuse(origin, error.reason(), &error.to_string());
            let version = match error {
                DecodeError::UnsupportedProtocolVersion { answer, .. } => Some(answer),
                _ => decoder.version(),
            };
            // Answered as far as its version is known.
            if let Some(version) = version {
                turn_away(stream, connack, Addressee::unread(version)).await;
            }
        }
        Err(Outside::Refused(connect, refusal)) => {
            let origin = Origin { client: &connect.client_id, principal: &refusal.principal, peer };
            let connack = node.refuse(origin, refusal.reason, &refusal.text);
            turn_away(stream, connack, Addressee::of(&connect)).await;
        }
    }
    None
}

async fn knock<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    decoder: &mut Decoder,
    input: &mut BytesMut,
    chain: Vec<CertificateDer<'static>>,
    door: &Arc<Door>,
) -> Result<Entry, Outside> {
    // The decoder lets nothing else be first.
    let Packet::Connect(connect) = next(stream, decoder, input).await? else { return Err(Outside::Gone) };
    let Some(method) = connect.properties.authentication_method.clone() else {
        return match door.admit(&connect, chain, clock::now()) {
            Ok(admitted) => Ok(Entry { connect, admitted, authentication: None, authentication_data: None }),
            Err(refusal) => Err(Outside::Refused(connect, refusal)),
        };
    };
    let exchange = match door.exchange(&method, &chain) {
        Ok(exchange) => exchange,
        Err(refusal) => return Err(Outside::Refused(connect, refusal)),
    };
    let mut authentication = Authentication::new(method, exchange);
    let data = connect.properties.authentication_data.clone();
    let begin = || Ace::new(door, &chain);
    match prove(stream, decoder, input, &mut authentication, data, begin).await? {
        Ok((identity, authentication_data)) => match door.let_in(identity, chain) {
            Ok(admitted) => {
                Ok(Entry { connect, admitted, authentication: Some(authentication), authentication_data })
            }
            Err(refusal) => Err(Outside::Refused(connect, refusal)),
        },
        Err(denial) => Err(Outside::Refused(connect, denial.into())),
    }
}

/// Asks until the client has proved who it is, or has not; the method's last word goes with the identity.
async fn prove<S: AsyncRead + AsyncWrite + Unpin, E: Exchange>(
    stream: &mut S,
    decoder: &mut Decoder,
    input: &mut BytesMut,
    authentication: &mut Authentication<E>,
    data: Option<Bytes>,
    begin: impl Fn() -> E,
) -> Result<Result<(E::Identity, Option<Bytes>), Denial>, Outside> {
    let mut reply = authentication.connect(data.as_deref(), clock::now());
    loop {
        match reply {
            Ok(Reply::Done(identity, data)) => return Ok(Ok((identity, data))),
            Ok(Reply::Ask(auth)) => ask(stream, auth).await?,
            Err(denial) => return Ok(Err(denial)),
        }
        reply = match next(stream, decoder, input).await? {
            Packet::Auth(auth) => authentication.receive(&auth, &begin, clock::now()),
            Packet::Disconnect(_) => return Err(Outside::Gone),
            // [MQTT-3.1.2-30]
            _ => Err(Denial {
                reason: ReasonCode::ProtocolError,
                text: "only AUTH or DISCONNECT may follow until authentication is done".to_owned(),
            }),
        };
    }
}

async fn next<S: AsyncRead + Unpin>(
    stream: &mut S,
    decoder: &mut Decoder,
    input: &mut BytesMut,
) -> Result<Packet, Outside> {
    loop {
        match decoder.decode(input) {
            Ok(Some(packet)) => return Ok(packet),
            Ok(None) => match stream.read_buf(input).await {
                Ok(0) | Err(_) => return Err(Outside::Gone),
                Ok(_) => {}
            },
            Err(error) => return Err(Outside::Unreadable(error)),
        }
    }
}

async fn ask<S: AsyncWrite + Unpin>(stream: &mut S, auth: Auth) -> Result<(), Outside> {
    let mut output = BytesMut::new();
    encode(&Packet::Auth(auth), Version::V5, &mut output).map_err(|_| Outside::Gone)?;
    stream.write_all(&output).await.map_err(|_| Outside::Gone)?;
    stream.flush().await.map_err(|_| Outside::Gone)
}

/// Sends a last CONNACK, never a DISCONNECT [MQTT-3.14.0-1], and closes [MQTT-3.2.2-7]. The reason string stays away from a
/// client that declined it, or has no room for it [MQTT-3.2.2-19] [MQTT-3.2.2-20].
pub async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut connack: Box<ConnAck>,
    to: Addressee,
) {
    if !to.wants_reasons {
        connack.properties.reason_string = None;
    }
    let (mut packet, mut output) = (Packet::ConnAck(connack), BytesMut::new());
    let fitted = fit(&mut packet, to.version, to.packet_bytes_max);
    if fitted.and_then(|()| encode(&packet, to.version, &mut output)).is_ok() {
        let _ = timeout(FAREWELL_MAX, async {
            stream.write_all(&output).await?;
            stream.flush().await
        })
        .await;
        farewell::close(stream).await;
    }
}

/// How somebody who is turned away can be told: in which version, whether in words [3.1.2.11.7], and in how many bytes.
#[derive(Clone, Copy, Debug)]
pub struct Addressee {
    version: Version,
    wants_reasons: bool,
    packet_bytes_max: u32,
}

impl Addressee {
    /// As the CONNECT says.
    pub fn of(connect: &Connect) -> Self {
        Self {
            version: connect.version,
            wants_reasons: connect.properties.request_problem_information != Some(false),
            packet_bytes_max: connect.properties.maximum_packet_size.unwrap_or(u32::MAX),
        }
    }

    /// A CONNECT that could be read only as far as its version has said nothing else.
    fn unread(version: Version) -> Self {
        Self { version, wants_reasons: true, packet_bytes_max: u32::MAX }
    }
}

/// Counts a packet that cannot be read.
pub fn count_unreadable(error: &DecodeError, door: &Door, node: &Node) {
    node.metrics().malformed.inc();
    if error.reason() == ReasonCode::PacketTooLarge {
        node.metrics().limit_reached(Limit::MaxPacket, &door.name);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tokio::io::duplex;
    use wardline_core::Step;

    use super::*;

    /// Lets in who says the same twice.
    #[derive(Default)]
    struct Echo(Option<Vec<u8>>);

    impl Exchange for Echo {
        type Identity = Vec<u8>;

        fn step(&mut self, data: Option<&[u8]>, _now: Timestamp) -> Result<Step<Vec<u8>>, Denial> {
            let said = data.unwrap_or_default().to_vec();
            match self.0.replace(said.clone()) {
                None => Ok(Step::Continue(None)),
                Some(before) if before == said => Ok(Step::Done { identity: said, data: None }),
                Some(_) => Err(Denial { reason: ReasonCode::NotAuthorized, text: String::new() }),
            }
        }
    }

    /// What becomes of a client that was asked once and sends `answers`.
    async fn proved(answers: &[Packet]) -> Option<Result<Vec<u8>, ReasonCode>> {
        let (mut client, mut server) = duplex(1_024);
        let mut output = BytesMut::new();
        let mut connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: "client".into(),
            will: None,
            username: None,
            password: None,
            properties: wardline_wire::ConnectProperties::default(),
        };
        connect.properties.authentication_method = Some("echo".into());
        encode(&Packet::Connect(Box::new(connect)), Version::V5, &mut output).unwrap();
        for answer in answers {
            encode(answer, Version::V5, &mut output).unwrap();
        }
        client.write_all(&output).await.unwrap();
        client.shutdown().await.unwrap();
        let (mut decoder, mut input) = (Decoder::server_side(1_024), BytesMut::new());
        next(&mut server, &mut decoder, &mut input).await.ok().unwrap();
        let mut authentication = Authentication::new("echo".into(), Echo::default());
        let data = Some(Bytes::from_static(b"word"));
        let outcome =
            prove(&mut server, &mut decoder, &mut input, &mut authentication, data, Echo::default).await;
        let mut asked = BytesMut::new();
        drop(server);
        while client.read_buf(&mut asked).await.unwrap() > 0 {}
        let mut heard = Decoder::client_side(Version::V5, 1_024);
        let question = heard.decode(&mut asked).unwrap();
        assert!(matches!(question, Some(Packet::Auth(a)) if a.reason == ReasonCode::ContinueAuthentication));
        outcome.ok().map(|outcome| outcome.map(|(name, _)| name).map_err(|denial| denial.reason))
    }

    fn auth(reason: ReasonCode, data: &'static [u8]) -> Packet {
        let (method, data) = (Some("echo".into()), Some(Bytes::from_static(data)));
        Packet::Auth(Auth { reason, method, data, reason_string: None, user: Vec::new() })
    }

    #[tokio::test]
    async fn while_a_client_is_asked_it_may_only_answer_or_leave() {
        use ReasonCode::{ContinueAuthentication, NotAuthorized, ProtocolError, ReAuthenticate};
        assert_eq!(proved(&[auth(ContinueAuthentication, b"word")]).await, Some(Ok(b"word".to_vec())));
        assert_eq!(proved(&[auth(ContinueAuthentication, b"other")]).await, Some(Err(NotAuthorized)));
        assert_eq!(proved(&[auth(ReAuthenticate, b"word")]).await, Some(Err(ProtocolError)));
        // [MQTT-3.1.2-30]
        let early = [Packet::PingReq, auth(ContinueAuthentication, b"word")];
        assert_eq!(proved(&early).await, Some(Err(ProtocolError)));
        assert_eq!(proved(&[]).await, None);
    }
}
