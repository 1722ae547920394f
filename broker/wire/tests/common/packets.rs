//! Strategies for every packet that either end may send in each version.

use std::num::NonZeroU16;

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use wardline_wire::*;

/// Any packet that `sender` may send in `version`.
pub(crate) fn packet(version: Version, sender: Sender) -> BoxedStrategy<Packet> {
    let ack = |packet| ack(version, sender, packet);
    let both = prop_oneof![
        4 => publish(version, sender).prop_map(Packet::Publish),
        1 => ack(PacketType::PubAck).prop_map(Packet::PubAck),
        1 => ack(PacketType::PubRec).prop_map(Packet::PubRec),
        1 => ack(PacketType::PubRel).prop_map(Packet::PubRel),
        1 => ack(PacketType::PubComp).prop_map(Packet::PubComp),
    ];
    let v5 = version == Version::V5;
    match sender {
        Sender::Client => {
            let only = prop_oneof![
                2 => connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
                1 => subscribe(version).prop_map(Packet::Subscribe),
                1 => unsubscribe(version).prop_map(Packet::Unsubscribe),
                1 => Just(Packet::PingReq),
                1 => disconnect(version, sender).prop_map(Packet::Disconnect),
            ];
            if v5 {
                prop_oneof![both, only, auth(sender).prop_map(Packet::Auth)].boxed()
            } else {
                prop_oneof![both, only].boxed()
            }
        }
        Sender::Server => {
            let only = prop_oneof![
                2 => connack(version).prop_map(|connack| Packet::ConnAck(Box::new(connack))),
                1 => suback(version, PacketType::SubAck).prop_map(Packet::SubAck),
                1 => suback(version, PacketType::UnsubAck).prop_map(Packet::UnsubAck),
                1 => Just(Packet::PingResp),
            ];
            if v5 {
                let disconnect = disconnect(version, sender).prop_map(Packet::Disconnect);
                prop_oneof![both, only, disconnect, auth(sender).prop_map(Packet::Auth)].boxed()
            } else {
                prop_oneof![both, only].boxed()
            }
        }
    }
}

/// A publish that `sender` may send in `version`.
pub(crate) fn publish(version: Version, sender: Sender) -> impl Strategy<Value = Publish> {
    let properties = default_unless(version, publish_properties(sender));
    let head = (any::<bool>(), qos(), any::<bool>(), packet_id(), any::<bool>());
    (head, topic(), properties, data()).prop_map(
        |((dup, qos, retain, id, bare), topic, properties, payload)| {
            let above_0 = qos != QoS::AtMostOnce;
            let topic = if bare && properties.topic_alias.is_some() { ByteString::new() } else { topic };
            Publish {
                dup: dup && above_0,
                qos,
                retain,
                topic,
                packet_id: above_0.then_some(id),
                properties: properties.into(),
                payload,
            }
        },
    )
}

fn publish_properties(sender: Sender) -> impl Strategy<Value = PublishProperties> {
    let ids = match sender {
        Sender::Client => Just(Vec::new()).boxed(),
        Sender::Server => vec(subscription_id(), 0..4).boxed(),
    };
    let numbers = (of(0..=1_u8), of(any::<u32>()), of(any::<NonZeroU16>()), ids);
    (numbers, of(topic()), of(data()), user(), of(text())).prop_map(
        |(
            (payload_format, message_expiry, topic_alias, subscription_ids),
            response_topic,
            correlation_data,
            user,
            content_type,
        )| {
            PublishProperties {
                payload_format,
                message_expiry,
                topic_alias,
                response_topic,
                correlation_data,
                user,
                subscription_ids,
                content_type,
            }
        },
    )
}

fn connect(version: Version) -> impl Strategy<Value = Connect> {
    let numbers = (of(any::<u32>()), of(any::<NonZeroU16>()), of(1..=u32::MAX), of(any::<u16>()));
    let rest = (of(any::<bool>()), of(any::<bool>()), user(), of((text(), of(data()))));
    let properties = (numbers, rest).prop_map(|(numbers, (response, problem, user, authentication))| {
        let (authentication_method, authentication_data) = authentication.unzip();
        ConnectProperties {
            session_expiry: numbers.0,
            receive_maximum: numbers.1,
            maximum_packet_size: numbers.2,
            topic_alias_maximum: numbers.3,
            request_response_information: response,
            request_problem_information: problem,
            user,
            authentication_method,
            authentication_data: authentication_data.flatten(),
        }
    });
    let will = (
        topic(),
        data(),
        qos(),
        any::<bool>(),
        default_unless(version, of(any::<u32>())),
        default_unless(version, publish_properties(Sender::Client)),
    )
        .prop_map(|(topic, payload, qos, retain, delay, properties)| {
            let properties = PublishProperties { topic_alias: None, ..properties };
            Will { topic, payload, qos, retain, delay, properties }
        });
    let head = (any::<bool>(), any::<u16>(), text(), of(will), of(text()), of(data()));
    (head, default_unless(version, properties)).prop_map(
        move |((clean, keep_alive, client_id, will, username, password), properties)| {
            let named = !client_id.is_empty();
            let client_id = if named || version != Version::V31 { client_id } else { "c".into() };
            let clean_start = clean || (!named && version == Version::V311);
            let password = password.filter(|_| username.is_some() || version == Version::V5);
            Connect { version, clean_start, keep_alive, client_id, will, username, password, properties }
        },
    )
}

fn connack(version: Version) -> impl Strategy<Value = ConnAck> {
    let reason = match version {
        Version::V5 => reason(PacketType::ConnAck, Sender::Server),
        Version::V31 | Version::V311 => prop::sample::select(vec![
            ReasonCode::Success,
            ReasonCode::UnsupportedProtocolVersion,
            ReasonCode::ClientIdentifierNotValid,
            ReasonCode::ServerUnavailable,
            ReasonCode::BadUserNameOrPassword,
            ReasonCode::NotAuthorized,
        ])
        .boxed(),
    };
    let limits = (
        of(any::<u32>()),
        of(any::<NonZeroU16>()),
        of(any::<bool>()),
        of(1..=u32::MAX),
        of(any::<u16>()),
        of(any::<u16>()),
    );
    let offers = (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()), of(any::<bool>()));
    let texts = (of(text()), of(text()), user(), of(text()), of(text()), of((text(), of(data()))));
    let properties = (limits, offers, texts).prop_map(|(limits, offers, texts)| {
        let (authentication_method, authentication_data) = texts.5.unzip();
        ConnAckProperties {
            session_expiry: limits.0,
            receive_maximum: limits.1,
            maximum_qos: limits.2.map(|one| if one { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
            maximum_packet_size: limits.3,
            topic_alias_maximum: limits.4,
            server_keep_alive: limits.5,
            retain_available: offers.0,
            wildcard_subscription_available: offers.1,
            subscription_id_available: offers.2,
            shared_subscription_available: offers.3,
            assigned_client_id: texts.0,
            reason_string: texts.1,
            user: texts.2,
            response_information: texts.3,
            server_reference: texts.4,
            authentication_method,
            authentication_data: authentication_data.flatten(),
        }
    });
    (any::<bool>(), reason, default_unless(version, properties)).prop_map(
        move |(present, reason, properties)| {
            let session_present = present && reason == ReasonCode::Success && version != Version::V31;
            ConnAck { session_present, reason, properties }
        },
    )
}

fn ack(version: Version, sender: Sender, packet: PacketType) -> impl Strategy<Value = Ack> {
    let reason = match version {
        Version::V5 => reason(packet, sender),
        Version::V31 | Version::V311 => Just(ReasonCode::Success).boxed(),
    };
    (packet_id(), reason, diagnostics(version)).prop_map(|(packet_id, reason, (reason_string, user))| Ack {
        packet_id,
        reason,
        reason_string,
        user,
    })
}

fn suback(version: Version, packet: PacketType) -> impl Strategy<Value = SubAck> {
    use ReasonCode::{GrantedQoS1, GrantedQoS2, Success, UnspecifiedError};
    let reasons = match (version, packet) {
        (Version::V5, _) => vec(reason(packet, Sender::Server), 1..5).boxed(),
        (_, PacketType::UnsubAck) => Just(Vec::new()).boxed(),
        _ => {
            vec(prop::sample::select(vec![Success, GrantedQoS1, GrantedQoS2, UnspecifiedError]), 1..5).boxed()
        }
    };
    (packet_id(), reasons, diagnostics(version)).prop_map(|(packet_id, reasons, (reason_string, user))| {
        SubAck { packet_id, reason_string, user, reasons }
    })
}

fn subscribe(version: Version) -> impl Strategy<Value = Subscribe> {
    let handling = prop::sample::select(vec![
        RetainHandling::Send,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ]);
    let options = default_unless(version, (any::<bool>(), any::<bool>(), handling));
    let filter = (filter(), qos(), options).prop_map(
        |(filter, qos, (no_local, retain_as_published, retain_handling))| {
            let no_local = no_local && topic::Shared::parse(&filter).is_none();
            SubscribeFilter {
                filter,
                options: SubscribeOptions { qos, no_local, retain_as_published, retain_handling },
            }
        },
    );
    (
        packet_id(),
        default_unless(version, of(subscription_id())),
        default_unless(version, user()),
        vec(filter, 1..5),
    )
        .prop_map(|(packet_id, subscription_id, user, filters)| Subscribe {
            packet_id,
            subscription_id,
            user,
            filters,
        })
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Unsubscribe> {
    (packet_id(), default_unless(version, user()), vec(filter(), 1..5))
        .prop_map(|(packet_id, user, filters)| Unsubscribe { packet_id, user, filters })
}

fn disconnect(version: Version, sender: Sender) -> BoxedStrategy<Disconnect> {
    let bare = Disconnect {
        reason: ReasonCode::Success,
        session_expiry: None,
        reason_string: None,
        user: UserProperties::new(),
        server_reference: None,
    };
    if version != Version::V5 {
        return Just(bare).boxed();
    }
    (reason(PacketType::Disconnect, sender), of(any::<u32>()), diagnostics(version), of(text()))
        .prop_map(move |(reason, session_expiry, (reason_string, user), server_reference)| {
            let session_expiry = session_expiry.filter(|_| sender == Sender::Client);
            Disconnect { reason, session_expiry, reason_string, user, server_reference }
        })
        .boxed()
}

fn auth(sender: Sender) -> impl Strategy<Value = Auth> {
    (reason(PacketType::Auth, sender), text(), of(data()), diagnostics(Version::V5)).prop_map(
        |(reason, method, data, (reason_string, user))| Auth {
            reason,
            method: Some(method),
            data,
            reason_string,
            user,
        },
    )
}

fn reason(packet: PacketType, sender: Sender) -> BoxedStrategy<ReasonCode> {
    let allowed: Vec<_> = (0..=u8::MAX)
        .filter_map(ReasonCode::from_u8)
        .filter(|reason| reason.allowed_in(packet, sender))
        .collect();
    // Success is what changes the layout.
    let often = *allowed.first().unwrap();
    prop_oneof![1 => Just(often), 2 => prop::sample::select(allowed)].boxed()
}

fn diagnostics(version: Version) -> impl Strategy<Value = (Option<ByteString>, UserProperties)> {
    default_unless(version, (weighted(0.3, text()), user()))
}

/// What only MQTT 5 has.
fn default_unless<T: Default + Clone + std::fmt::Debug + 'static>(
    version: Version,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    match version {
        Version::V5 => prop_oneof![1 => Just(T::default()), 3 => strategy].boxed(),
        Version::V31 | Version::V311 => Just(T::default()).boxed(),
    }
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<NonZeroU16>().prop_map(PacketId)
}

fn subscription_id() -> impl Strategy<Value = u32> {
    prop_oneof![1..=300_u32, 1..=VARIABLE_INTEGER_MAX, Just(VARIABLE_INTEGER_MAX)]
}

fn text() -> impl Strategy<Value = ByteString> {
    "[a-zé☃𝄞+# ]{0,9}".prop_map(ByteString::from)
}

fn user() -> impl Strategy<Value = UserProperties> {
    vec((text(), text()), 0..3)
}

fn data() -> impl Strategy<Value = Bytes> {
    // Around 128 the lengths take another byte.
    prop_oneof![vec(any::<u8>(), 0..12), vec(any::<u8>(), 100..140)].prop_map(Bytes::from)
}

fn topic() -> impl Strategy<Value = ByteString> {
    r"\$?[a-zé☃]{1,5}(/[a-z0-9]{0,4}){0,3}|/".prop_map(ByteString::from)
}

fn filter() -> impl Strategy<Value = ByteString> {
    r"(\$share/[a-z]{1,4}/)?([a-zé]{1,4}|\+)(/([a-z]{0,4}|\+)){0,3}(/#)?|#".prop_map(ByteString::from)
}
