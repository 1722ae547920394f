//! What the plugins are shown, and what they say to it, under the node's lock.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use wardline_core::Event;
use wardline_journal::DeliveryStep;
use wardline_plugin_api::{Message, Output, Receipt, ReceiptStep};
use wardline_wire::{Publish, PublishProperties, QoS};

use super::Inner;

/// Rounds of publishes that plugins may answer one publish with. A plugin that answers itself without end is cut here.
const PLUGIN_ROUNDS_MAX: usize = 64;

impl Inner {
    /// Publishes what the plugins said, shows them what happened, and so on until nothing follows.
    pub(super) fn settle(&mut self, node: u16, now: Timestamp) {
        for _ in 0..PLUGIN_ROUNDS_MAX {
            for (plugin, output) in std::mem::take(&mut self.outputs) {
                self.publish_output(plugin, output, now);
            }
            let mut events = std::mem::take(&mut self.events);
            self.broker.take_events(&mut events);
            if events.is_empty() {
                self.events = events;
                return;
            }
            for event in events.drain(..) {
                self.show(node, &event, now);
            }
            self.events = events;
        }
        tracing::error!(
            "plugins kept answering each other for {PLUGIN_ROUNDS_MAX} rounds; the rest was cut off"
        );
        self.outputs.clear();
    }

    pub(super) fn publish_output(&mut self, plugin: usize, output: Output, now: Timestamp) {
        let Some(principal) = self.principals.get(plugin).map(Arc::clone) else { return };
        self.broker.publish(principal, &to_publish(output), now);
    }

    /// Shows one event to the plugins.
    pub(super) fn show(&mut self, node: u16, event: &Event, now: Timestamp) {
        match event {
            Event::Published(stored) => {
                let Some(offset) = stored.offset else { return };
                let message = Message {
                    node,
                    offset: offset.0,
                    topic: &stored.publish.topic,
                    payload: &stored.publish.payload,
                    principal: &stored.source.principal,
                };
                self.host.message(&message, now, &mut self.outputs);
            }
            Event::Receipt { topic, alert, step, principal } => {
                let step = match step {
                    DeliveryStep::Sent => ReceiptStep::Sent,
                    DeliveryStep::Confirmed => ReceiptStep::Confirmed,
                    DeliveryStep::Unreachable => ReceiptStep::Unreachable,
                };
                self.host.receipt(&Receipt { topic, alert, step, principal }, now, &mut self.outputs);
            }
        }
    }
}

fn to_publish(output: Output) -> Publish {
    let qos = match output.qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    Publish {
        qos,
        retain: output.retain,
        topic: ByteString::from(output.topic),
        payload: Bytes::from(output.payload),
        properties: PublishProperties {
            content_type: output.content_type.map(ByteString::from_static),
            response_topic: output.response_topic.map(ByteString::from),
            correlation_data: output.correlation.map(Bytes::from),
            ..PublishProperties::default()
        }
        .into(),
        ..Publish::default()
    }
}
