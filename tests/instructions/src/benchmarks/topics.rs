//! Which filters match a topic?

use std::hint::black_box;

use wardline_core::Tree;
use wardline_wire::topic;

use super::wire::TOPIC;
use crate::operation::Operation;

/// Beds of a unit, where subscriptions are made in numbers.
const UNIT_BEDS: usize = 100;
/// Names that are looked up in turn.
const NAMES: usize = 1_000;

struct Match {
    filter: &'static str,
}

/// The reading's topic against one filter, which matches it.
pub(super) fn filter(filter: &'static str) -> Box<dyn Operation> {
    Box::new(Match { filter })
}

impl Operation for Match {
    fn run(&mut self) -> usize {
        usize::from(topic::matches(black_box(self.filter), black_box(TOPIC)))
    }

    fn restore(&mut self) {
        assert_eq!(self.run(), 1, "{} does not match {TOPIC}", self.filter);
    }
}

struct LookUp {
    tree: Tree<usize, ()>,
    names: Vec<String>,
    at: usize,
}

/// Topics of readings in a tree of so many subscriptions, two of five with wildcards. A name is reached by as many of them,
/// however many there are.
pub(super) fn tree(subscriptions: usize) -> Box<dyn Operation> {
    let mut tree = Tree::default();
    for number in 0..subscriptions {
        tree.insert(&subscribed(number), number, ());
    }
    let step = subscriptions.div_ceil(NAMES);
    let names = (0..subscriptions).step_by(step).map(read).collect();
    Box::new(LookUp { tree, names, at: 0 })
}

/// The filter of one of many subscriptions.
pub(super) fn subscribed(number: usize) -> String {
    let (unit, bed) = (number / UNIT_BEDS, number % UNIT_BEDS);
    match number % 5 {
        0 => format!("telemetry/icu-{unit}/b{bed}/#"),
        1 => format!("telemetry/icu-{unit}/b{bed}/+/spo2"),
        _ => format!("telemetry/icu-{unit}/b{bed}/mon-{bed}/spo2"),
    }
}

/// A topic that the same subscription is reached by.
fn read(number: usize) -> String {
    let (unit, bed) = (number / UNIT_BEDS, number % UNIT_BEDS);
    format!("telemetry/icu-{unit}/b{bed}/mon-{bed}/spo2")
}

impl Operation for LookUp {
    fn run(&mut self) -> usize {
        let Some(name) = self.names.get(self.at) else { return 0 };
        let mut found = 0;
        self.tree.matches(name, |_, ()| found += 1);
        found
    }

    fn restore(&mut self) {
        self.at = (self.at + 1) % self.names.len();
    }
}
