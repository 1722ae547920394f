//! Keeps an eye on the queues of sessions and shared subscriptions, and tells well before the quota of one is used up.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use wardline_core::{Limits, Queue, QueueFull, Queues};

use crate::{alarms::Priority, node::Node, status::Size};

/// How often it is looked, at every session, under the node's lock.
const INTERVAL: Duration = Duration::from_secs(5);
/// Share of a quota from which on somebody should look.
const ADVISORY_SHARE: f64 = 0.75;
/// An alarm ends below it: a subscriber that reads slowly is not to have it flap.
const END_SHARE: f64 = 0.70;
const _: () = assert!(END_SHARE < ADVISORY_SHARE && ADVISORY_SHARE < 1.0, "steps must not overlap");
/// What overflowed is told of for so long.
const WINDOW: Duration = Duration::from_secs(60);
/// Overflows closer together are counted as one.
const RESOLUTION: Duration = Duration::from_secs(1);
/// Characters of a client's name in a text for people: it may have chosen a very long one.
const NAME_CHARS_MAX: usize = 100;

/// Looks until the task ends.
pub async fn run(node: Arc<Node>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        node.review_queues();
    }
}

/// What was seen of the queues until now.
#[derive(Debug)]
pub struct Watch {
    /// There is an alarm.
    active: bool,
    /// Overflowed since the start, at the last look.
    overflowed: u64,
    /// When overflows of the last minute were seen, and how many publishes each.
    overflows: VecDeque<(Instant, u64)>,
}

impl Watch {
    /// Begins with an alarm of this priority, from before a restart, and with `queues` as they are.
    pub fn new(alarm: Option<Priority>, queues: &Queues, now: Instant) -> Self {
        // That something overflowed is told for as long as it would have been.
        let overflows = (alarm == Some(Priority::Medium)).then_some((now, 0)).into_iter().collect();
        Self { active: alarm.is_some(), overflowed: queues.overflowed, overflows }
    }

    /// What to say of `queues`; `None` while all have room.
    pub fn complaint(
        &mut self,
        queues: &Queues,
        limits: &Limits,
        now: Instant,
    ) -> Option<(Priority, String)> {
        self.count(queues.overflowed, now);
        let least = if self.active { END_SHARE } else { ADVISORY_SHARE };
        let fullest = queues.fullest.as_ref().map(|queue| Fill::of(queue, limits));
        let near = fullest.as_ref().is_some_and(|fill| fill.share >= least);
        let overflows = !self.overflows.is_empty();
        self.active = near || overflows;
        if !self.active {
            return None;
        }
        let mut text = String::new();
        if overflows {
            let count: u64 = self.overflows.iter().map(|(_, count)| count).sum();
            let last = queues.overflowed_last.as_deref().map(|name| format!(", last for {}", quoted(name)));
            text = format!(
                "in the last minute {} publishes of telemetry went because a queue was full{}; ",
                if count > 0 { count.to_string() } else { "some".to_owned() },
                last.unwrap_or_default()
            );
        }
        match fullest {
            Some(fill) => text += &fill.text(limits.queue_full),
            None => text += "nothing waits now",
        }
        Some((if overflows { Priority::Medium } else { Priority::Low }, text))
    }

    fn count(&mut self, overflowed: u64, now: Instant) {
        while self.overflows.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.overflows.pop_front();
        }
        let more = overflowed.saturating_sub(std::mem::replace(&mut self.overflowed, overflowed));
        match self.overflows.back_mut() {
            _ if more == 0 => {}
            Some((at, count)) if now.duration_since(*at) < RESOLUTION => *count += more,
            _ => self.overflows.push_back((now, more)),
        }
    }
}

/// A queue beside the quota that it has taken most of.
struct Fill<'a> {
    name: &'a str,
    share: f64,
    /// The key that sets the quota.
    key: &'static str,
    /// How much of how much.
    taken: String,
}

impl<'a> Fill<'a> {
    fn of(queue: &'a Queue, limits: &Limits) -> Self {
        let (by_messages, by_bytes) = (queue.messages_share(limits), queue.bytes_share(limits));
        if by_messages >= by_bytes {
            let taken = format!("{} of {} publishes", queue.messages, limits.queued_messages_max);
            return Self { name: &queue.name, share: by_messages, key: "queued_messages", taken };
        }
        let taken = format!("{} of {}", Size(queue.bytes as u64), Size(limits.queued_bytes_max as u64));
        Self { name: &queue.name, share: by_bytes, key: "queued_bytes", taken }
    }

    fn text(&self, full: QueueFull) -> String {
        let Self { share, key, taken, .. } = self;
        let (goes, full) = match full {
            QueueFull::DropNewest => ("what comes new for it goes", "drop-newest"),
            QueueFull::DropOldest => ("what has waited longest goes", "drop-oldest"),
        };
        format!(
            "{taken} of telemetry wait for {}, {:.0} % of `{key}`: when it is full, {goes} (`queue_full` is `{full}`), \
             while alerts are kept. Bring this subscriber back, have it read faster or subscribe less, or raise `{key}` in \
             [limits]",
            quoted(self.name),
            (share * 100.0).floor(),
        )
    }
}

/// A client, or a shared subscription, in a text for people: short, and on one line.
fn quoted(name: &str) -> String {
    let mut chars = name.chars();
    let shown: String = chars.by_ref().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect();
    let rest = if chars.next().is_some() { "…" } else { "" };
    format!("`{shown}{rest}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits { queued_messages_max: 100, queued_bytes_max: 100 << 10, ..Limits::default() }
    }

    fn queues(messages: usize, bytes: usize, overflowed: u64) -> Queues {
        let name: Arc<str> = Arc::from("pager-7");
        let overflowed_last = (overflowed > 0).then(|| Arc::clone(&name));
        Queues { fullest: Some(Queue { name, messages, bytes }), overflowed, overflowed_last }
    }

    fn watch(now: Instant) -> Watch {
        Watch::new(None, &Queues::default(), now)
    }

    #[test]
    fn a_queue_is_told_of_from_three_quarters_on_until_it_has_room_again() {
        let now = Instant::now();
        let mut watch = watch(now);
        let mut priority = |messages, bytes| {
            watch.complaint(&queues(messages, bytes, 0), &limits(), now).map(|(priority, _)| priority)
        };
        assert_eq!(priority(74, 0), None);
        assert_eq!(priority(75, 0), Some(Priority::Low));
        assert_eq!(priority(70, 0), Some(Priority::Low));
        assert_eq!(priority(69, 0), None);
        assert_eq!(priority(70, 0), None, "it does not flap");
        assert_eq!(priority(1, 75 << 10), Some(Priority::Low), "few, but large");
        assert_eq!(watch.complaint(&Queues::default(), &limits(), now), None);
    }

    #[test]
    fn it_says_who_how_much_and_what_becomes_of_the_rest() {
        let now = Instant::now();
        let text = |queues: &Queues, limits: &Limits| watch(now).complaint(queues, limits, now).unwrap().1;
        let said = text(&queues(80, 0, 0), &limits());
        for part in ["80 of 100 publishes", "`pager-7`", "80 % of `queued_messages`", "`drop-newest`"] {
            assert!(said.contains(part), "{said}");
        }
        let said = text(&queues(80, 90 << 10, 0), &Limits { queue_full: QueueFull::DropOldest, ..limits() });
        for part in ["90.0 KiB of 100.0 KiB", "90 % of `queued_bytes`", "`drop-oldest`"] {
            assert!(said.contains(part), "{said}");
        }
        let long = Queue { name: Arc::from("\n".repeat(60_000)), messages: 100, bytes: 0 };
        let said = text(&Queues { fullest: Some(long), ..Queues::default() }, &limits());
        assert!(said.len() < 1_000 && !said.contains('\n'), "{} bytes", said.len());
    }

    #[test]
    fn an_overflow_is_told_of_for_a_minute() {
        let start = Instant::now();
        let mut watch = watch(start);
        let mut look =
            |queues: &Queues, after: u32| watch.complaint(queues, &limits(), start + SECOND * after);
        let (priority, text) = look(&queues(100, 0, 2), 0).unwrap();
        assert_eq!(priority, Priority::Medium);
        assert!(text.starts_with("in the last minute 2 publishes of telemetry went"), "{text}");
        assert!(text.contains("last for `pager-7`; 100 of 100 publishes"), "{text}");
        let (_, text) = look(&queues(100, 0, 5), 5).unwrap();
        assert!(text.contains("last minute 5 publishes"), "{text}");
        let (priority, text) = look(&Queues { fullest: None, ..queues(0, 0, 5) }, 65).unwrap();
        assert!(priority == Priority::Medium && text.contains("last minute 3 publishes"), "{text}");
        assert_eq!(look(&queues(70, 0, 5), 66).map(|(priority, _)| priority), Some(Priority::Low));
        assert_eq!(look(&queues(69, 0, 5), 66), None);
    }

    #[test]
    fn across_a_restart_an_alarm_goes_on() {
        let now = Instant::now();
        let mut low = Watch::new(Some(Priority::Low), &queues(72, 0, 0), now);
        assert_eq!(low.complaint(&queues(72, 0, 0), &limits(), now).map(|(it, _)| it), Some(Priority::Low));
        let mut medium = Watch::new(Some(Priority::Medium), &Queues::default(), now);
        let told = medium.complaint(&Queues::default(), &limits(), now + WINDOW);
        assert_eq!(told.map(|(priority, _)| priority), Some(Priority::Medium));
        assert_eq!(medium.complaint(&Queues::default(), &limits(), now + WINDOW + SECOND), None);
    }

    #[test]
    fn memory_for_overflows_is_bounded() {
        let start = Instant::now();
        let mut watch = watch(start);
        for look in 0..100_000u32 {
            watch.complaint(
                &queues(100, 0, look.into()),
                &limits(),
                start + Duration::from_millis(10) * look,
            );
        }
        assert!(watch.overflows.len() <= 62, "{}", watch.overflows.len());
    }
}
