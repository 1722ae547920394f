//! The topic aliases that the broker uses towards one client, for one connection.

use std::{collections::HashMap, num::NonZeroU16};

use wardline_wire::TopicAlias;

/// Aliases used towards a client that takes more: what they cost the broker in memory is a topic each.
const ALIASES_MAX: u16 = 64;
/// Longer topics get none: with the aliases of a connection these bytes make 16 KiB, and not 4 MiB.
const ALIAS_TOPIC_BYTES_MAX: usize = 256;

/// The first topics that are sent get an alias each and keep it, until the client's maximum is used up. A replaced alias
/// would save little: what a client is sent often, it is sent early.
#[derive(Debug)]
pub(crate) struct Aliases {
    maximum: u16,
    by_topic: HashMap<Box<str>, NonZeroU16>,
}

impl Aliases {
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
