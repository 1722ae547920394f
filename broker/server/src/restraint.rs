//! What becomes of telemetry while the journal's room runs short: it waits with whoever sends it, and nothing of it is
//! dropped or acknowledged. Alerts, responses, what staff say and what changes somebody's care go on.

use std::{collections::BTreeSet, time::Duration};

use wardline_core::{Lane, Limits};
use wardline_journal::{NEAR_ROOM_PERCENT, Pressure, RESERVED_ROOM_PERCENT, Space};
use wardline_wire::Publish;

/// The rest that a client takes after a batch with telemetry when the room for it is nearly gone. A monitor that measures
/// each second is hardly slowed; one that sends a thousand a second is, to a tenth.
const SLOW_MAX: Duration = Duration::from_secs(1);
/// First topic levels of what is no alert and yet changes somebody's care: small, rare, and not to wait.
const CARE_ROOTS: [&str; 3] = ["admissions", "limits", "rosters"];
/// What principals of staff begin with.
const STAFF: &str = "staff:";

/// How telemetry is taken just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restraint {
    /// As it comes.
    None,
    /// After a batch with some of it the client rests.
    Slow(Duration),
    /// Not at all.
    Withhold,
}

impl Restraint {
    /// What so much room asks for: the less there is, the longer the rests.
    pub fn of(space: &Space) -> Self {
        match space.pressure {
            Pressure::Normal | Pressure::Advisory => Self::None,
            Pressure::Near => {
                let capacity = space.capacity_bytes.max(1) as f64;
                let left_percent = space.room_bytes as f64 * 100.0 / capacity - RESERVED_ROOM_PERCENT as f64;
                let gone = 1.0 - left_percent / (NEAR_ROOM_PERCENT - RESERVED_ROOM_PERCENT) as f64;
                Self::Slow(SLOW_MAX.mul_f64(gone.clamp(0.0, 1.0)))
            }
            Pressure::Full => Self::Withhold,
        }
    }
}

/// Tells which publishes of one client may wait.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Topic aliases that stand for something else.
    urgent_aliases: BTreeSet<u16>,
}

impl Telemetry {
    /// Whether a publish of `principal` is telemetry. Every publish of the client that has a topic
    /// alias is to be shown, in order.
    pub fn includes(&mut self, publish: &Publish, principal: &str, limits: &Limits) -> bool {
        let alias = publish.properties.topic_alias;
        if publish.topic.is_empty() {
            return !alias.is_some_and(|alias| self.urgent_aliases.contains(&alias.into()));
        }
        let root = publish.topic.split('/').next().unwrap_or_default();
        let urgent = limits.lane(&publish.topic) == Lane::Alert
            || CARE_ROOTS.contains(&root)
            || principal.starts_with(STAFF);
        match alias {
            Some(alias) if urgent => drop(self.urgent_aliases.insert(alias.into())),
            Some(alias) => drop(self.urgent_aliases.remove(&alias.into())),
            None => {}
        }
        !urgent
    }
}

#[cfg(test)]
mod tests {
    use wardline_wire::PublishProperties;

    use super::*;

    fn space(room_bytes: u64, pressure: Pressure) -> Space {
        Space {
            used_bytes: 1_000 - room_bytes,
            quota_bytes: 1_000,
            free_bytes: None,
            room_bytes,
            capacity_bytes: 1_000,
            pressure,
        }
    }

    #[test]
    fn the_less_room_the_longer_the_rests() {
        assert_eq!(Restraint::of(&space(200, Pressure::Advisory)), Restraint::None);
        assert_eq!(Restraint::of(&space(150, Pressure::Near)), Restraint::Slow(Duration::ZERO));
        assert_eq!(Restraint::of(&space(100, Pressure::Near)), Restraint::Slow(SLOW_MAX / 2));
        assert_eq!(Restraint::of(&space(51, Pressure::Near)), Restraint::Slow(SLOW_MAX.mul_f64(0.99)));
        assert_eq!(Restraint::of(&space(50, Pressure::Full)), Restraint::Withhold);
    }

    #[test]
    fn what_concerns_people_is_no_telemetry() {
        let limits = Limits::default();
        let mut telemetry = Telemetry::default();
        let mut includes = |topic: &'static str, principal| {
            let publish = Publish { topic: topic.into(), ..Publish::default() };
            telemetry.includes(&publish, principal, &limits)
        };
        for topic in ["telemetry/icu-3/b12/mon-12/hr", "ward/b12/note", "telemetry"] {
            assert!(includes(topic, "device:mon-12"), "{topic}");
            assert!(!includes(topic, "staff:n.ito"), "{topic}");
        }
        for topic in ["responses/icu-3/b12/n1-7", "alerts/x", "limits/icu-3/b12/hr", "rosters/icu-3"] {
            assert!(!includes(topic, "service:adt"), "{topic}");
        }
    }

    #[test]
    fn an_alias_is_what_it_stands_for() {
        let limits = Limits::default();
        let mut telemetry = Telemetry::default();
        let mut includes = |topic: &'static str| {
            let properties = PublishProperties {
                topic_alias: std::num::NonZeroU16::new(3),
                ..PublishProperties::default()
            };
            let publish =
                Publish { topic: topic.into(), properties: properties.into(), ..Publish::default() };
            telemetry.includes(&publish, "service:gateway", &limits)
        };
        assert!(includes(""), "one that was never named");
        assert!(!includes("alerts/icu-3"));
        assert!(!includes(""));
        assert!(includes("telemetry/icu-3"));
        assert!(includes(""));
    }
}
