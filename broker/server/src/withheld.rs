//! Telemetry of one client that was read while there is no room for it: it waits here, and what came behind it passes, so that
//! the client's alerts, confirmations and pings are heard. Beyond a limit the client is read no more.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use wardline_wire::{Packet, Publish};

/// How long it waits before it is looked at again.
pub const WITHHELD_PAUSE: Duration = Duration::from_millis(250);
/// So much of it waits at most, in bytes of packets, and one of any size.
const BYTES_MAX: usize = 64 * 1_024;
/// So many publishes at most.
const PACKETS_MAX: usize = 256;

/// In the order in which it came. Nothing, as nearly always, takes nearly no room.
#[derive(Debug, Default)]
pub struct Withheld(Option<Box<Waiting>>);

#[derive(Debug)]
struct Waiting {
    packets: VecDeque<(Packet, usize)>,
    bytes: usize,
    /// The last one gives a topic alias its meaning, or uses it: nothing may pass it.
    last: bool,
    again: Instant,
}

impl Withheld {
    /// Whether nothing more is to be read.
    pub fn is_full(&self) -> bool {
        let full = |waiting: &Waiting| {
            waiting.last || waiting.bytes >= BYTES_MAX || waiting.packets.len() >= PACKETS_MAX
        };
        self.0.as_deref().is_some_and(full)
    }

    /// Puts a publish, which is `bytes` long, behind the others; asked for again from [`WITHHELD_PAUSE`] after `now` on. Kept is
    /// a copy, not the buffer it was read into.
    pub fn push(&mut self, publish: &Publish, bytes: usize, now: Instant) {
        let waiting = self.0.get_or_insert_with(|| {
            Box::new(Waiting { packets: VecDeque::new(), bytes: 0, last: false, again: now })
        });
        waiting.last = publish.properties.topic_alias.is_some();
        waiting.bytes += bytes;
        waiting.packets.push_back((Packet::Publish(publish.detached()), bytes));
        self.wait(now);
    }

    /// Takes out the first.
    pub fn pop(&mut self) -> Option<(Packet, usize)> {
        let waiting = self.0.as_deref_mut()?;
        let (packet, bytes) = waiting.packets.pop_front()?;
        waiting.bytes -= bytes;
        if waiting.packets.is_empty() {
            self.0 = None;
        }
        Some((packet, bytes))
    }

    /// There is still no room.
    pub fn wait(&mut self, now: Instant) {
        if let Some(waiting) = &mut self.0 {
            waiting.again = now + WITHHELD_PAUSE;
        }
    }

    /// When it is to be looked at again; `None` while nothing waits.
    pub fn again(&self) -> Option<Instant> {
        self.0.as_deref().map(|waiting| waiting.again)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use wardline_wire::PublishProperties;

    use super::*;

    fn publish(topic: &str) -> Publish {
        Publish { topic: topic.into(), ..Publish::default() }
    }

    #[test]
    fn what_waits_keeps_its_order_and_has_a_limit() {
        let now = Instant::now();
        let mut withheld = Withheld::default();
        assert_eq!(withheld.again(), None);
        for (topic, is_full) in [("a", false), ("b", true)] {
            withheld.push(&publish(topic), BYTES_MAX / 2, now);
            assert_eq!((withheld.is_full(), withheld.again()), (is_full, Some(now + WITHHELD_PAUSE)));
        }
        for topic in ["a", "b"] {
            let popped = withheld.pop();
            assert!(
                matches!(&popped, Some((Packet::Publish(found), _)) if found.topic == *topic),
                "{popped:?}"
            );
            assert!(!withheld.is_full());
        }
        assert_eq!((withheld.pop().is_none(), withheld.again()), (true, None));
        (0..PACKETS_MAX).for_each(|_| withheld.push(&publish("t"), 2, now));
        assert!(withheld.is_full());
    }

    #[test]
    fn nothing_passes_a_topic_alias() {
        let mut withheld = Withheld::default();
        let properties =
            PublishProperties { topic_alias: NonZeroU16::new(1), ..PublishProperties::default() };
        withheld.push(&Publish { properties: properties.into(), ..publish("t") }, 10, Instant::now());
        assert!(withheld.is_full());
        withheld.pop();
        assert!(!withheld.is_full());
    }
}
