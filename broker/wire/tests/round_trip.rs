//! What is encoded is decoded to the same value, however it is cut, in every version and from either end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::{Bytes, BytesMut};
use common::check::decode_all;
use common::{SENDERS, VERSIONS, bytes, decoder_for, packets};
use proptest::prelude::*;
use wardline_wire::{
    Delivery, EncodeError, Packet, Publish, PublishProperties, PublishTemplate, Sender, TopicAlias, Version,
    decode_properties, encode, encode_properties, encoded_len, fit,
};

fn conversation() -> impl Strategy<Value = (Version, Sender)> {
    (prop::sample::select(VERSIONS.to_vec()), prop::sample::select(SENDERS.to_vec()))
}

fn any_packet() -> impl Strategy<Value = (Version, Sender, Packet)> {
    conversation()
        .prop_flat_map(|(version, sender)| (Just(version), Just(sender), packets::packet(version, sender)))
}

fn any_publish() -> impl Strategy<Value = (Version, Publish)> {
    prop::sample::select(VERSIONS.to_vec())
        .prop_flat_map(|version| (Just(version), packets::publish(version, Sender::Server)))
}

proptest! {
    #[test]
    fn every_packet_survives_the_wire((version, sender, packet) in any_packet()) {
        let mut buf = bytes(&packet, version);
        prop_assert_eq!(encoded_len(&packet, version), Ok(buf.len()));
        let mut decoder = decoder_for(&packet, version, sender);
        prop_assert_eq!(decoder.decode(&mut buf), Ok(Some(packet)));
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn a_prefix_is_not_a_packet_and_not_an_error((version, sender, packet) in any_packet()) {
        let whole = bytes(&packet, version);
        for len in 0..whole.len() {
            let mut buf = BytesMut::from(&whole[..len]);
            prop_assert_eq!(decoder_for(&packet, version, sender).decode(&mut buf), Ok(None));
            prop_assert_eq!(&buf[..], &whole[..len]);
        }
    }

    #[test]
    fn cutting_a_stream_changes_nothing(
        (version, sender, sent) in conversation().prop_flat_map(|(version, sender)| {
            let packet = packets::packet(version, sender)
                .prop_filter("one CONNECT", |packet| !matches!(packet, Packet::Connect(_)));
            (Just(version), Just(sender), prop::collection::vec(packet, 1..6))
        }),
        piece in 1_usize..50,
    ) {
        let mut stream = BytesMut::new();
        for packet in &sent {
            encode(packet, version, &mut stream).unwrap();
        }
        let decoder = decoder_for(&Packet::PingReq, version, sender);
        prop_assert_eq!(decode_all(decoder, &stream, piece), (sent, None));
    }

    #[test]
    fn a_truncated_body_is_refused_or_shorter((version, sender, packet) in any_packet()) {
        // The header claims less than there is: whatever else it is, it is not the same packet, and nothing panics.
        let whole = bytes(&packet, version);
        if (3..130).contains(&whole.len()) {
            let mut buf = whole.clone();
            buf.truncate(whole.len() - 1);
            buf[1] -= 1;
            let decoded = decoder_for(&packet, version, sender).decode(&mut buf);
            prop_assert_ne!(decoded, Ok(Some(packet)));
        }
    }

    #[test]
    fn an_answer_gives_up_explanations_to_fit((version, _, packet) in any_packet(), max in 0_u32..200) {
        let mut fitted = packet.clone();
        let before = encoded_len(&packet, version).unwrap();
        match fit(&mut fitted, version, max) {
            Ok(()) => {
                prop_assert!(encoded_len(&fitted, version).unwrap() <= max as usize);
                if before <= max as usize {
                    prop_assert_eq!(fitted, packet);
                }
            }
            Err(EncodeError::PacketTooLarge { size, .. }) => {
                prop_assert!(size > max as usize);
                prop_assert!(size <= before);
                prop_assert_eq!(encoded_len(&fitted, version), Ok(size));
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn a_template_writes_the_publish_of_each_delivery(
        (version, publish) in any_publish(),
        replace in any::<bool>(),
    ) {
        let template = PublishTemplate::new(&publish, version).unwrap();
        let properties = &publish.properties;
        let aliased = |alias| if replace { TopicAlias::Replace(alias) } else { TopicAlias::Introduce(alias) };
        let delivery = Delivery {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id,
            subscription_ids: &properties.subscription_ids,
            topic_alias: properties.topic_alias.map(aliased),
            message_expiry: properties.message_expiry,
        };
        let mut out = BytesMut::from("before");
        template.write(&delivery, &mut out).unwrap();
        let mut out = out.split_off("before".len());
        prop_assert_eq!(template.encoded_len(&delivery), Ok(out.len()));

        let mut expected = publish;
        if replace && expected.properties.topic_alias.is_some() {
            expected.topic = "".into();
        }
        let expected = Packet::Publish(expected);
        let mut decoder = decoder_for(&expected, version, Sender::Server);
        prop_assert_eq!(encoded_len(&expected, version), Ok(out.len()));
        prop_assert_eq!(decoder.decode(&mut out), Ok(Some(expected)));
    }

    #[test]
    fn properties_survive_the_journal((_, publish) in any_publish()) {
        let mut block = b"before".to_vec();
        encode_properties(&publish.properties, &mut block).unwrap();
        let expected = PublishProperties { topic_alias: None, ..publish.properties.into() };
        prop_assert_eq!(decode_properties(block.strip_prefix(b"before").unwrap()), Ok(expected.into()));
    }

    #[test]
    fn a_detached_publish_is_equal_and_elsewhere((version, publish) in any_publish()) {
        let mut buf = bytes(&Packet::Publish(publish.clone()), version);
        let read = buf.as_ptr_range();
        let mut decoder = decoder_for(&Packet::PingReq, version, Sender::Server);
        let Ok(Some(Packet::Publish(decoded))) = decoder.decode(&mut buf) else { unreachable!() };
        let detached = decoded.detached();
        prop_assert_eq!(&detached, &publish);

        let p = &detached.properties;
        let texts = [Some(&detached.topic), p.response_topic.as_ref(), p.content_type.as_ref()];
        let user = p.user.iter().flat_map(|(name, value)| [name, value]);
        let texts = texts.into_iter().flatten().chain(user).map(|text| text.as_bytes());
        for slice in texts.chain(&p.correlation_data).chain([&detached.payload]).filter(|slice| !slice.is_empty()) {
            prop_assert!(!read.contains(&slice.as_ptr()));
        }
    }
}

#[test]
fn decoding_copies_no_payload() {
    let publish = Publish { topic: "t".into(), payload: Bytes::from(vec![7; 1000]), ..Publish::default() };
    let mut buf = bytes(&Packet::Publish(publish), Version::V5);
    let read = buf.as_ptr_range();
    let mut decoder = decoder_for(&Packet::PingReq, Version::V5, Sender::Server);
    let Ok(Some(Packet::Publish(decoded))) = decoder.decode(&mut buf) else { unreachable!() };
    assert!(read.contains(&decoded.payload.as_ptr()));
    assert!(read.contains(&decoded.topic.as_bytes().as_ptr()));
}
