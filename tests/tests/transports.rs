//! MQTT comes over TCP, TLS and WebSocket, from behind proxies and over IPv6; what is not in order is refused, recorded,
//! and costs nobody else.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests assert as tests do"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use wardline_tests::rumqtt::{client_config, client_config_of};
use wardline_tests::{
    Broker, Bystanders, Credentials, DEADLINE, Opcode, Process, RawClient, Site, WebSocket, connect,
    packet_id, paho_round_trip, record, tcp,
};
use wardline_wire::{Connect, Packet, Version};

/// Seconds that a client has from connecting to the end of its CONNECT, where a test waits for that.
const SHORT_TIMEOUT: (&str, &str) = ("WARDLINE__LIMITS__CONNECT_TIMEOUT", "1s");

const TLS: &str = "certificate = \"certs/server.pem\"\nkey = \"certs/server.key\"\nclient_ca = \"certs/ca.pem\"\n\
                   crl = [\"certs/ca.crl\"]\n";

/// An orderly end.
const DISCONNECT: &[u8] = &[0xE0, 0];

fn with_token(id: &str, token: &str) -> Connect {
    Connect {
        username: Some("token".into()),
        password: Some(token.as_bytes().to_vec().into()),
        ..connect(Version::V5, id)
    }
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// TLS over a socket, after its handshake.
fn try_tls(mut socket: TcpStream, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream> {
    let name = "localhost".try_into().expect("a name");
    let mut session = ClientConnection::new(Arc::clone(config), name).expect("a configuration");
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(session, socket))
}

/// TLS that shows `credentials` after its handshake.
fn tls_stream(site: &Site, address: SocketAddr, credentials: Option<&Credentials>) -> TlsStream {
    try_tls(tcp(address), &client_config(&site.ca(), credentials)).expect("a handshake")
}

/// What the record says of the clients that were refused: peer, listener, reason.
fn refusals(site: &Site) -> Vec<[String; 3]> {
    let rows = record::sqlite(
        &site.audit_db(),
        "SELECT peer, detail, reason FROM access WHERE event = 'refuse' ORDER BY seq",
    );
    rows.into_iter().map(|row| row.try_into().expect("three columns")).collect()
}

/// Client and peer of the connections, in order.
fn peers(site: &Site) -> Vec<(String, String)> {
    let rows = record::sqlite(
        &site.audit_db(),
        "SELECT client_id, peer FROM access WHERE event = 'connect' ORDER BY seq",
    );
    rows.into_iter().map(|mut row| (row.remove(0), row.remove(0))).collect()
}

/// Reads to the end, whether the broker closes or resets.
fn drain(mut stream: impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("the broker does not close")
        }
        _ => rest,
    }
}

/// A version 2 header: PROXY over TCP4 from 203.0.113.7:40000, with a checksum.
fn proxy_v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13".to_vec();
    header.extend([203, 0, 113, 7, 192, 0, 2, 1, 0x9C, 0x40, 0x22, 0xB3, 0x03, 0, 4]);
    header.extend(crc32c_with_zeros(&header).to_be_bytes());
    header
}

/// CRC32c (Castagnoli) of `bytes` and four zeros, bit by bit: not the broker's own.
fn crc32c_with_zeros(bytes: &[u8]) -> u32 {
    !bytes.iter().chain(&[0; 4]).fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg()))
    })
}

const PROXY_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn add_proxied_listener(site: &Site, trusted: &str) {
    let lines = format!(
        "bind = \"127.0.0.1:0\"\ntransport = \"tcp\"\nrequire = [\"token\"]\nproxy_protocol = true\nproxy_trusted = [\"{trusted}\"]"
    );
    site.add_listener("extra", &lines);
}

#[test]
fn a_trusted_proxy_says_where_clients_come_from() {
    let site = Site::new();
    add_proxied_listener(&site, "127.0.0.0/8");
    let token = site.token("service:lab");
    let broker = Broker::start(&site);
    let headers: [(&str, &[u8], Option<&str>); 6] = [
        ("v1", b"PROXY TCP4 203.0.113.9 192.0.2.1 41000 1883\r\n", Some("203.0.113.9:41000")),
        ("v1-ipv6", b"PROXY TCP6 2001:db8::9 2001:db8::1 41000 1883\r\n", Some("[2001:db8::9]:41000")),
        ("v1-unknown", b"PROXY UNKNOWN\r\n", None),
        ("v2", &proxy_v2(), Some("203.0.113.7:40000")),
        (
            "v2-ipv6",
            &[b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24", &[0x20; 36][..]].concat(),
            Some("[2020:2020:2020:2020:2020:2020:2020:2020]:8224"),
        ),
        ("v2-local", PROXY_LOCAL, None),
    ];
    let mut sockets = Vec::new();
    for (id, header, _) in headers {
        let mut client = RawClient::open(broker.address("extra"), Version::V5);
        sockets.push(client.stream().local_addr().unwrap().to_string());
        // In two pieces, and the second with the CONNECT behind it.
        client.send_bytes(&header[..9]);
        client.send_bytes(&header[9..]);
        let mut client = client.admitted(with_token(id, &token));
        client.deliver("from/behind", b"x", 1);
    }
    broker.terminate();
    let expected: Vec<_> = headers
        .iter()
        .zip(sockets)
        .map(|((id, _, peer), socket)| ((*id).to_owned(), peer.map_or(socket, str::to_owned)))
        .collect();
    assert_eq!(peers(&site), expected);
    let publishes =
        record::sqlite(&site.audit_db(), "SELECT peer FROM publishes WHERE topic = 'from/behind'");
    assert_eq!(publishes.concat(), expected.into_iter().map(|(_, peer)| peer).collect::<Vec<_>>());
}

#[test]
fn what_the_proxy_says_comes_before_tls() {
    let site = Site::new();
    let lines = format!(
        "bind = \"127.0.0.1:0\"\ntransport = \"wss\"\n{TLS}require = [\"certificate\"]\nproxy_protocol = true\n\
         proxy_trusted = [\"127.0.0.1\", \"::1\"]"
    );
    site.add_listener("extra", &lines);
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    let mut socket = tcp(broker.address("extra"));
    socket.write_all(&proxy_v2()).unwrap();
    let stream = try_tls(socket, &client_config(&site.ca(), Some(&device))).unwrap();
    let websocket = WebSocket::open(stream, "/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n");
    RawClient::over(websocket, Version::V5).admitted(connect(Version::V5, "mon-12"));
    broker.terminate();
    assert_eq!(peers(&site), [("mon-12".to_owned(), "203.0.113.7:40000".to_owned())]);
}

#[test]
fn without_a_good_header_nobody_passes_for_a_proxy() {
    let site = Site::new();
    add_proxied_listener(&site, "127.0.0.1");
    let broker = Broker::start_with(&site, &[SHORT_TIMEOUT]);
    let mut bystanders = Bystanders::of(&broker);
    let mut checksum = proxy_v2();
    *checksum.last_mut().unwrap() ^= 1;
    let cases: [(&[u8], &str); 6] = [
        (b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0", "no PROXY protocol header"),
        (b"PROXY TCP4 203.0.113.7\r\n", "two addresses"),
        (&[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(), "107 bytes"),
        (&checksum, "checksum is wrong"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF", "over 4096 bytes"),
        // And then nothing more.
        (b"PROXY TCP4 ", "took too long"),
    ];
    for (bytes, _) in &cases {
        let mut socket = tcp(broker.address("extra"));
        let _ = socket.write_all(bytes);
        assert!(drain(socket).is_empty());
        bystanders.are_undisturbed();
    }
    broker.terminate();
    let refusals = refusals(&site);
    assert_eq!(refusals.len(), cases.len(), "{refusals:?}");
    for ([peer, listener, reason], (_, expected)) in refusals.iter().zip(&cases) {
        assert!(peer.starts_with("127.0.0.1:") && listener == "extra", "{peer} {listener}");
        assert!(reason.contains(expected), "{reason} does not say {expected}");
    }
}

#[test]
fn a_header_from_somewhere_else_is_not_believed() {
    let site = Site::new();
    add_proxied_listener(&site, "192.0.2.0/24");
    let broker = Broker::start(&site);
    let mut bystanders = Bystanders::of(&broker);
    let mut socket = tcp(broker.address("extra"));
    let peer = socket.local_addr().unwrap().to_string();
    let _ = socket.write_all(&proxy_v2());
    assert!(drain(socket).is_empty());
    bystanders.are_undisturbed();
    broker.terminate();
    let refusals = refusals(&site);
    assert!(
        matches!(refusals.as_slice(), [[from, _, reason]] if *from == peer && reason.contains("not a trusted proxy")),
        "{refusals:?}"
    );
}

fn encoded(packet: &Packet) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    wardline_wire::encode(packet, Version::V5, &mut bytes).expect("a packet of this version");
    bytes.to_vec()
}

fn websocket(broker: &Broker) -> WebSocket<TcpStream> {
    WebSocket::open(tcp(broker.address("web")), "/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n")
}

#[test]
fn packets_are_split_and_joined_across_frames() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = websocket(&broker);
    // A frame for each byte.
    for byte in encoded(&Packet::Connect(Box::new(connect(Version::V5, "splitter")))) {
        client.send(Opcode::Binary, true, &[byte]);
    }
    let mut client = RawClient::over(client, Version::V5);
    assert!(matches!(client.receive(), Packet::ConnAck(_)));
    client.subscribe("split/#");

    // A message in fragments, one of them empty, with a ping between them, whose packets end anywhere.
    let publish = |id| {
        encoded(&Packet::Publish(wardline_wire::Publish {
            qos: wardline_wire::QoS::AtLeastOnce,
            topic: "split/x".into(),
            packet_id: Some(packet_id(id)),
            payload: vec![b'x'; 1_000].into(),
            ..wardline_wire::Publish::default()
        }))
    };
    let packets = [publish(2), publish(3), publish(4)].concat();
    let (first, rest) = packets.split_at(700);
    let (second, third) = rest.split_at(1_500);
    let frames = client.stream();
    frames.send(Opcode::Binary, false, first);
    frames.send(Opcode::Ping, true, b"between");
    frames.send(Opcode::Continuation, false, &[]);
    frames.send(Opcode::Continuation, false, second);
    frames.send(Opcode::Continuation, true, third);
    let (opcode, pong) = frames.receive().unwrap();
    assert_eq!((opcode, pong.as_slice()), (Opcode::Pong as u8, &b"between"[..]));
    let (mut acknowledged, mut received) = (0, 0);
    while acknowledged < 3 || received < 3 {
        match client.receive() {
            Packet::PubAck(_) => acknowledged += 1,
            Packet::Publish(publish) => {
                assert_eq!(publish.payload.len(), 1_000);
                received += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn frames_that_are_not_mqtt_close_the_websocket_with_the_reason() {
    let site = Site::new();
    let broker = Broker::start_with(&site, &[("WARDLINE__LIMITS__MAX_PACKET", "4KiB")]);
    let mut bystanders = Bystanders::of(&broker);
    let large = vec![0; 70_000];
    let cases: [(Opcode, &[u8], u16); 5] = [
        (Opcode::Text, b"\x10\x0c", 1003),
        (Opcode::Text, b"\xC3\x28", 1003),
        (Opcode::Binary, &large, 1009),
        (Opcode::Continuation, b"of nothing", 1002),
        (Opcode::Ping, &[0; 126], 1002),
    ];
    for (opcode, payload, code) in cases {
        // Before CONNECT, and after it.
        let mut stranger = websocket(&broker);
        stranger.send(opcode, true, payload);
        assert_eq!(stranger.until_closed(), Some(code), "{opcode:?}");
        let mut client =
            RawClient::over(websocket(&broker), Version::V5).admitted(connect(Version::V5, "wrong"));
        client.stream().send(opcode, true, payload);
        assert_eq!(client.stream().until_closed(), Some(code), "{opcode:?}");
        bystanders.are_undisturbed();
    }
    broker.terminate();
    let ends = "SELECT reason FROM access WHERE event = 'disconnect' AND client_id = 'wrong'";
    let ends = record::sqlite(&site.audit_db(), ends).concat();
    assert!(ends.len() == cases.len() && ends.iter().all(|end| end.contains("WebSocket")), "{ends:?}");
}

#[test]
fn either_side_closes_a_websocket_with_a_handshake() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = websocket(&broker);
    client.send(Opcode::Close, true, &1000_u16.to_be_bytes());
    let (opcode, payload) = client.receive().unwrap();
    assert_eq!((opcode, payload.as_slice()), (Opcode::Close as u8, &1000_u16.to_be_bytes()[..]));
    assert!(drain(client.into_inner()).is_empty());

    let mut client =
        RawClient::over(websocket(&broker), Version::V5).admitted(connect(Version::V5, "leaver"));
    client.send_bytes(DISCONNECT);
    assert_eq!(client.stream().until_closed(), Some(1000));
}

#[test]
fn a_request_that_is_not_for_mqtt_gets_an_answer_and_a_row() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut bystanders = Bystanders::of(&broker);
    let mqtt = "Sec-WebSocket-Protocol: mqtt\r\n";
    let elsewhere = format!("{mqtt}Origin: https://elsewhere.example\r\n");
    let here = format!("{mqtt}Origin: https://LOCALHOST:1883\r\n");
    for (path, headers, status) in [
        ("/mqtt", "", 400),
        ("/mqtt", "Sec-WebSocket-Protocol: amqp\r\n", 400),
        ("/admin", mqtt, 404),
        ("/mqtt", &elsewhere, 403),
        ("/mqtt", &here, 101),
        ("/", mqtt, 101),
        ("/mqtt?clinic=1", "Sec-WebSocket-Protocol: mqttv3.1\r\n", 101),
    ] {
        let (answer, _) = WebSocket::request(tcp(broker.address("web")), path, headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {headers}: {answer}");
    }
    let mut garbage = tcp(broker.address("web"));
    garbage.write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0\r\n\r\n").unwrap();
    assert!(drain(garbage).starts_with(b"HTTP/1.1 400 "));
    bystanders.are_undisturbed();
    broker.terminate();
    let refusals = refusals(&site);
    // Each is recorded after its answer, and so in any order.
    for (expected, count) in [("subprotocol", 2), ("404", 1), ("elsewhere.example", 1), ("invalid token", 1)]
    {
        let found =
            refusals.iter().filter(|[_, listener, reason]| listener == "web" && reason.contains(expected));
        assert_eq!(found.count(), count, "{expected} {refusals:?}");
    }
    assert_eq!(refusals.len(), 5, "{refusals:?}");
}

#[test]
fn a_secure_websocket_takes_certificate_and_token() {
    let site = Site::new();
    let lines =
        format!("bind = \"127.0.0.1:0\"\ntransport = \"wss\"\n{TLS}require = [\"certificate\", \"token\"]");
    site.add_listener("extra", &lines);
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    let open = || {
        let stream = tls_stream(&site, broker.address("extra"), Some(&device));
        RawClient::over(WebSocket::open(stream, "/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n"), Version::V5)
    };
    let token = site.token_bound_to("device:mon-12", &device);
    let mut client = open().admitted(with_token("mon-12", &token));
    client.deliver("telemetry/icu-3/b12/mon-12/spo2", b"97", 1);
    let mut refused = open();
    refused.send(&Packet::Connect(Box::new(with_token("mon-12", &site.token("device:mon-13")))));
    assert!(matches!(refused.receive(), Packet::ConnAck(answer) if answer.reason.is_error()));
    assert!(
        try_tls(tcp(broker.address("extra")), &client_config(&site.ca(), None))
            .and_then(|mut stream| stream.read(&mut [0]))
            .is_err()
    );
}

#[test]
fn paho_comes_over_secure_websockets_with_a_certificate() {
    let site = Site::new();
    let lines = format!("bind = \"127.0.0.1:0\"\ntransport = \"wss\"\n{TLS}require = [\"certificate\"]");
    site.add_listener("extra", &lines);
    site.allow_round_trip();
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    for version in ["3.1.1", "5"] {
        let port = broker.port("extra").to_string();
        let connection = ["localhost", &port, version, "websockets"].map(PathBuf::from);
        let files = [site.ca(), device.certificate.clone(), device.key.clone()];
        paho_round_trip(connection.into_iter().chain(files));
    }
}

/// Whether Mosquitto's client gets in with that version of TLS or a newer one.
fn mosquitto_gets_in(site: &Site, port: u16, device: &Credentials, version: &str) -> bool {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "localhost", "-p", &port.to_string(), "-q", "1", "-m", "97"]);
    command.args(["-t", "telemetry/icu-3/b12/mon-12/spo2", "--tls-version", version, "--cafile"]);
    command.arg(site.ca()).arg("--cert").arg(&device.certificate).arg("--key").arg(&device.key);
    Process::start(&mut command).wait().success()
}

#[test]
fn tls_is_spoken_from_the_configured_version_on_and_never_below_1_2() {
    let site = Site::new();
    let lines =
        "bind = \"127.0.0.1:0\"\ntransport = \"tls\"\nrequire = [\"certificate\"]\ntls_min = \"1.3\"\n";
    site.add_listener("extra", &format!("{lines}{TLS}"));
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    let mut bystanders = Bystanders::of(&broker);
    let (both, only_1_3) = (broker.port("bedside"), broker.port("extra"));
    assert!(mosquitto_gets_in(&site, both, &device, "tlsv1.2"));
    assert!(mosquitto_gets_in(&site, both, &device, "tlsv1.3"));
    assert!(mosquitto_gets_in(&site, only_1_3, &device, "tlsv1.3"));
    let only_1_2 = client_config_of(&site.ca(), Some(&device), &[&rustls::version::TLS12]);
    let stream = try_tls(tcp(broker.address("bedside")), &only_1_2).unwrap();
    RawClient::over(stream, Version::V311).admitted(connect(Version::V311, "old"));
    let refused = try_tls(tcp(broker.address("extra")), &only_1_2).unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");

    // A ClientHello of TLS 1.1, with two suites of its time, and a fatal alert for an answer.
    let mut hello = vec![0x16, 3, 1, 0, 49, 1, 0, 0, 45, 3, 2];
    hello.extend([0x5A; 32]);
    hello.extend([0, 0, 4, 0, 0x2F, 0, 0x35, 1, 0, 0, 0]);
    let mut socket = tcp(broker.address("bedside"));
    socket.write_all(&hello).unwrap();
    let answer = drain(socket);
    assert!(matches!(answer.as_slice(), [0x15, 3, _, 0, 2, 2, _]), "{answer:x?}");
    bystanders.are_undisturbed();
}

#[test]
fn a_revoked_device_does_not_resume_its_session() {
    let site = Site::new();
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    let reload = |count| {
        broker.reload();
        wait_until(|| (broker.said().matches("reloaded").count() == count).then_some(()));
    };
    for (reloads, version) in (1..).zip([&rustls::version::TLS12, &rustls::version::TLS13]) {
        // Certificates that the client has shown before are remembered in its configuration, and so are sessions.
        let config = client_config_of(&site.ca(), Some(&device), &[version]);
        let visit = || {
            let stream = try_tls(tcp(broker.address("bedside")), &config)?;
            let mut client = RawClient::over(stream, Version::V5);
            client.send(&Packet::Connect(Box::new(connect(Version::V5, "mon-12"))));
            // An alert about the certificate comes after the handshake of TLS 1.3, in place of CONNACK.
            client.stream().sock.peek(&mut [0])?;
            let mut first = [0];
            client.stream().read_exact(&mut first)?;
            Ok::<_, std::io::Error>(client.stream().conn.handshake_kind())
        };
        assert_eq!(visit().unwrap(), Some(HandshakeKind::Full));
        assert_eq!(visit().unwrap(), Some(HandshakeKind::Resumed));
        reload(reloads);
        assert_eq!(visit().unwrap(), Some(HandshakeKind::Full), "a reload forgets sessions");
        assert_eq!(visit().unwrap(), Some(HandshakeKind::Resumed));
        if version.version == rustls::ProtocolVersion::TLSv1_3 {
            site.revoke_device("mon-12");
            reload(reloads + 1);
            let refused = visit().unwrap_err().to_string();
            assert!(refused.contains("Revoked"), "{refused}");
        }
    }
}

/// What `look` finds, within the deadline.
fn wait_until<T>(look: impl Fn() -> Option<T>) -> T {
    let started = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "it does not come about");
        std::thread::yield_now();
    }
}

#[test]
fn the_protocol_is_named_to_those_who_ask() {
    let site = Site::new();
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    let handshake = |protocols: &[&str]| {
        let mut config = ClientConfig::clone(&client_config(&site.ca(), Some(&device)));
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = try_tls(tcp(broker.address("bedside")), &Arc::new(config))?;
        Ok::<_, std::io::Error>(stream.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(handshake(&[]).unwrap(), None);
    assert_eq!(handshake(&["mqtt"]).unwrap(), Some(b"mqtt".to_vec()));
    assert_eq!(handshake(&["x-private", "mqtt"]).unwrap(), Some(b"mqtt".to_vec()));
    let refused = handshake(&["h2", "http/1.1"]).unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

#[test]
fn tls_ends_with_close_notify_whoever_ends_it() {
    let site = Site::new();
    let device = site.device("mon-12");
    let broker = Broker::start_with(&site, &[SHORT_TIMEOUT]);
    let address = broker.address("bedside");
    let connected = |id: &str| {
        let stream = tls_stream(&site, address, Some(&device));
        RawClient::over(stream, Version::V5).admitted(connect(Version::V5, id))
    };
    // A read gives an error where close_notify is missing.
    let mut leaver = connected("leaver");
    leaver.send_bytes(DISCONNECT);
    assert!(leaver.until_closed().is_empty());
    let mut closer = connected("closer");
    closer.stream().conn.send_close_notify();
    closer.stream().flush().unwrap();
    assert!(closer.until_closed().is_empty());
    let mut silent = RawClient::over(tls_stream(&site, address, Some(&device)), Version::V5);
    assert!(silent.until_closed().is_empty());
    let mut evicted = connected("evicted");
    // Its socket's end without close_notify may be somebody's who cut the line.
    drop(connected("cut").stream().sock.try_clone().map(|socket| socket.shutdown(std::net::Shutdown::Both)));
    broker.terminate();
    assert!(matches!(evicted.until_closed().as_slice(), [Packet::Disconnect(_)]));
    let ends = "SELECT client_id, reason FROM access WHERE event = 'disconnect' ORDER BY client_id";
    let ends = record::sqlite(&site.audit_db(), ends);
    let reason_of = |id: &str| ends.iter().find(|row| row[0] == id).map(|row| row[1].as_str());
    assert_eq!(reason_of("closer"), Some("connection closed by the client"));
    assert_eq!(reason_of("cut"), Some("connection lost"));
}

#[test]
fn a_client_that_is_cut_off_while_it_sends_hears_why() {
    let site = Site::new();
    let device = site.device("mon-12");
    let broker = Broker::start_with(&site, &[("WARDLINE__LIMITS__MAX_PACKET", "4KiB")]);
    // A PUBLISH of 896 KiB; all of it is sent before anything is read.
    let mut large = vec![0x30, 0x80, 0x80, 0x38];
    large.resize(large.len() + 896 * 1_024, 0);
    let mut plain = RawClient::connected(broker.address("lab"), Version::V5, "plain");
    let stream = tls_stream(&site, broker.address("bedside"), Some(&device));
    let mut encrypted = RawClient::over(stream, Version::V5).admitted(connect(Version::V5, "encrypted"));
    // So that the sockets' buffers do not take it all.
    for socket in [&*plain.stream(), &encrypted.stream().sock] {
        socket2::SockRef::from(socket).set_send_buffer_size(4 * 1_024).unwrap();
    }
    hears_why(plain.stream(), &large);
    hears_why(encrypted.stream(), &large);
}

/// Sends, and then reads a DISCONNECT with 0x95 and an end that is no reset.
fn hears_why(stream: &mut (impl Read + Write), large: &[u8]) {
    stream.write_all(large).expect("it is heard to the end");
    let mut goodbye = Vec::new();
    stream.read_to_end(&mut goodbye).expect("an end in order");
    assert!(matches!(goodbye.as_slice(), [0xE0, _, 0x95, ..]), "{goodbye:x?}");
}

#[test]
fn a_handshake_that_stalls_gives_its_place_back() {
    let site = Site::new();
    let lines = format!("bind = \"127.0.0.1:0\"\ntransport = \"wss\"\n{TLS}require = [\"certificate\"]");
    site.add_listener("extra", &lines);
    let device = site.device("mon-12");
    let broker = Broker::start_with(&site, &[SHORT_TIMEOUT, ("WARDLINE__LIMITS__CONNECTIONS", "5")]);
    let mut bystanders = Bystanders::of(&broker);
    // All the other places: nothing at all, half a ClientHello, and TLS without a request.
    let silent = tcp(broker.address("extra"));
    let mut half = tcp(broker.address("extra"));
    half.write_all(&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]).unwrap();
    let wordless = tls_stream(&site, broker.address("extra"), Some(&device));
    assert!(drain(tcp(broker.address("extra"))).is_empty(), "there was a place left");
    drain(silent);
    drain(half);
    drain(wordless);
    let websocket = WebSocket::open(
        tls_stream(&site, broker.address("extra"), Some(&device)),
        "/mqtt",
        "Sec-WebSocket-Protocol: mqtt\r\n",
    );
    RawClient::over(websocket, Version::V5).admitted(connect(Version::V5, "mon-12"));
    bystanders.are_undisturbed();
    broker.terminate();
    let reasons: Vec<_> = refusals(&site).into_iter().map(|[_, _, reason]| reason).collect();
    for stalled in ["TLS handshake took too long", "WebSocket handshake took too long"] {
        assert!(reasons.iter().any(|reason| reason == stalled), "{reasons:?}");
    }
}

/// Whether this machine has IPv6; if not, says that the test was skipped.
fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        #[expect(clippy::print_stderr, reason = "whoever reads the test's output is to know")]
        {
            eprintln!("skipped: this machine has no IPv6");
        }
    }
    has
}

#[test]
fn a_socket_of_both_families_shows_each_client_in_its_own() {
    if !has_ipv6() {
        return;
    }
    let site = Site::new();
    let lines = format!("bind = \"[::]:0\"\ntransport = \"tls\"\n{TLS}require = [\"certificate\"]");
    site.add_listener("extra", &lines);
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    let port = broker.port("extra");
    let mut sockets = Vec::new();
    for (id, host) in [("four", "127.0.0.1"), ("six", "::1")] {
        let address = SocketAddr::new(host.parse().unwrap(), port);
        let stream = tls_stream(&site, address, Some(&device));
        sockets.push((id.to_owned(), stream.sock.local_addr().unwrap().to_string()));
        RawClient::over(stream, Version::V5).admitted(connect(Version::V5, id));
    }
    assert!(sockets[0].1.starts_with("127.0.0.1:") && sockets[1].1.starts_with("[::1]:"), "{sockets:?}");
    broker.terminate();
    assert_eq!(peers(&site), sockets);
}

#[test]
fn loopback_is_loopback_in_both_families() {
    if !has_ipv6() {
        return;
    }
    for bind in ["[::1]:0", "[::ffff:127.0.0.1]:0"] {
        let site = Site::new();
        let lines = format!("bind = \"{bind}\"\ntransport = \"tcp\"\nanonymous = \"service:lab\"");
        site.add_listener("extra", &lines);
        let broker = Broker::start(&site);
        let host = if bind.starts_with("[::1]") { "::1" } else { "127.0.0.1" };
        let address = SocketAddr::new(host.parse().unwrap(), broker.port("extra"));
        RawClient::connected(address, Version::V311, "local");
    }
}

#[test]
fn little_telemetry_stands_before_an_alert_in_a_slow_clients_socket() {
    /// What the client's own socket takes without being read; the kernel doubles it.
    const RECEIVE_BUFFER_BYTES: usize = 16 * 1_024;
    /// The client's buffer, the broker's own output and what the kernel may hold unsent: tens of kilobytes, whatever the
    /// kernel would take otherwise, which is megabytes.
    const BEFORE_BYTES_MAX: usize = 160 * 1_024;
    const PAYLOAD_BYTES: usize = 4_000;
    /// As many as are sent at once, and as many times: fewer in all than may be on their way to one client.
    const BATCH: u16 = 100;
    const BATCHES: usize = 10;

    let site = Site::new();
    let broker = Broker::start(&site);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
    socket.connect(&broker.address("lab").into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut pager =
        RawClient::over(TcpStream::from(socket), Version::V5).admitted(connect(Version::V5, "slow"));
    pager.subscribe("alerts/#");
    pager.subscribe("load/#");

    let mut publisher = RawClient::connected(broker.address("lab"), Version::V5, "fast");
    let payload = vec![b'x'; PAYLOAD_BYTES];
    for _ in 0..BATCHES {
        (1..=BATCH).for_each(|id| publisher.send_publish("load/x", &payload, id));
        for _ in 0..BATCH {
            assert!(matches!(publisher.receive(), Packet::PubAck(_)));
        }
    }
    publisher.deliver("telemetry/icu-3/b12/mon-12/spo2", b"84", 1);

    let mut before = 0;
    loop {
        match pager.receive() {
            Packet::Publish(publish) if publish.topic.starts_with("load/") => before += publish.payload.len(),
            Packet::Publish(publish) if publish.topic.starts_with("alerts/") => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(before < BEFORE_BYTES_MAX, "{before} bytes of telemetry before the alert");
}
