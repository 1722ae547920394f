//! The opening handshake of RFC 6455: whose request is taken, and a plain answer for every other.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{
    self,
    error::ProtocolError,
    handshake::{
        machine::TryParse,
        server::{Request, Response, create_response, write_response},
    },
    http::{
        HeaderValue, StatusCode,
        header::{HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL},
    },
};

use crate::farewell;

/// Where MQTT is: `/mqtt` by custom, and `/` for clients that name no path.
const PATHS: [&str; 2] = ["/mqtt", "/"];
/// The subprotocol of MQTT, and the name it had with MQTT 3.1. A client that offers both gets the first.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// A request with its headers; a hospital's single sign-on fills cookies with kilobytes.
const REQUEST_BYTES_MAX: usize = 16 * 1_024;

/// Characters of a refused origin that the answer and the record repeat.
const ORIGIN_SHOWN_MAX: usize = 200;

/// Whose web pages may connect. A browser tells the page's origin; other programs tell none and are not concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Those of the host that is connected to. A browser shows a client certificate, or its place on loopback, for
    /// whichever page asks; so a page from elsewhere is not let in unless it is named.
    #[default]
    Same,
    /// These, in lower case, as in `https://board.hospital.example`.
    Listed(Vec<String>),
    /// All.
    Any,
}

/// An origin that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no origin; write scheme and host, as \"https://board.hospital.example\", or \"*\" alone for all"
)]
pub struct OriginsError(pub String);

impl Origins {
    /// Understands a list as it is configured; `["*"]` is all.
    ///
    /// # Errors
    /// The first that is no origin.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, OriginsError> {
        let texts: Vec<&str> = texts.into_iter().collect();
        match texts.as_slice() {
            [] => return Ok(Self::Same),
            ["*"] => return Ok(Self::Any),
            _ => {}
        }
        let lower = texts.into_iter().map(|text| match text.split_once("://") {
            Some(("http" | "https", host)) if !host.is_empty() && !host.contains(['/', '*', '?', '#']) => {
                Ok(text.to_ascii_lowercase())
            }
            _ => Err(OriginsError(text.to_owned())),
        });
        lower.collect::<Result<_, _>>().map(Self::Listed)
    }

    fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(listed) => listed.contains(&origin.to_ascii_lowercase()),
            Self::Same => {
                let authority = origin.split_once("://").map(|(_, authority)| without_usual_port(authority));
                authority
                    .zip(host)
                    .is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(without_usual_port(host)))
            }
        }
    }
}

/// Browsers leave the scheme's own port away, and some other clients do not.
fn without_usual_port(authority: &str) -> &str {
    let usual = [":443", ":80"].into_iter().find_map(|port| authority.strip_suffix(port));
    usual.unwrap_or(authority)
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection ended before the request did.
    #[error("the connection ended before the request did")]
    Ended,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The request was answered, but not as it wished.
    #[error("{status}: {text}")]
    Refused {
        /// Of the answer.
        status: StatusCode,
        /// The answer's body.
        text: String,
    },
}

impl HandshakeError {
    fn refused(status: StatusCode, text: impl Into<String>) -> Self {
        Self::Refused { status, text: text.into() }
    }

    /// A request that is not one for a WebSocket.
    fn not_websocket(error: &tungstenite::Error) -> Self {
        let status = match error {
            tungstenite::Error::Protocol(ProtocolError::WrongHttpMethod) => StatusCode::METHOD_NOT_ALLOWED,
            tungstenite::Error::Protocol(
                ProtocolError::MissingConnectionUpgradeHeader
                | ProtocolError::MissingUpgradeWebSocketHeader
                | ProtocolError::MissingSecWebSocketVersionHeader,
            ) => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::refused(status, format!("MQTT over WebSocket is spoken here: {error}"))
    }
}

/// Takes the request and answers it; gives what the client sent after it without waiting for the answer.
///
/// # Errors
/// Why it was not taken; the client has been told.
pub(super) async fn accept<S>(stream: &mut S, origins: &Origins) -> Result<Vec<u8>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = BytesMut::new();
    let outcome = match read_request(stream, &mut input).await {
        Ok(request) => judge(&request, origins),
        Err(error) => Err(error),
    };
    let mut output = Vec::new();
    match &outcome {
        Ok(response) => write_response(&mut output, response).map_err(io::Error::other)?,
        Err(HandshakeError::Refused { status, text }) => output = answer(*status, text),
        Err(_) => {}
    }
    stream.write_all(&output).await?;
    stream.flush().await?;
    if outcome.is_err() {
        farewell::close(stream).await;
    }
    outcome.map(|_| input.to_vec())
}

/// Reads a request off the front of `stream`; what came behind it is left in `input`.
async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
) -> Result<Request, HandshakeError> {
    loop {
        match Request::try_parse(input) {
            Ok(Some((bytes, request))) => {
                let _ = input.split_to(bytes);
                return Ok(request);
            }
            Ok(None) if input.len() >= REQUEST_BYTES_MAX => {
                let text = format!("a request of over {REQUEST_BYTES_MAX} bytes");
                return Err(HandshakeError::refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
            }
            Ok(None) => {
                if stream.read_buf(input).await? == 0 {
                    return Err(HandshakeError::Ended);
                }
            }
            Err(error) => return Err(HandshakeError::not_websocket(&error)),
        }
    }
}

/// Whether a request is one for MQTT, and from whom it may come.
fn judge(request: &Request, origins: &Origins) -> Result<Response, HandshakeError> {
    if !PATHS.contains(&request.uri().path()) {
        return Err(HandshakeError::refused(StatusCode::NOT_FOUND, "MQTT over WebSocket is at /mqtt"));
    }
    let mut response = create_response(request).map_err(|error| HandshakeError::not_websocket(&error))?;
    let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    if request.headers().contains_key(ORIGIN)
        && !header(ORIGIN).is_some_and(|origin| origins.allow(origin, header(HOST)))
    {
        let text = format!(
            "pages of {:.ORIGIN_SHOWN_MAX$} may not connect here; name them in the listener's `origins` if they should",
            header(ORIGIN).unwrap_or("an unreadable origin")
        );
        return Err(HandshakeError::refused(StatusCode::FORBIDDEN, text));
    }
    // [MQTT-6.0.0-3]: the client offers it; [MQTT-6.0.0-4]: the server chooses it.
    let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<&str> = offers
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let Some(chosen) = SUBPROTOCOLS.into_iter().find(|name| offered.contains(name)) else {
        let text = "the WebSocket subprotocol must be mqtt";
        return Err(HandshakeError::refused(StatusCode::BAD_REQUEST, text));
    };
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    Ok(response)
}

/// An answer that ends the connection.
fn answer(status: StatusCode, text: &str) -> Vec<u8> {
    let wish = match status {
        StatusCode::UPGRADE_REQUIRED => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        StatusCode::METHOD_NOT_ALLOWED => "Allow: GET\r\n",
        _ => "",
    };
    let length = text.len() + 1;
    format!(
        "HTTP/1.1 {status}\r\n{wish}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{text}\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MQTT: &str = "Sec-WebSocket-Protocol: mqtt\r\n";
    const UPGRADE: &str = "Host: broker:8083\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    /// What the client reads, and what the server makes of `request` sent in pieces of `piece` bytes.
    fn answered(request: &str, origins: &Origins, piece: usize) -> (String, Result<Vec<u8>, HandshakeError>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut near, mut far) = tokio::io::duplex(64);
            let client = async {
                let (mut reader, mut writer) = tokio::io::split(&mut far);
                let send = async {
                    for piece in request.as_bytes().chunks(piece) {
                        // It may have been refused before its end.
                        let _ = writer.write_all(piece).await;
                        tokio::task::yield_now().await;
                    }
                    let _ = writer.shutdown().await;
                };
                let mut answer = String::new();
                let (_, read) = tokio::join!(send, reader.read_to_string(&mut answer));
                read.unwrap();
                answer
            };
            let server = async move {
                let outcome = accept(&mut near, origins).await;
                drop(near);
                outcome
            };
            tokio::join!(client, server)
        })
    }

    #[test]
    fn the_subprotocol_is_mqtt() {
        let cases = [
            ("Sec-WebSocket-Protocol: mqtt\r\n", Some("mqtt")),
            ("Sec-WebSocket-Protocol: chat, mqtt\r\n", Some("mqtt")),
            ("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqtt\r\n", Some("mqtt")),
            ("Sec-WebSocket-Protocol: mqttv3.1\r\n", Some("mqttv3.1")),
            ("Sec-WebSocket-Protocol: mqttv3.1,mqtt\r\n", Some("mqtt")),
            ("Sec-WebSocket-Protocol: MQTT\r\n", None),
            ("Sec-WebSocket-Protocol: mqtt5\r\n", None),
            ("", None),
        ];
        for (offers, chosen) in cases {
            for path in PATHS {
                let request = format!("GET {path} HTTP/1.1\r\n{UPGRADE}{offers}\r\n");
                let (answer, outcome) = answered(&request, &Origins::Same, 1_000);
                match chosen {
                    Some(name) => {
                        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
                        let line = format!("sec-websocket-protocol: {name}\r\n");
                        assert!(answer.contains(&line), "{answer}");
                        // The example of RFC 6455.
                        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
                        assert_eq!(outcome.unwrap(), b"");
                    }
                    None => assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}"),
                }
            }
        }
    }

    #[test]
    fn what_comes_before_the_answer_is_kept_however_it_is_cut() {
        let request = format!("GET /mqtt HTTP/1.1\r\n{UPGRADE}{MQTT}\r\nframes");
        for piece in [1, 7, 1_000] {
            let (answer, outcome) = answered(&request, &Origins::Same, piece);
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            assert!(b"frames".starts_with(&outcome.unwrap()));
        }
    }

    #[test]
    fn every_other_request_gets_a_plain_answer() {
        let request = |line: &str, headers: &str| format!("{line}\r\n{headers}\r\n");
        let without =
            |name: &str| UPGRADE.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect();
        let upgrade_without = |name: &str| -> String { without(name) };
        let cases = [
            (request("GET /other HTTP/1.1", &format!("{UPGRADE}{MQTT}")), "404 Not Found"),
            (request("GET /mqtt HTTP/1.1", "Host: broker\r\n"), "426 Upgrade Required"),
            (request("GET /mqtt HTTP/1.1", &upgrade_without("Upgrade")), "426 Upgrade Required"),
            (
                request("GET /mqtt HTTP/1.1", &upgrade_without("Sec-WebSocket-Version")),
                "426 Upgrade Required",
            ),
            (request("GET /mqtt HTTP/1.1", &upgrade_without("Sec-WebSocket-Key")), "400 Bad Request"),
            (request("POST /mqtt HTTP/1.1", UPGRADE), "405 Method Not Allowed"),
            (request("GET /mqtt HTTP/1.0", UPGRADE), "400 Bad Request"),
            ("\u{10}\u{c}\0\u{4}MQTT\u{4}\u{2}\0\0\0\0".to_owned(), "400 Bad Request"),
            (format!("GET / HTTP/1.1\r\nCookie: {}", "x".repeat(REQUEST_BYTES_MAX)), "431 "),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200)), "400 Bad Request"),
        ];
        for (request, status) in cases {
            let (answer, outcome) = answered(&request, &Origins::Any, 1_000);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.80}: {answer}");
            assert!(matches!(outcome, Err(HandshakeError::Refused { .. })), "{outcome:?}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
        }
        let (answer, outcome) = answered("GET / HTT", &Origins::Any, 1_000);
        assert!(answer.is_empty() && matches!(outcome, Err(HandshakeError::Ended)), "{answer} {outcome:?}");
    }

    #[test]
    fn pages_from_elsewhere_are_let_in_when_they_are_named() {
        let listed = Origins::parse(["https://Board.example", "http://board.example:8080"]).unwrap();
        let any = Origins::parse(["*"]).unwrap();
        let cases = [
            (&Origins::Same, "http://broker:8083", true),
            (&Origins::Same, "https://BROKER:8083", true),
            (&Origins::Same, "http://broker", false),
            (&Origins::Same, "http://elsewhere.example", false),
            (&Origins::Same, "null", false),
            (&Origins::Same, "\u{e4}", false),
            (&listed, "https://board.example", true),
            (&listed, "http://board.example", false),
            (&listed, "http://board.example:8080", true),
            (&listed, "http://broker:8083", false),
            (&any, "null", true),
        ];
        for (origins, origin, allowed) in cases {
            let request = format!("GET /mqtt HTTP/1.1\r\n{UPGRADE}{MQTT}Origin: {origin}\r\n\r\n");
            let (answer, _) = answered(&request, origins, 1_000);
            let status = if allowed { "HTTP/1.1 101 " } else { "HTTP/1.1 403 " };
            assert!(answer.starts_with(status), "{origins:?} {origin}: {answer}");
        }
        assert!(Origins::Same.allow("https://broker", Some("broker:443")));
        assert!(!Origins::Same.allow("https://broker", None));
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for text in
            ["board.example", "https://", "https://board.example/", "ftp://board.example", "*.example"]
        {
            assert_eq!(Origins::parse(["https://a.example", text]), Err(OriginsError(text.to_owned())));
        }
        assert!(Origins::parse(["*", "https://a.example"]).is_err());
        assert_eq!(Origins::parse([]), Ok(Origins::Same));
    }
}
