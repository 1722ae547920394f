//! The topic aliases of one connection: those that the client uses, and those that the broker uses towards it.

use std::{collections::HashMap, num::NonZeroU16};

use bytestring::ByteString;
use wardline_wire::{ReasonCode, TopicAlias};

/// Aliases used towards a client that takes more: what they cost the broker in memory is a topic each.
const ALIASES_MAX: u16 = 64;
/// Longer topics get none: with the aliases of a connection these bytes make 16 KiB, and not 4 MiB.
const ALIAS_TOPIC_BYTES_MAX: usize = 256;

/// Topics of the client's aliases, alias 1 first.
#[derive(Debug, Default)]
pub(crate) struct AliasesReceived(Vec<Option<ByteString>>);

impl AliasesReceived {
    /// The topic behind an alias, which is defined first if the publish names both.
    ///
    /// # Errors
    /// The reason to disconnect with [3.3.2.3.4].
    pub(crate) fn resolve(
        &mut self,
        alias: NonZeroU16,
        topic: &ByteString,
        maximum: u16,
    ) -> Result<ByteString, ReasonCode> {
        // Everything up to the maximum is taken [MQTT-3.3.2-12].
        if alias.get() > maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let index = usize::from(alias.get()) - 1;
        if topic.is_empty() {
            return self.0.get(index).cloned().flatten().ok_or(ReasonCode::ProtocolError);
        }
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        // A copy: the alias outlives the read buffer that the topic is a slice of.
        self.0[index] = Some(ByteString::from(String::from(&**topic)));
        Ok(topic.clone())
    }
}

/// The first topics that are sent get an alias each and keep it, until the client's maximum is used up. A replaced alias
/// would save little: what a client is sent often, it is sent early.
#[derive(Debug)]
pub(crate) struct AliasesSent {
    maximum: u16,
    by_topic: HashMap<Box<str>, NonZeroU16>,
}

impl AliasesSent {
    /// `client_maximum` is the Topic Alias Maximum of the CONNECT, 0 if it has none [MQTT-3.1.2-26] [MQTT-3.1.2-27]
    /// [MQTT-3.3.2-11].
    pub(crate) fn new(client_maximum: u16) -> Self {
        Self { maximum: client_maximum.min(ALIASES_MAX), by_topic: HashMap::new() }
    }

    /// What a publish on `topic` may carry; nothing changes before [`Self::sent`].
    pub(crate) fn find(&self, topic: &str) -> Option<TopicAlias> {
        if self.maximum == 0 || topic.len() > ALIAS_TOPIC_BYTES_MAX {
            return None;
        }
        if let Some(&alias) = self.by_topic.get(topic) {
            return Some(TopicAlias::Replace(alias));
        }
        let used = u16::try_from(self.by_topic.len()).ok().filter(|used| *used < self.maximum)?;
        NonZeroU16::new(used + 1).map(TopicAlias::Introduce)
    }

    /// A publish on `topic` has been written with this alias, so that the client will know it.
    pub(crate) fn sent(&mut self, topic: &str, alias: TopicAlias) {
        if let TopicAlias::Introduce(alias) = alias {
            self.by_topic.insert(topic.into(), alias);
        }
    }
}
