//! Each limit of a listener: what happens there, that it is counted, and that nobody else notices.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests assert as tests do")]

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use wardline_tests::{Broker, Bystanders, DEADLINE, RawClient, Site, connect, packet_id, record};
use wardline_wire::{ConnAck, Connect, Packet, Publish, PublishProperties, QoS, ReasonCode, Version, Will};

/// A broker whose listener `small` has these limits, and two clients on its listener `lab`, which has not.
struct Ward {
    bystanders: Bystanders,
    broker: Broker,
    site: Site,
}

impl Ward {
    /// With lines of `[listener.limits]`.
    fn with(limits: &str) -> Self {
        let site = Site::new();
        let listener = "bind = \"127.0.0.1:0\"\ntransport = \"tcp\"\nanonymous = \"service:lab\"";
        site.add_listener("small", &format!("{listener}\n[listener.limits]\n{limits}"));
        let broker = Broker::start_with(&site, &[("WARDLINE__NODE__SYS_INTERVAL", "off")]);
        Self { bystanders: Bystanders::of(&broker), broker, site }
    }

    fn small(&self) -> SocketAddr {
        self.broker.address("small")
    }

    fn client(&self, version: Version, id: &str) -> RawClient {
        RawClient::connected(self.small(), version, id)
    }

    /// What the broker answers to a CONNECT at the listener `small`.
    fn answer(&self, connect: Connect) -> (RawClient, Option<ConnAck>) {
        let mut client = RawClient::open(self.small(), connect.version);
        client.send(&Packet::Connect(Box::new(connect)));
        match client.try_receive() {
            None => (client, None),
            Some(Packet::ConnAck(answer)) => (client, Some(*answer)),
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    /// Demands that the listener's clients, and nobody else's, have reached this limit so often.
    fn reached(&self, limit: &str, times: u64) {
        let count = |listener| {
            let name = format!("wardline_limit_reached_total{{limit=\"{limit}\",listener=\"{listener}\"}}");
            self.broker.metric(&name)
        };
        assert_eq!((count("small"), count("lab")), (times, 0), "{limit}");
    }

    fn check(mut self, limit: &str, times: u64) {
        self.reached(limit, times);
        self.bystanders.are_undisturbed();
    }
}

fn publish(topic: &str, qos: QoS, id: u16) -> Packet {
    Packet::Publish(Publish {
        qos,
        topic: topic.into(),
        packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(id)),
        payload: "97".into(),
        ..Publish::default()
    })
}

fn subscribe(client: &mut RawClient, filter: &str) -> ReasonCode {
    client.try_subscribe(&[(filter, QoS::AtMostOnce)])[0]
}

fn is_success(answer: &Packet) -> bool {
    matches!(answer, Packet::PubAck(ack) if !ack.reason.is_error())
}

#[test]
fn max_packet() {
    let ward = Ward::with("max_packet = \"2KiB\"");
    let mut client = ward.client(Version::V5, "large");
    client.deliver("large", [b'x'; 2_000], 1);
    client.send_publish("large", &[b'x'; 2_048], 2);
    assert_eq!(client.goodbye(), ReasonCode::PacketTooLarge);
    let mut client = ward.client(Version::V311, "large");
    client.send_publish("large", &[b'x'; 2_048], 2);
    assert_eq!(client.until_closed(), []);
    let (_, answer) = ward.answer(connect(Version::V5, "large"));
    assert_eq!(answer.expect("let in").properties.maximum_packet_size, Some(2_048));
    let mut lab = RawClient::connected(ward.broker.address("lab"), Version::V5, "larger");
    lab.deliver("large", [b'x'; 20_000], 1);
    ward.check("max_packet", 2);
}

#[test]
fn max_keep_alive() {
    let ward = Ward::with("max_keep_alive = \"5s\"");
    let with = |seconds| Connect { keep_alive: seconds, ..connect(Version::V5, "long") };
    for (asked, given) in [(60, Some(5)), (0, Some(5)), (5, Some(5)), (4, None)] {
        let (_client, answer) = ward.answer(with(asked));
        assert_eq!(answer.expect("let in").properties.server_keep_alive, given, "{asked}");
    }
    ward.check("max_keep_alive", 2);
}

#[test]
fn receive_max() {
    let ward = Ward::with("receive_max = 2");
    let (mut client, answer) = ward.answer(connect(Version::V5, "hasty"));
    assert_eq!(answer.expect("let in").properties.receive_maximum, NonZeroU16::new(2));
    for id in 1..=2 {
        // Without PUBREL neither is over.
        client.send(&publish("hasty", QoS::ExactlyOnce, id));
        assert!(matches!(client.receive(), Packet::PubRec(ack) if !ack.reason.is_error()));
    }
    client.send(&publish("hasty", QoS::AtLeastOnce, 3));
    assert_eq!(client.goodbye(), ReasonCode::ReceiveMaximumExceeded);
    ward.check("receive_max", 1);
}

#[test]
fn topic_alias_max() {
    let ward = Ward::with("topic_alias_max = 1");
    for (alias, topic, taken) in [(1, "alias", true), (2, "alias", false)] {
        let (mut client, answer) = ward.answer(connect(Version::V5, "alias"));
        assert_eq!(answer.expect("let in").properties.topic_alias_maximum, Some(1));
        let Packet::Publish(mut publish) = publish(topic, QoS::AtLeastOnce, 1) else { unreachable!() };
        publish.properties.topic_alias = NonZeroU16::new(alias);
        client.send(&Packet::Publish(publish));
        if taken {
            assert!(is_success(&client.receive()));
        } else {
            assert_eq!(client.goodbye(), ReasonCode::TopicAliasInvalid);
        }
    }
    ward.check("topic_alias_max", 1);
}

#[test]
fn in_flight() {
    let mut ward = Ward::with("in_flight = 2");
    let mut reader = ward.client(Version::V311, "reader");
    reader.subscribe("flight/#");
    let mut writer = RawClient::connected(ward.broker.address("lab"), Version::V5, "writer");
    for id in 1..=4 {
        writer.deliver("flight/1", id.to_string().as_bytes(), id);
    }
    let next = |reader: &mut RawClient| match reader.receive() {
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    };
    let first = next(&mut reader);
    assert_eq!(next(&mut reader).payload, "2");
    assert_eq!(ward.broker.metric::<u64>("wardline_publishes_in_flight"), 2);
    // What answers the ping would have come after the third, had that been sent.
    reader.send(&Packet::PingReq);
    assert_eq!(reader.receive(), Packet::PingResp);
    reader.acknowledge(&first);
    assert_eq!(next(&mut reader).payload, "3");
    ward.bystanders.are_undisturbed();
}

#[test]
fn session_expiry_max() {
    let ward = Ward::with("session_expiry_max = \"1h\"");
    for (asked, told) in [(7_200, Some(3_600)), (3_600, None)] {
        let mut connect = connect(Version::V5, "durable");
        connect.properties.session_expiry = Some(asked);
        let (_client, answer) = ward.answer(connect);
        assert_eq!(answer.expect("let in").properties.session_expiry, told, "{asked}");
    }
    ward.check("session_expiry_max", 1);
}

/// A client whose session outlives its connection.
fn durable(version: Version, id: &str) -> Connect {
    let mut connect = Connect { clean_start: false, ..connect(version, id) };
    connect.properties.session_expiry = (version == Version::V5).then_some(3_600);
    connect
}

#[test]
fn sessions() {
    // Two of them are the bystanders'.
    let mut ward = Ward::with("[limits]\nsessions = 4");
    let reason = |ward: &Ward, connect| ward.answer(connect).1.expect("an answer").reason;
    for (connect, expected) in [
        (durable(Version::V5, "first"), ReasonCode::Success),
        (durable(Version::V311, "second"), ReasonCode::Success),
        (durable(Version::V5, "third"), ReasonCode::QuotaExceeded),
        (durable(Version::V311, "third"), ReasonCode::ServerUnavailable),
        (durable(Version::V5, "first"), ReasonCode::Success),
        (connect(Version::V5, "passing"), ReasonCode::Success),
    ] {
        assert_eq!(reason(&ward, connect), expected);
    }
    ward.reached("sessions", 2);
    ward.bystanders.are_undisturbed();
    assert_eq!(ward.broker.terminate().status, Some(0));
    // The bystanders' sessions were not to last. Those that were, are there again, and keep their places.
    let again = Broker::start_with(&ward.site, &[("WARDLINE__LIMITS__SESSIONS", "2")]);
    let answer = |id, expected| {
        let mut client = RawClient::open(again.address("small"), Version::V5);
        client.send(&Packet::Connect(Box::new(durable(Version::V5, id))));
        match client.receive() {
            Packet::ConnAck(answer) => assert_eq!((answer.session_present, answer.reason), expected, "{id}"),
            other => panic!("{other:?}"),
        }
    };
    answer("first", (true, ReasonCode::Success));
    answer("second", (true, ReasonCode::Success));
    answer("third", (false, ReasonCode::QuotaExceeded));
    assert_eq!(again.terminate().status, Some(0));
    let rows = record::sqlite(
        &ward.site.audit_db(),
        "SELECT event, reason, count(*) FROM access WHERE client_id = 'third' GROUP BY event, reason ORDER BY reason",
    );
    let refused = |sessions: &str, count: &str| {
        ["refuse".to_owned(), format!("the node has its {sessions} sessions"), count.to_owned()]
    };
    assert_eq!(rows, [refused("2", "1"), refused("4", "2")]);
}

#[test]
fn sessions_per_principal() {
    // The bystanders' are two of them: it is one principal, wherever it connects.
    let ward = Ward::with("sessions_per_principal = 3");
    for (id, version, expected) in [
        ("first", Version::V5, ReasonCode::Success),
        ("second", Version::V5, ReasonCode::QuotaExceeded),
        ("second", Version::V311, ReasonCode::ServerUnavailable),
        ("first", Version::V311, ReasonCode::Success),
    ] {
        let (_, answer) = ward.answer(durable(version, id));
        assert_eq!(answer.expect("an answer").reason, expected, "{id}");
    }
    ward.check("sessions_per_principal", 2);
}

fn to_retain(topic: &str, payload: &str, qos: QoS) -> Packet {
    let Packet::Publish(publish) = publish(topic, qos, 1) else { unreachable!() };
    Packet::Publish(Publish { retain: true, payload: payload.to_owned().into(), ..publish })
}

/// Has a message retained; the reason of its acknowledgement.
fn retain(client: &mut RawClient, topic: &str, payload: &str) -> ReasonCode {
    client.send(&to_retain(topic, payload, QoS::AtLeastOnce));
    match client.receive() {
        Packet::PubAck(ack) => ack.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn retained_messages_and_retained_bytes() {
    // One of them is the node's heartbeat.
    let mut ward = Ward::with("[limits]\nretained_messages = 3\nretained_bytes = \"8KiB\"");
    let mut pager = RawClient::connected(ward.broker.address("lab"), Version::V311, "pager");
    pager.subscribe("wardline/heartbeat/#");
    assert!(matches!(pager.receive(), Packet::Publish(_)));
    let mut client = ward.client(Version::V5, "keeper");
    let large = "x".repeat(8_000);
    for (topic, payload, expected) in [
        ("kept/1", "97", ReasonCode::Success),
        ("kept/2", &large, ReasonCode::QuotaExceeded),
        ("kept/2", "97", ReasonCode::Success),
        ("kept/3", "97", ReasonCode::QuotaExceeded),
        ("kept/1", "98", ReasonCode::Success),
    ] {
        assert_eq!(retain(&mut client, topic, payload), expected, "{topic}");
    }
    // At QoS 0 there is no word for it, and the connection goes on.
    client.send(&to_retain("kept/3", "97", QoS::AtMostOnce));
    client.deliver("kept/3", b"97", 2);
    assert_eq!(retain(&mut client, "kept/2", ""), ReasonCode::Success);
    assert_eq!(retain(&mut client, "kept/3", "99"), ReasonCode::Success);
    let mut old = ward.client(Version::V311, "keeper");
    old.send(&to_retain("kept/4", "97", QoS::AtLeastOnce));
    assert_eq!(old.until_closed(), []);
    assert_eq!(ward.broker.metric::<u64>("wardline_retained_messages"), 3);
    ward.reached("retained_messages", 3);
    ward.reached("retained_bytes", 1);
    ward.bystanders.are_undisturbed();
}

#[test]
fn subscriptions() {
    let ward = Ward::with("subscriptions = 2");
    for (version, refused) in
        [(Version::V5, ReasonCode::QuotaExceeded), (Version::V311, ReasonCode::UnspecifiedError)]
    {
        let mut client = ward.client(version, "curious");
        assert_eq!(subscribe(&mut client, "a"), ReasonCode::Success);
        assert_eq!(subscribe(&mut client, "b"), ReasonCode::Success);
        assert_eq!(subscribe(&mut client, "c"), refused);
        assert_eq!(subscribe(&mut client, "b"), ReasonCode::Success, "one that it has is no third");
    }
    ward.check("subscriptions", 2);
}

#[test]
fn topic_levels_and_topic_bytes() {
    let mut ward = Ward::with("topic_levels = 3\ntopic_bytes = 20");
    let long = "x".repeat(21);
    for topic in ["a/b/c/d", &long] {
        let mut client = ward.client(Version::V5, "deep");
        client.send(&publish(topic, QoS::AtLeastOnce, 1));
        match client.receive() {
            Packet::PubAck(ack) => assert_eq!(ack.reason, ReasonCode::TopicNameInvalid),
            other => panic!("{other:?}"),
        }
        client.send(&publish(topic, QoS::ExactlyOnce, 2));
        match client.receive() {
            Packet::PubRec(ack) => assert_eq!(ack.reason, ReasonCode::TopicNameInvalid),
            other => panic!("{other:?}"),
        }
        assert_eq!(subscribe(&mut client, topic), ReasonCode::TopicFilterInvalid);
        client.send(&publish("a/b/c", QoS::AtLeastOnce, 3));
        assert!(is_success(&client.receive()));
        client.send(&publish(topic, QoS::AtMostOnce, 0));
        assert_eq!(client.goodbye(), ReasonCode::TopicNameInvalid);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut old = ward.client(Version::V311, "deep");
            assert_eq!(subscribe(&mut old, topic), ReasonCode::UnspecifiedError);
            old.send(&publish(topic, qos, 1));
            assert_eq!(old.until_closed(), []);
        }
        // MQTT 3.1.1 has no return code for a will's topic.
        for (version, reason) in [(Version::V5, Some(ReasonCode::TopicNameInvalid)), (Version::V311, None)] {
            let mut dying = connect(version, "dying");
            dying.will = Some(Will {
                topic: topic.into(),
                payload: "gone".into(),
                properties: PublishProperties::default(),
                qos: QoS::AtMostOnce,
                retain: false,
                delay: None,
            });
            assert_eq!(ward.answer(dying).1.map(|answer| answer.reason), reason);
        }
    }
    // A publish at each QoS, a subscription and a will of MQTT 5; two publishes, two subscriptions and a will of 3.1.1.
    ward.reached("topic_levels", 10);
    ward.reached("topic_bytes", 10);
    ward.bystanders.are_undisturbed();
    let mut lab = RawClient::connected(ward.broker.address("lab"), Version::V5, "deep");
    lab.deliver("a/b/c/d", b"97", 1);
    assert_eq!(ward.broker.terminate().status, Some(0));
    let rows = record::sqlite(
        &ward.site.audit_db(),
        "SELECT outcome, count(*), max(reason) FROM publishes WHERE topic = 'a/b/c/d' GROUP BY outcome ORDER BY outcome",
    );
    let reason = "topic_levels of the topic are 4, at most 3 are taken here";
    assert_eq!(rows, [["accepted", "1", ""], ["denied", "5", reason]]);
}

#[test]
fn connections() {
    let ward = Ward::with("connections = 1");
    let first = ward.client(Version::V5, "first");
    assert_eq!(RawClient::open(ward.small(), Version::V5).until_closed(), []);
    ward.reached("connections", 1);
    drop(first);
    // The broker learns of the end a moment after it, and nothing tells when.
    let deadline = Instant::now() + DEADLINE;
    while ward.answer(connect(Version::V5, "second")).1.is_none() {
        assert!(Instant::now() < deadline, "the place was not given again");
    }
    // The other listeners have their own places.
    RawClient::connected(ward.broker.address("lab"), Version::V5, "elsewhere");
}

#[test]
fn connections_per_principal() {
    // The bystanders are two of them: it is one principal, wherever it connects.
    let ward = Ward::with("connections_per_principal = 4");
    let first = ward.client(Version::V5, "first");
    let _second = ward.client(Version::V311, "second");
    let (_, answer) = ward.answer(connect(Version::V5, "third"));
    assert_eq!(answer.expect("an answer").reason, ReasonCode::QuotaExceeded);
    let (_, answer) = ward.answer(connect(Version::V311, "third"));
    assert_eq!(answer.expect("an answer").reason, ReasonCode::ServerUnavailable);
    ward.reached("connections_per_principal", 2);
    // Who takes over his own session is no more than before.
    let first_again = ward.client(Version::V5, "first");
    drop((first, first_again));
    let deadline = Instant::now() + DEADLINE;
    while ward.answer(connect(Version::V5, "third")).1.is_none_or(|answer| answer.reason.is_error()) {
        assert!(Instant::now() < deadline, "the place was not given again");
    }
}

#[test]
fn connections_per_second() {
    let mut ward = Ward::with("connections_per_second = 4");
    let began = Instant::now();
    let mut clients: Vec<_> = (0..8).map(|_| RawClient::open(ward.small(), Version::V5)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&Packet::Connect(Box::new(connect(Version::V5, &format!("c{number}")))));
    }
    // Those at the other listeners do not wait with them.
    ward.bystanders.are_undisturbed();
    RawClient::connected(ward.broker.address("lab"), Version::V5, "elsewhere");
    assert!(began.elapsed() < Duration::from_secs(1), "the other listener waited too");
    for client in &mut clients {
        assert!(matches!(client.receive(), Packet::ConnAck(answer) if !answer.reason.is_error()));
    }
    assert!(began.elapsed() >= Duration::from_millis(990), "four at once, then one each 250 ms");
    let name = "wardline_limit_reached_total{limit=\"connections_per_second\",listener=\"small\"}";
    assert!(ward.broker.metric::<u64>(name) >= 4);
}

#[test]
fn publishes_per_second() {
    let mut ward = Ward::with("publishes_per_second = 4");
    let mut client =
        RawClient::connected_by(ward.small(), Connect { keep_alive: 1, ..connect(Version::V5, "fast") });
    client.subscribe("bystander/#");
    let began = Instant::now();
    for id in 1..=12 {
        client.send_publish("fast", b"97", id);
    }
    ward.bystanders.are_undisturbed();
    // Nothing is refused or lost, what is for the client goes on, and it is not taken for silent.
    let mut acknowledged = Vec::new();
    let mut heard = None;
    while acknowledged.len() < 12 {
        match client.receive() {
            Packet::PubAck(ack) => {
                assert!(!ack.reason.is_error());
                acknowledged.push(ack.packet_id.0.get());
            }
            Packet::Publish(_) => heard = Some(acknowledged.len()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acknowledged, (1..=12).collect::<Vec<_>>());
    assert!(began.elapsed() >= Duration::from_millis(1_990), "four at once, then one each 250 ms");
    assert!(heard.expect("the bystander's message") < 12);
    let name = "wardline_limit_reached_total{limit=\"publishes_per_second\",listener=\"small\"}";
    assert!(ward.broker.metric::<u64>(name) >= 8);
}

#[test]
fn bytes_per_second() {
    let mut ward = Ward::with("bytes_per_second = \"4KiB\"\nmax_packet = \"2KiB\"");
    let mut client = ward.client(Version::V5, "wide");
    let began = Instant::now();
    for id in 1..=5 {
        client.send_publish("wide", &[b'x'; 2_000], id);
    }
    ward.bystanders.are_undisturbed();
    for _ in 1..=5 {
        assert!(is_success(&client.receive()));
    }
    // Of five packets the first two are within the second's worth, and the third goes into debt.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    let name = "wardline_limit_reached_total{limit=\"bytes_per_second\",listener=\"small\"}";
    assert!(ward.broker.metric::<u64>(name) >= 2);
}

#[test]
fn connect_timeout() {
    let ward = Ward::with("connect_timeout = \"200ms\"");
    let mut patient = RawClient::open(ward.broker.address("lab"), Version::V311);
    assert_eq!(RawClient::open(ward.small(), Version::V311).until_closed(), []);
    let mut slow = RawClient::open(ward.small(), Version::V5);
    slow.send_bytes(&[0x10, 0x0D, 0x00, 0x04]);
    assert_eq!(slow.until_closed(), []);
    patient.send(&Packet::Connect(Box::new(connect(Version::V311, "patient"))));
    assert!(matches!(patient.receive(), Packet::ConnAck(answer) if !answer.reason.is_error()));
    ward.check("connect_timeout", 2);
}
