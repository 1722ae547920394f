//! How full queues are: what waits for a session or a shared subscription, beside the quota that each of them has.

use std::sync::Arc;

use crate::{broker::Broker, limits::Limits};

/// QoS 1 and 2 telemetry that waits for one session, or for one shared subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The client, or the shared subscription as its members subscribed.
    pub name: Arc<str>,
    /// How many publishes.
    pub messages: usize,
    /// Bytes of them: topics, payloads and properties.
    pub bytes: usize,
}

impl Queue {
    /// How much of [`Limits::queued_messages_max`] it takes; 1 is all of it.
    pub fn messages_share(&self, limits: &Limits) -> f64 {
        share(self.messages, limits.queued_messages_max)
    }

    /// How much of [`Limits::queued_bytes_max`] it takes; 1 is all of it.
    pub fn bytes_share(&self, limits: &Limits) -> f64 {
        share(self.bytes, limits.queued_bytes_max)
    }
}

/// The queues at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// The one that takes most of either quota; `None` while nothing waits.
    pub fullest: Option<Queue>,
    /// Publishes that went because a queue was full, since the start.
    pub overflowed: u64,
    /// Whom the last of them was for, by the name of its [`Queue`].
    pub overflowed_last: Option<Arc<str>>,
}

/// What went because a queue was full. Less than [`crate::Counters::overflowed`], which has what went for the journal's
/// room, too.
#[derive(Debug, Default)]
pub(crate) struct Overflow {
    count: u64,
    last: Option<Arc<str>>,
}

impl Overflow {
    /// So many publishes went from the queue of this name.
    pub(crate) fn add(&mut self, count: u64, name: &Arc<str>) {
        if count > 0 {
            self.count += count;
            self.last = Some(Arc::clone(name));
        }
    }
}

impl<L> Broker<L> {
    /// How full the queues are. Looks at every session and every shared subscription.
    pub fn queues(&self) -> Queues {
        let sessions =
            self.sessions.iter().map(|(_, session)| (&session.client, session.lanes.telemetry_waiting()));
        let waiting =
            sessions.chain(self.groups.telemetry_waiting()).filter(|(_, (messages, _))| *messages > 0);
        let weighed = waiting.map(|(name, (messages, bytes))| {
            let by_messages = share(messages, self.limits.queued_messages_max);
            (by_messages.max(share(bytes, self.limits.queued_bytes_max)), name, messages, bytes)
        });
        let fullest = weighed.max_by(|(one, ..), (other, ..)| one.total_cmp(other));
        Queues {
            fullest: fullest.map(|(_, name, messages, bytes)| Queue {
                name: Arc::clone(name),
                messages,
                bytes,
            }),
            overflowed: self.overflow.count,
            overflowed_last: self.overflow.last.clone(),
        }
    }
}

fn share(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}
