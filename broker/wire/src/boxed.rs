//! The properties of a publish where there are any, nothing where there are none.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::{Deref, DerefMut};

use crate::PublishProperties;

/// The properties of a publish, in memory of their own. Most publishes have none and so are moved, cloned and dropped without them.
/// Read as the [`PublishProperties`] that they are, or as those that have nothing set; they get their memory when written to.
#[derive(Clone, Default)]
pub struct BoxedProperties(Option<Box<PublishProperties>>);

static NONE: PublishProperties = PublishProperties {
    payload_format: None,
    message_expiry: None,
    topic_alias: None,
    response_topic: None,
    correlation_data: None,
    user: Vec::new(),
    subscription_ids: Vec::new(),
    content_type: None,
};

impl BoxedProperties {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.as_deref().is_none_or(|properties| *properties == NONE)
    }

    /// Takes the topic alias out. Needs no memory for it, as writing to `topic_alias` would.
    pub fn take_topic_alias(&mut self) -> Option<NonZeroU16> {
        self.0.as_mut()?.topic_alias.take()
    }
}

impl From<PublishProperties> for BoxedProperties {
    fn from(properties: PublishProperties) -> Self {
        Self((properties != NONE).then(|| Box::new(properties)))
    }
}

impl From<BoxedProperties> for PublishProperties {
    fn from(properties: BoxedProperties) -> Self {
        properties.0.map(|properties| *properties).unwrap_or_default()
    }
}

impl Deref for BoxedProperties {
    type Target = PublishProperties;

    fn deref(&self) -> &PublishProperties {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for BoxedProperties {
    fn deref_mut(&mut self) -> &mut PublishProperties {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for BoxedProperties {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for BoxedProperties {}

impl fmt::Debug for BoxedProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Publish;

    #[test]
    fn what_is_not_set_takes_no_memory() {
        let unset = [BoxedProperties::default(), PublishProperties::default().into()];
        for mut unset in unset {
            assert_eq!(*unset, PublishProperties::default());
            assert_eq!(unset.take_topic_alias(), None);
            assert!(unset.0.is_none());
        }
        assert!(size_of::<Publish>() <= 80, "{}", size_of::<Publish>());
    }

    #[test]
    fn an_alias_that_is_taken_leaves_the_rest() {
        let alias = NonZeroU16::new(7);
        let rest = PublishProperties { message_expiry: Some(1), ..PublishProperties::default() };
        for rest in [PublishProperties::default(), rest] {
            let mut boxed: BoxedProperties = PublishProperties { topic_alias: alias, ..rest.clone() }.into();
            assert_eq!(boxed.take_topic_alias(), alias);
            assert_eq!(boxed.is_empty(), rest == PublishProperties::default());
            assert_eq!(boxed, rest.into());
            assert_eq!(boxed.take_topic_alias(), None);
        }
    }
}
