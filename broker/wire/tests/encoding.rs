//! The bytes themselves: short forms, what earlier versions get instead of MQTT 5, and what cannot be encoded.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use common::bytes;
use wardline_wire::{
    Ack, Auth, ConnAck, ConnAckProperties, Delivery, Disconnect, EncodeError, Packet, PacketId, PacketType,
    Publish, PublishProperties, PublishTemplate, QoS, ReasonCode, SubAck, UserProperties, Version, encode,
    encode_properties, encoded_len, fit,
};

fn id(id: u16) -> PacketId {
    PacketId(NonZeroU16::new(id).unwrap())
}

fn ack(reason: ReasonCode) -> Ack {
    Ack { packet_id: id(258), reason, reason_string: None, user: UserProperties::new() }
}

fn connack(reason: ReasonCode) -> Packet {
    let properties = ConnAckProperties { reason_string: Some("why".into()), ..ConnAckProperties::default() };
    Packet::ConnAck(Box::new(ConnAck { session_present: true, reason, properties }))
}

fn disconnect(reason: ReasonCode) -> Packet {
    Packet::Disconnect(Disconnect {
        reason,
        session_expiry: None,
        reason_string: None,
        user: UserProperties::new(),
        server_reference: None,
    })
}

fn suback(reasons: &[ReasonCode]) -> SubAck {
    let reasons = reasons.to_vec();
    SubAck { packet_id: id(1), reason_string: None, user: UserProperties::new(), reasons }
}

/// Encodes behind other bytes and expects those to be left alone.
fn refusal(packet: &Packet, version: Version) -> EncodeError {
    let mut out = BytesMut::from("before");
    let error = encode(packet, version, &mut out).unwrap_err();
    assert_eq!(out, "before", "an encoder that fails has written nothing");
    assert_eq!(encoded_len(packet, version), Err(error.clone()));
    error
}

#[test]
fn success_without_properties_takes_the_short_form() {
    assert_eq!(bytes(&Packet::PubAck(ack(ReasonCode::Success)), Version::V5)[..], b"\x40\x02\x01\x02"[..]);
    assert_eq!(
        bytes(&Packet::PubRec(ack(ReasonCode::QuotaExceeded)), Version::V5)[..],
        b"\x50\x03\x01\x02\x97"[..]
    );
    assert_eq!(bytes(&Packet::PubRel(ack(ReasonCode::Success)), Version::V311)[..], b"\x62\x02\x01\x02"[..]);
    assert_eq!(bytes(&disconnect(ReasonCode::Success), Version::V5)[..], b"\xE0\x00"[..]);
    assert_eq!(bytes(&disconnect(ReasonCode::ServerShuttingDown), Version::V5)[..], b"\xE0\x01\x8B"[..]);
    assert_eq!(bytes(&disconnect(ReasonCode::Success), Version::V311)[..], b"\xE0\x00"[..]);
}

#[test]
fn mqtt_3_gets_what_it_has_of_a_reason() {
    // Table 3.1 of MQTT 3.1.1; a refusal never has a session present.
    for (reason, code) in [
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerBusy, 3),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
        (ReasonCode::Banned, 5),
    ] {
        assert_eq!(bytes(&connack(reason), Version::V311)[..], [0x20, 2, 0, code], "{reason}");
    }
    assert_eq!(bytes(&connack(ReasonCode::Success), Version::V311)[..], [0x20, 2, 1, 0]);
    assert_eq!(bytes(&connack(ReasonCode::Success), Version::V31)[..], [0x20, 2, 0, 0]);

    let reasons = [ReasonCode::Success, ReasonCode::GrantedQoS2, ReasonCode::NotAuthorized];
    let answer = suback(&reasons);
    assert_eq!(bytes(&Packet::SubAck(answer), Version::V311)[..], [0x90, 5, 0, 1, 0, 2, 0x80]);
    let answer = suback(&[ReasonCode::NoSubscriptionExisted]);
    assert_eq!(bytes(&Packet::UnsubAck(answer), Version::V311)[..], [0xB0, 2, 0, 1]);
    assert_eq!(bytes(&Packet::PubAck(ack(ReasonCode::NotAuthorized)), Version::V311)[..], [0x40, 2, 1, 2]);
}

#[test]
fn what_a_version_cannot_say_is_an_error() {
    let auth = Packet::Auth(Auth {
        reason: ReasonCode::ContinueAuthentication,
        method: Some("ace".into()),
        data: None,
        reason_string: None,
        user: UserProperties::new(),
    });
    let cases = [
        (auth, PacketType::Auth),
        (connack(ReasonCode::PacketTooLarge), PacketType::ConnAck),
        (disconnect(ReasonCode::KeepAliveTimeout), PacketType::Disconnect),
    ];
    for (packet, expected) in cases {
        let error = refusal(&packet, Version::V311);
        assert!(matches!(error, EncodeError::NotInVersion { packet, .. } if packet == expected), "{error}");
        assert!(encoded_len(&packet, Version::V5).is_ok());
    }
}

#[test]
fn a_reason_that_the_packet_does_not_have_is_an_error() {
    let reason = ReasonCode::KeepAliveTimeout;
    for (packet, of) in [
        (Packet::PubAck(ack(reason)), PacketType::PubAck),
        (Packet::PubComp(ack(reason)), PacketType::PubComp),
        (connack(reason), PacketType::ConnAck),
        (Packet::SubAck(suback(&[ReasonCode::Success, reason])), PacketType::SubAck),
    ] {
        assert_eq!(refusal(&packet, Version::V5), EncodeError::ReasonNotAllowed { packet: of, reason });
    }
}

/// [MQTT3-4.7.3-3] [MQTT-4.7.3-3]
#[test]
fn what_no_packet_can_hold_is_an_error() {
    let long = "t".repeat(65_536);
    let publish = Publish { topic: long.clone().into(), ..Publish::default() };
    let too_long = EncodeError::FieldTooLong { field: "topic name", len: 65_536 };
    assert_eq!(PublishTemplate::new(&publish, Version::V5).unwrap_err(), too_long);
    assert_eq!(refusal(&Packet::Publish(publish), Version::V5), too_long);

    let properties = PublishProperties { content_type: Some(long.into()), ..PublishProperties::default() };
    let too_long = EncodeError::FieldTooLong { field: "content type", len: 65_536 };
    let mut block = Vec::new();
    assert_eq!(encode_properties(&properties, &mut block), Err(too_long.clone()));
    assert!(block.is_empty());
    let publish = Publish { topic: "t".into(), properties: properties.into(), ..Publish::default() };
    assert_eq!(refusal(&Packet::Publish(publish), Version::V5), too_long);

    let publish = Publish { topic: "t".into(), qos: QoS::AtLeastOnce, ..Publish::default() };
    let template = PublishTemplate::new(&publish, Version::V5).unwrap();
    let mut out = BytesMut::new();
    let delivery = Delivery { qos: QoS::AtLeastOnce, ..Delivery::default() };
    assert_eq!(template.write(&delivery, &mut out), Err(EncodeError::MissingPacketId));
    let delivery = Delivery { subscription_ids: &[1 << 28], ..Delivery::default() };
    let too_large = EncodeError::IntegerTooLarge { field: "subscription identifier", value: 1 << 28 };
    assert_eq!(template.write(&delivery, &mut out), Err(too_large));
    assert!(out.is_empty());
    assert_eq!(refusal(&Packet::Publish(publish), Version::V5), EncodeError::MissingPacketId);
}

#[test]
fn an_answer_gives_up_user_properties_before_its_reason_string() {
    let full = Packet::PubAck(Ack {
        reason_string: Some("quota".into()),
        user: vec![("k".into(), "v".into())],
        ..ack(ReasonCode::QuotaExceeded)
    });
    let fitted = |max| {
        let mut packet = full.clone();
        fit(&mut packet, Version::V5, max).map(|()| packet)
    };
    let len = u32::try_from(encoded_len(&full, Version::V5).unwrap()).unwrap();
    assert_eq!(fitted(len), Ok(full.clone()));
    let Ok(Packet::PubAck(without_user)) = fitted(len - 1) else { unreachable!() };
    assert!(without_user.user.is_empty() && without_user.reason_string.is_some());
    assert_eq!(fitted(5), Ok(Packet::PubAck(ack(ReasonCode::QuotaExceeded))));
    let packet = PacketType::PubAck;
    assert_eq!(fitted(4), Err(EncodeError::PacketTooLarge { packet, size: 5, max: 4 }));
}

#[test]
fn a_publish_is_never_cut_to_fit() {
    let properties =
        PublishProperties { user: vec![("k".into(), "v".into())], ..PublishProperties::default() };
    let payload = Bytes::from_static(b"97");
    let publish = Packet::Publish(Publish {
        topic: "t".into(),
        properties: properties.into(),
        payload,
        ..Publish::default()
    });
    let mut fitted = publish.clone();
    assert!(matches!(fit(&mut fitted, Version::V5, 10), Err(EncodeError::PacketTooLarge { max: 10, .. })));
    assert_eq!(fitted, publish);
}
