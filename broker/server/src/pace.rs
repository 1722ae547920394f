//! How fast one client is heard.

use tokio::time::Instant;
use wardline_core::Limit;
use wardline_wire::Packet;

use crate::{bucket::Bucket, config::ListenerLimits};

/// Counts what a client sends against its rates. It takes nothing away and refuses nothing: whoever reads from the client
/// rests as long as it says, and TCP slows the client down.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    publishes: Option<Bucket>,
    bytes: Option<Bucket>,
    /// The end of a rest that is not for the client's rates.
    paused: Option<Instant>,
}

/// A rest, and which rate it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// When it ends.
    pub until: Instant,
    /// The rate that is used up, if it is for one.
    pub limit: Option<Limit>,
}

impl Pace {
    /// Of a client that has sent nothing yet.
    pub fn new(limits: &ListenerLimits, now: Instant) -> Self {
        let bucket = |rate| Bucket::new(rate, now);
        Self {
            publishes: limits.publishes_per_second.map(bucket),
            bytes: limits.bytes_per_second.map(bucket),
            paused: None,
        }
    }

    /// The client has sent a packet of so many bytes.
    pub fn heard(&mut self, packet: &Packet, bytes: usize, now: Instant) {
        if let Some(publishes) = self.publishes.as_mut().filter(|_| matches!(packet, Packet::Publish(_))) {
            publishes.take(1, now);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes as u64, now);
        }
    }

    /// Nothing more is to be taken from the client until then, whatever its rates say.
    pub fn pause(&mut self, until: Instant) {
        self.paused = Some(until);
    }

    /// Until when nothing more is to be taken from the client; `None`: it may be heard.
    pub fn rest(&self, now: Instant) -> Option<Rest> {
        let rest = |bucket: &Option<Bucket>, limit| {
            let time = bucket.as_ref()?.wait(now);
            (!time.is_zero()).then_some(Rest { until: now + time, limit: Some(limit) })
        };
        let publishes = rest(&self.publishes, Limit::PublishesPerSecond);
        let bytes = rest(&self.bytes, Limit::BytesPerSecond);
        let paused = self.paused.filter(|until| *until > now).map(|until| Rest { until, limit: None });
        [publishes, bytes, paused].into_iter().flatten().max_by_key(|rest| rest.until)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use wardline_wire::Publish;

    use super::*;

    fn pace(publishes: u32, bytes: u32) -> (Pace, Instant) {
        let now = Instant::now();
        let limits = ListenerLimits {
            publishes_per_second: NonZeroU32::new(publishes),
            bytes_per_second: NonZeroU32::new(bytes),
            ..ListenerLimits::default()
        };
        (Pace::new(&limits, now), now)
    }

    #[test]
    fn without_rates_nobody_rests() {
        let (mut pace, now) = pace(0, 0);
        (0..100_000).for_each(|_| pace.heard(&Packet::Publish(Publish::default()), 100_000, now));
        assert_eq!(pace.rest(now), None);
    }

    #[test]
    fn only_publishes_are_counted_as_such_and_every_byte() {
        let (mut pace, now) = pace(2, 100);
        (0..9).for_each(|_| pace.heard(&Packet::PingReq, 2, now));
        assert_eq!(pace.rest(now), None);
        (0..2).for_each(|_| pace.heard(&Packet::Publish(Publish::default()), 10, now));
        let until = now + Duration::from_millis(500);
        let rest = Some(Rest { until, limit: Some(Limit::PublishesPerSecond) });
        assert_eq!(pace.rest(now), rest);
        assert_eq!(pace.rest(now + Duration::from_millis(499)), rest, "however often it is asked");
        pace.heard(&Packet::PingReq, 161, now);
        let until = now + Duration::from_secs(1);
        assert_eq!(pace.rest(now), Some(Rest { until, limit: Some(Limit::BytesPerSecond) }));
        assert_eq!(pace.rest(until), None);
    }

    #[test]
    fn a_pause_ends_by_itself_and_is_for_no_rate() {
        let (mut pace, now) = pace(0, 0);
        let until = now + Duration::from_millis(250);
        pace.pause(until);
        assert_eq!(pace.rest(now), Some(Rest { until, limit: None }));
        assert_eq!(pace.rest(until), None);
    }
}
