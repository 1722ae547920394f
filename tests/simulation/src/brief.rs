//! Packets in a few words, for the steps that are told of a seed that failed.

use std::fmt;

use wardline_wire::Packet;

use crate::model;

/// A packet, as short as it can be told.
pub(crate) struct Brief<'a>(pub(crate) &'a Packet);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Packet::Connect(connect) => {
                let clean = if connect.clean_start { ", clean" } else { "" };
                write!(f, "CONNECT {:?}{clean}", connect.version)?;
                match &connect.will {
                    Some(will) => write!(f, ", will {}", text(&will.payload)),
                    None => Ok(()),
                }
            }
            Packet::ConnAck(connack) => {
                write!(f, "CONNACK {:?}, session present: {}", connack.reason, connack.session_present)
            }
            Packet::Publish(publish) => {
                let number = model::number(&publish.payload, &publish.properties).ok();
                let (qos, id) = (publish.qos as u8, publish.packet_id.map_or(0, |id| id.0.get()));
                let dup = if publish.dup { ", DUP" } else { "" };
                let retain = if publish.retain { ", retain" } else { "" };
                write!(f, "PUBLISH {number:?} on {}, QoS {qos}, id {id}{dup}{retain}", publish.topic)
            }
            Packet::PubAck(ack) => write!(f, "PUBACK {} {:?}", ack.packet_id.0, ack.reason),
            Packet::PubRec(ack) => write!(f, "PUBREC {} {:?}", ack.packet_id.0, ack.reason),
            Packet::PubRel(ack) => write!(f, "PUBREL {}", ack.packet_id.0),
            Packet::PubComp(ack) => write!(f, "PUBCOMP {}", ack.packet_id.0),
            Packet::Subscribe(subscribe) => {
                let filters = subscribe.filters.iter().map(|wish| (&*wish.filter, wish.options.qos as u8));
                write!(f, "SUBSCRIBE {} {:?}", subscribe.packet_id.0, filters.collect::<Vec<_>>())
            }
            Packet::SubAck(ack) => write!(f, "SUBACK {} {:?}", ack.packet_id.0, ack.reasons),
            Packet::Unsubscribe(unsubscribe) => {
                write!(f, "UNSUBSCRIBE {} {:?}", unsubscribe.packet_id.0, unsubscribe.filters)
            }
            Packet::UnsubAck(ack) => write!(f, "UNSUBACK {} {:?}", ack.packet_id.0, ack.reasons),
            other => write!(f, "{other:?}"),
        }
    }
}

fn text(payload: &[u8]) -> &str {
    std::str::from_utf8(payload).unwrap_or_default().trim_end()
}
