//! CONNECT (section 3.1).

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use wardline_tests::RawClient;
use wardline_wire::{ConnectProperties, Packet, QoS, ReasonCode, UserProperties, Version};

use crate::support::*;

/// Name, level, flags, keep alive 0 and no properties.
fn head(flags: u8) -> Vec<u8> {
    [&b"\0\x04MQTT\x05"[..], &[flags], b"\0\0\0"].concat()
}

fn told_why(user: &UserProperties, reason_string: Option<&str>) -> bool {
    reason_string.is_some() || !user.is_empty()
}

/// Whatever comes first and is no CONNECT closes the connection; there has been no CONNACK, so that there is no DISCONNECT
/// either: [MQTT-3.1.0-1] [MQTT-3.14.0-1].
#[test]
fn the_first_packet_must_be_connect() {
    let lab = Lab::new();
    let packets = [
        publish("t", "x", QoS::AtMostOnce, 0),
        subscribe_as(1, &[("t", at(QoS::AtMostOnce))], None),
        Packet::PingReq,
        disconnect(ReasonCode::Success),
    ];
    for packet in packets {
        let mut client = lab.open();
        client.send(&packet);
        assert_eq!(client.until_closed(), [], "{packet:?}");
    }
}

/// A second CONNECT is a protocol error, and is not answered with a second CONNACK: [MQTT-3.1.0-2] [MQTT-3.2.0-2].
#[test]
fn a_second_connect_is_a_protocol_error() {
    let lab = Lab::new();
    let mut client = lab.client("twice");
    client.send(&Packet::Connect(Box::new(connect5("twice"))));
    match client.until_closed().as_slice() {
        [Packet::Disconnect(farewell)] => assert_eq!(farewell.reason, ReasonCode::ProtocolError),
        other => panic!("{other:?}"),
    }
}

/// Another protocol name closes the connection; an unknown version is told so before: [MQTT-3.1.2-1] [MQTT-3.1.2-2]
/// [MQTT-3.2.2-7].
#[test]
fn other_protocols_and_versions_are_turned_away() {
    let lab = Lab::new();
    for name in [&b"HTTP"[..], b"mqtt", b"MQT"] {
        let mut client = lab.open();
        client.send_bytes(&frame(0x10, &[&field(name)[..], b"\x05\x02\0\0\0\0\x01c"].concat()));
        assert_eq!(client.until_closed(), [], "{name:?}");
    }
    for level in [6, 9, 127] {
        let connect = [&b"\0\x04MQTT"[..], &[level], b"\x02\0\0\0\0\x01c"].concat();
        let answer = lab.refused_bytes(&frame(0x10, &connect));
        assert_eq!(answer.reason, ReasonCode::UnsupportedProtocolVersion, "{level}");
    }
}

/// Flags and fields of a CONNECT agree, or it is malformed and the connection is closed: [MQTT-3.1.2-3] [MQTT-3.1.2-9]
/// [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19]
/// [MQTT-3.1.3-3] [MQTT-3.1.4-1] [MQTT-3.2.2-6].
#[test]
fn a_connect_that_contradicts_itself_is_refused() {
    let lab = Lab::new();
    let (id, will) = (field(b"c"), [&[0][..], &field(b"t"), &field(b"bye")].concat());
    let with = |flags: u8, fields: &[&[u8]]| [&head(flags)[..], &fields.concat()].concat();
    let bodies = [
        ("the reserved flag", with(0x03, &[&id])),
        ("a will flag without a will", with(0x06, &[&id])),
        ("a will flag without a will payload", with(0x06, &[&id, &[0], &field(b"t")])),
        ("a will QoS without a will", with(0x0A, &[&id])),
        ("a will QoS of 3", with(0x1E, &[&id, &will])),
        ("will retain without a will", with(0x22, &[&id])),
        ("a user name without its flag", with(0x02, &[&id, &field(b"u")])),
        ("a user name flag without a user name", with(0x82, &[&id])),
        ("a password without its flag", with(0x82, &[&id, &field(b"u"), &field(b"p")])),
        ("a password flag without a password", with(0xC2, &[&id, &field(b"u")])),
        ("no client identifier", with(0x02, &[])),
        ("no flags", b"\0\x04MQTT\x05".to_vec()),
    ];
    for (what, body) in bodies {
        assert_eq!(lab.refused_bytes(&frame(0x10, &body)).reason, ReasonCode::MalformedPacket, "{what}");
    }
}

/// The fields of the payload come in their order: [MQTT-3.1.3-1]. Each is one that is looked at: the token is the password,
/// the will is published.
#[test]
fn the_payload_of_a_connect_is_read_in_its_order() {
    let lab = Lab::new();
    let mut watcher = lab.listener("watcher");
    subscribe(&mut watcher, "notes/#", QoS::AtMostOnce);
    let token = lab.site.token("service:lab");
    let body = [
        &head(0xC6)[..],
        &field(b"pager"),
        &[0],
        &field(b"notes/bye"),
        &field(b"bye"),
        &field(b"lab"),
        &field(token.as_bytes()),
    ]
    .concat();
    let mut packet = vec![0x10, (body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
    packet.extend(body);
    let mut pager = RawClient::open(lab.broker.address("gateway"), Version::V5);
    pager.send_bytes(&packet);
    assert!(matches!(pager.receive(), Packet::ConnAck(answer) if answer.reason == ReasonCode::Success));
    drop(pager);
    assert_eq!(text(&next_publish(&mut watcher)), "bye");
}

/// Who cannot say who it is, is not let in: [MQTT-3.1.4-2] [MQTT-3.2.2-7]; and nothing it sends behind its CONNECT is
/// processed: [MQTT-3.1.4-6].
#[test]
fn a_rejected_client_publishes_nothing() {
    let lab = Lab::new();
    let mut watcher = lab.listener("watcher");
    subscribe(&mut watcher, "#", QoS::AtMostOnce);
    for password in [None, Some(lab.site.token_of("somebody else", "service:lab").into())] {
        let mut stranger = RawClient::open(lab.broker.address("gateway"), Version::V5);
        let mut connect = connect5("stranger");
        connect.password = password;
        let mut bytes = bytes::BytesMut::new();
        for packet in [Packet::Connect(Box::new(connect)), publish("t", "stranger", QoS::AtLeastOnce, 1)] {
            wardline_wire::encode(&packet, Version::V5, &mut bytes).unwrap();
        }
        stranger.send_bytes(&bytes);
        match stranger.until_closed().as_slice() {
            [Packet::ConnAck(answer)] => assert!(answer.reason.is_error(), "{answer:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(!payloads(&mut watcher).contains(&"stranger".to_owned()));
}

/// A client that comes again takes the session over: the old connection is told 0x8E and closed: [MQTT-3.1.4-3]; the new one
/// is acknowledged: [MQTT-3.1.4-5]. The session is the client identifier's: [MQTT-3.1.3-2].
#[test]
fn a_client_identifier_is_connected_once() {
    let lab = Lab::new();
    let (mut old, _) = lab.connected(resume("pager"));
    subscribe(&mut old, "t", QoS::AtLeastOnce);
    let (mut other, answer) = lab.connected(resume("another"));
    assert!(!answer.session_present);
    let (mut new, answer) = lab.connected(resume("pager"));
    assert!(answer.session_present);
    assert_eq!(old.goodbye(), ReasonCode::SessionTakenOver);
    other.deliver("t", "for the pager", 1);
    assert_eq!(text(&next_publish(&mut new)), "for the pager");
}

/// 1 to 23 letters and digits are a client identifier, and longer ones are one here too: [MQTT-3.1.3-5].
#[test]
fn ordinary_client_identifiers_are_taken() {
    let lab = Lab::new();
    for id in
        ["0", "abcdefghijklmnopqrstuvw", "ABCDEFGHIJKLMNOPQRSTUVW", "xyzXYZ0123456789", &"long/ä".repeat(20)]
    {
        assert_eq!(lab.connected(connect5(id)).1.properties.assigned_client_id, None, "{id}");
    }
}

/// Without a client identifier the broker gives one that nobody has, and says which: [MQTT-3.1.3-6] [MQTT-3.1.3-7]
/// [MQTT-3.2.2-16].
#[test]
fn an_empty_client_identifier_is_replaced_by_a_new_one() {
    let lab = Lab::new();
    let (first, first_answer) = lab.connected(resume(""));
    let (_second, second_answer) = lab.connected(resume(""));
    let assigned = |answer: &wardline_wire::ConnAck| {
        answer.properties.assigned_client_id.clone().filter(|id| !id.is_empty()).expect("an identifier")
    };
    let id = assigned(&first_answer);
    assert_ne!(id, assigned(&second_answer));
    // It is as if the client had given it: the session is found again under it.
    drop(first);
    let (_, again) = lab.connected(resume(&id));
    assert!(again.session_present);
    assert_eq!(again.properties.assigned_client_id, None);
}

/// A client identifier that is somebody else's is refused with 0x85: [MQTT-3.1.3-8].
#[test]
fn a_client_identifier_of_another_principal_is_refused() {
    let lab = Lab::new();
    let (_owner, _) = lab.connected(resume("pager"));
    let mut thief = RawClient::open(lab.broker.address("gateway"), Version::V5);
    let mut connect = resume("pager");
    connect.password = Some(lab.site.token("staff:n.ito").into());
    thief.send(&Packet::Connect(Box::new(connect)));
    match thief.until_closed().as_slice() {
        [Packet::ConnAck(answer)] => assert_eq!(answer.reason, ReasonCode::ClientIdentifierNotValid),
        other => panic!("{other:?}"),
    }
}

/// A client that is silent for one and a half times its keep alive is let go, one that pings is not: [MQTT-3.1.2-20]
/// [MQTT-3.1.2-22]. The broker has said nothing about it, so the client's own value counts: [MQTT-3.2.2-22].
#[test]
fn a_client_that_sends_nothing_within_its_keep_alive_is_let_go() {
    let lab = Lab::new();
    let mut connect = connect5("silent");
    connect.keep_alive = 1;
    let began = Instant::now();
    let (mut client, answer) = lab.connected(connect);
    assert_eq!(answer.properties.server_keep_alive, None);
    client.send(&Packet::PingReq);
    assert_eq!(client.receive(), Packet::PingResp);
    assert_eq!(client.goodbye(), ReasonCode::KeepAliveTimeout);
    assert!(began.elapsed() >= Duration::from_millis(1_450), "{:?}", began.elapsed());
}

/// What the broker says of the keep alive counts, whatever the client had asked for: [MQTT-3.1.2-21] [MQTT-3.2.2-21].
#[test]
fn the_server_s_keep_alive_takes_the_place_of_the_client_s() {
    let lab = Lab::with(&[("WARDLINE__LIMITS__MAX_KEEP_ALIVE", "1s")]);
    for wish in [0, 600] {
        let mut connect = connect5("silent");
        connect.keep_alive = wish;
        let (mut client, answer) = lab.connected(connect);
        assert_eq!(answer.properties.server_keep_alive, Some(1));
        assert_eq!(client.goodbye(), ReasonCode::KeepAliveTimeout, "{wish}");
    }
}

/// What exceeds the client's maximum packet size is not sent and counts as sent: [MQTT-3.1.2-24] [MQTT-3.1.2-25].
#[test]
fn a_publish_that_is_too_large_for_a_client_is_as_if_delivered() {
    let lab = Lab::new();
    let mut connect = connect5("small");
    connect.properties = ConnectProperties {
        maximum_packet_size: Some(32),
        receive_maximum: NonZeroU16::new(1),
        ..ConnectProperties::default()
    };
    let (mut small, _) = lab.connected(connect);
    subscribe(&mut small, "t", QoS::ExactlyOnce);
    let mut device = lab.client("device");
    // 2 of header, 3 of topic, 2 of identifier, 1 of property length: 24 bytes of payload fit.
    for (id, (length, qos)) in
        (1..).zip([(24, QoS::AtLeastOnce), (25, QoS::AtLeastOnce), (25, QoS::ExactlyOnce)])
    {
        device.send(&publish("t", &"x".repeat(length), qos, id));
        device.receive();
    }
    device.deliver("t", "next", 4);
    for expected in ["x".repeat(24), "next".to_owned()] {
        let publish = next_publish(&mut small);
        assert_eq!(text(&publish), expected);
        small.send(&Packet::PubAck(ack(id_of(&publish))));
    }
}

/// Topic aliases are used only up to the client's maximum, and not at all where it has none: [MQTT-3.1.2-26]
/// [MQTT-3.1.2-27] [MQTT-3.3.2-11].
#[test]
fn the_broker_uses_no_more_topic_aliases_than_the_client_takes() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    for maximum in [None, Some(0), Some(2)] {
        let mut connect = connect5("aliases");
        connect.properties.topic_alias_maximum = maximum;
        let (mut client, _) = lab.connected(connect);
        subscribe(&mut client, "t/+", QoS::AtMostOnce);
        for number in 1..=8 {
            device.deliver(&format!("t/{}", number % 4), "x", number);
            let alias = next_publish(&mut client).properties.topic_alias.map_or(0, NonZeroU16::get);
            assert!(alias <= maximum.unwrap_or(0), "{alias} of {maximum:?}");
        }
    }
}

/// Response information is not given to who does not ask for it: [MQTT-3.1.2-28].
#[test]
fn response_information_is_not_sent_unasked() {
    let lab = Lab::new();
    for wish in [None, Some(false)] {
        let mut connect = connect5("asks-not");
        connect.properties.request_response_information = wish;
        assert_eq!(lab.connected(connect).1.properties.response_information, None);
    }
}

/// Who does not want problem information gets none on acknowledgements, and who wants it does: [MQTT-3.1.2-29].
#[test]
fn reasons_in_words_are_sent_only_to_who_wants_them() {
    let lab = Lab::new();
    for wish in [None, Some(true), Some(false)] {
        let mut connect = connect5("wordless");
        connect.properties.request_problem_information = wish;
        let (mut client, _) = lab.connected(connect);
        for ack in denied(&mut client) {
            let told = told_why(&ack.user, ack.reason_string.as_deref());
            assert_eq!(told, wish != Some(false), "{wish:?} {ack:?}");
        }
        if wish == Some(false) {
            let answers = [
                ask_subscribe(&mut client, 3, &[("secret/t", at(QoS::AtMostOnce))]),
                ask_unsubscribe(&mut client, 4, &["none"]),
            ];
            assert!(answers.iter().all(|answer| !told_why(&answer.user, answer.reason_string.as_deref())));
            client.send(&Packet::PubRel(ack(5)));
            match client.receive() {
                Packet::PubComp(ack) => assert!(!told_why(&ack.user, ack.reason_string.as_deref())),
                other => panic!("{other:?}"),
            }
        }
    }
}
