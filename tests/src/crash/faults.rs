//! What must not be, counted, with a few examples of each.

use std::collections::BTreeMap;
use std::fmt;

/// Examples kept of each.
const EXAMPLES_MAX: usize = 5;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An acknowledged QoS 1 publish that a durable subscriber never got.
    Lost1,
    /// An acknowledged QoS 2 publish that a durable subscriber never got.
    Lost2,
    /// A QoS 2 publish that a durable subscriber got twice.
    Twice2,
    /// A publish that came to a subscriber before an earlier one of the same publisher and topic.
    Order,
    /// A payload that nobody published.
    Strange,
    /// A retained message that is not the last accepted one.
    Retained,
    /// An alert that was owed and did not come to the pager.
    Alert,
    /// A session that was there, and is not.
    Session,
    /// An acknowledged publish that is not in the audit tables, or one there that nobody sent.
    AuditMissing,
    /// A publish that is in the audit tables more often than it was sent.
    AuditTwice,
    /// A record that `wardline audit verify` does not accept.
    AuditUnproved,
}

impl Fault {
    /// All kinds, in the order in which they are told.
    pub const ALL: [Self; 11] = [
        Self::Lost1,
        Self::Lost2,
        Self::Twice2,
        Self::Order,
        Self::Strange,
        Self::Retained,
        Self::Alert,
        Self::Session,
        Self::AuditMissing,
        Self::AuditTwice,
        Self::AuditUnproved,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::Lost1 => "acknowledged QoS 1 publishes lost",
            Self::Lost2 => "acknowledged QoS 2 publishes lost",
            Self::Twice2 => "QoS 2 publishes delivered twice",
            Self::Order => "order violations by publisher and topic",
            Self::Strange => "deliveries that nobody published",
            Self::Retained => "retained messages wrong",
            Self::Alert => "alerts lost",
            Self::Session => "sessions lost",
            Self::AuditMissing => "audit rows missing, or of nobody",
            Self::AuditTwice => "audit rows twice",
            Self::AuditUnproved => "records that do not verify",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Faults(BTreeMap<Fault, Found>);

#[derive(Clone, Debug, Default)]
struct Found {
    count: usize,
    examples: Vec<String>,
}

impl Faults {
    /// One more.
    pub fn add(&mut self, fault: Fault, example: impl FnOnce() -> String) {
        let found = self.0.entry(fault).or_default();
        found.count += 1;
        if found.examples.len() < EXAMPLES_MAX {
            found.examples.push(example());
        }
    }

    /// All of somebody else's too.
    pub fn extend(&mut self, other: Self) {
        for (fault, theirs) in other.0 {
            let ours = self.0.entry(fault).or_default();
            ours.count += theirs.count;
            let room = EXAMPLES_MAX.saturating_sub(ours.examples.len());
            ours.examples.extend(theirs.examples.into_iter().take(room));
        }
    }

    /// Takes out those of these kinds if there are no more than `at_most` together.
    pub(super) fn excuse(&mut self, kinds: &[Fault], at_most: usize) {
        if kinds.iter().map(|kind| self.count(*kind)).sum::<usize>() <= at_most {
            self.0.retain(|kind, _| !kinds.contains(kind));
        }
    }

    /// How many of a kind.
    pub fn count(&self, fault: Fault) -> usize {
        self.0.get(&fault).map_or(0, |found| found.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in Fault::ALL {
            writeln!(f, "{:>8}  {}", self.count(fault), fault.words())?;
            for example in self.0.get(&fault).into_iter().flat_map(|found| &found.examples) {
                writeln!(f, "          - {example}")?;
            }
        }
        Ok(())
    }
}
