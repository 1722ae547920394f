//! An accepted publish, shared by everybody who is owed it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use wardline_journal::Offset;
use wardline_wire::{Publish, PublishTemplate, Version, decode_properties};

use crate::{recover::RecoverError, state};

/// What principals of plugins begin with.
const PLUGIN_PREFIX: &str = "plugin:";
/// What topics of alerts on their way to pagers begin with.
const ALERT_PREFIX: &str = "alerts/";

/// Which queue of a session a publish waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Sent first, never shed.
    Alert,
    /// Everything else.
    Telemetry,
}

/// An accepted publish. Its packets are encoded once for each protocol version and shared by all subscribers.
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
    /// Client that published it; empty for the node and its plugins.
    pub client: Arc<str>,
    /// Principal that published it.
    pub principal: Arc<str>,
    v5: OnceLock<Option<PublishTemplate>>,
    v3: OnceLock<Option<PublishTemplate>>,
}

impl Stored {
    pub(crate) fn new(
        offset: Option<Offset>,
        received_at: Timestamp,
        publish: Publish,
        client: Arc<str>,
        principal: Arc<str>,
    ) -> Self {
        let expires_at = publish
            .properties
            .message_expiry
            .and_then(|seconds| received_at.checked_add(std::time::Duration::from_secs(seconds.into())).ok());
        Self {
            offset,
            received_at,
            expires_at,
            publish,
            client,
            principal,
            v5: OnceLock::new(),
            v3: OnceLock::new(),
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
        Ok(Self::new(Some(offset), record.received_at, publish.detached(), client, principal))
    }

    /// What it counts for against quotas.
    pub(crate) fn bytes(&self) -> u32 {
        bytes(&self.publish)
    }

    /// `None`: it cannot be said in this version, as properties beyond what a packet holds.
    pub(crate) fn template(&self, version: Version) -> Option<&PublishTemplate> {
        let cell = if version == Version::V5 { &self.v5 } else { &self.v3 };
        cell.get_or_init(|| PublishTemplate::new(&self.publish, version).ok()).as_ref()
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
        if !self.principal.starts_with(PLUGIN_PREFIX) || !self.publish.topic.starts_with(ALERT_PREFIX) {
            return None;
        }
        self.publish.properties.correlation_data.as_deref().and_then(|id| std::str::from_utf8(id).ok())
    }
}

/// What a publish counts for against quotas: topic, payload and properties, and a fixed share for what it is kept in.
pub(crate) fn bytes(publish: &Publish) -> u32 {
    const FIXED_BYTES: usize = 256;
    let properties = &publish.properties;
    let user = properties.user.iter().map(|(name, value)| name.len() + value.len());
    let texts = [&properties.response_topic, &properties.content_type].into_iter().flatten();
    let bytes = FIXED_BYTES
        + publish.topic.len()
        + publish.payload.len()
        + properties.correlation_data.as_ref().map_or(0, Bytes::len)
        + user.chain(texts.map(|text| text.len())).sum::<usize>();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
