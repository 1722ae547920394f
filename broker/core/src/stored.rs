//! An accepted publish, shared by everybody who is owed it.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use jiff::Timestamp;
use wardline_journal::Offset;
use wardline_wire::{
    BoxedProperties, Delivery, Publish, PublishFrame, PublishTemplate, Version, decode_properties,
};

use crate::{recover::RecoverError, source::Source, state};

/// What principals of plugins begin with.
const PLUGIN_PREFIX: &str = "plugin:";
/// What topics of alerts on their way to pagers begin with.
const ALERT_PREFIX: &str = "alerts/";

/// Bytes of a payload that is copied into a frame. With a larger one it is the copying that costs, and the memory.
const FRAME_PAYLOAD_MAX: usize = 4_096;

/// Which queue of a session a publish waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Sent first, never shed.
    Alert,
    /// Everything else.
    Telemetry,
}

/// An accepted publish. For several subscribers its packet is encoded once for each protocol version.
#[derive(Debug)]
pub struct Stored {
    /// Its place in the journal; `None` for the node's own counters, which are not recorded.
    pub offset: Option<Offset>,
    /// When the broker had read it.
    pub received_at: Timestamp,
    /// After this it is not delivered any more.
    pub expires_at: Option<Timestamp>,
    /// The message: topic resolved, detached from the read buffer.
    pub publish: Publish,
    /// Who published it.
    pub source: Arc<Source>,
    /// What it counts for against quotas.
    pub(crate) bytes: u32,
    /// It may be an alert on its way to a pager.
    to_pager: bool,
    v5: Frame,
    v3: Frame,
}

/// What most of several subscribers get; `None`: it cannot be said in this version, as properties beyond what a packet holds.
type Frame = OnceLock<Option<Box<PublishFrame>>>;

impl Stored {
    pub(crate) fn new(
        offset: Option<Offset>,
        received_at: Timestamp,
        publish: Publish,
        source: Arc<Source>,
    ) -> Self {
        let expires_at = publish
            .properties
            .message_expiry
            .and_then(|seconds| received_at.checked_add(std::time::Duration::from_secs(seconds.into())).ok());
        Self {
            offset,
            received_at,
            expires_at,
            bytes: bytes(&publish),
            to_pager: source.principal.starts_with(PLUGIN_PREFIX) && publish.topic.starts_with(ALERT_PREFIX),
            publish,
            source,
            v5: Frame::new(),
            v3: Frame::new(),
        }
    }

    /// The publish that the journal has at `offset`.
    ///
    /// # Errors
    /// What this version does not understand.
    pub fn read(offset: Offset, record: &wardline_journal::Publish<'_>) -> Result<Self, RecoverError> {
        let qos = state::qos(record.qos).ok_or(RecoverError { offset, what: "QoS of a publish" })?;
        let properties = decode_properties(record.properties)
            .map_err(|_| RecoverError { offset, what: "properties of a publish" })?;
        let publish = Publish {
            dup: false,
            qos,
            retain: record.retain,
            topic: ByteString::from(record.topic),
            packet_id: None,
            properties,
            payload: Bytes::copy_from_slice(record.payload),
        };
        let (client, principal) = (record.origin.client.into(), record.origin.principal.into());
        let source = Arc::new(Source { client, principal, ..Source::default() });
        Ok(Self::new(Some(offset), record.received_at, publish, source))
    }

    /// Appends the packet of a delivery, unless it cannot be said in this version or takes more than `bytes_max`.
    pub(crate) fn write(
        self: &Arc<Self>,
        version: Version,
        delivery: &Delivery<'_>,
        bytes_max: u32,
        out: &mut BytesMut,
    ) -> bool {
        let takes = |length: usize| bytes_max == u32::MAX || length <= bytes_max as usize;
        if let Some(frame) = self.frame(version, delivery) {
            return takes(frame.encoded_len())
                && frame.write(delivery.dup, delivery.retain, delivery.packet_id, out).is_ok();
        }
        let Ok(template) = PublishTemplate::new(&self.publish, version) else { return false };
        let fits = bytes_max == u32::MAX || template.encoded_len(delivery).is_ok_and(takes);
        fits && template.write(delivery, out).is_ok()
    }

    /// The frame for a delivery without properties of its own. For the last subscriber it would not be worth making.
    fn frame(self: &Arc<Self>, version: Version, delivery: &Delivery<'_>) -> Option<&PublishFrame> {
        if delivery.has_properties() {
            return None;
        }
        let frame = if version == Version::V5 { &self.v5 } else { &self.v3 };
        let made = match frame.get() {
            None if self.publish.payload.len() <= FRAME_PAYLOAD_MAX && self.is_owed_to_others() => frame
                .get_or_init(|| {
                    let template = PublishTemplate::new(&self.publish, version).ok()?;
                    PublishFrame::new(&template, delivery.qos).ok().map(Box::new)
                }),
            made => made?,
        };
        made.as_deref().filter(|frame| frame.qos() == delivery.qos)
    }

    /// Whether, beside whoever holds it now, others do who will be sent it. What is retained is held for that too.
    fn is_owed_to_others(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 + usize::from(self.publish.retain)
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Seconds left, as the message expiry to send on [MQTT-3.3.2-6].
    pub(crate) fn expiry_left(&self, now: Timestamp) -> Option<u32> {
        self.expires_at.map(|expires_at| {
            let left = u64::try_from(expires_at.as_microsecond().saturating_sub(now.as_microsecond()));
            u32::try_from(left.unwrap_or(0).div_ceil(1_000_000)).unwrap_or(u32::MAX)
        })
    }

    /// The alert this publish carries to a pager, if its way is followed by receipts.
    pub(crate) fn alert(&self) -> Option<&str> {
        if !self.to_pager {
            return None;
        }
        self.publish.properties.correlation_data.as_deref().and_then(|id| std::str::from_utf8(id).ok())
    }
}

/// What a publish counts for against quotas: topic, payload and properties, and a fixed share for what it is kept in.
pub(crate) fn bytes(publish: &Publish) -> u32 {
    const FIXED_BYTES: usize = 256;
    let bytes =
        FIXED_BYTES + publish.topic.len() + publish.payload.len() + properties_bytes(&publish.properties);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn properties_bytes(properties: &BoxedProperties) -> usize {
    if properties.is_empty() {
        return 0;
    }
    let user = properties.user.iter().map(|(name, value)| name.len() + value.len());
    let texts = [&properties.response_topic, &properties.content_type].into_iter().flatten();
    properties.correlation_data.as_ref().map_or(0, Bytes::len)
        + user.chain(texts.map(|text| text.len())).sum::<usize>()
}
