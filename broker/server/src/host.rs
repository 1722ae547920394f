//! Runs the plugins: shows each what it is interested in, and collects what they say.
//!
//! It does not publish. Its owner publishes each output as `plugin:NAME` and then shows it here as a message
//! like any other; so outputs are in the journal, and one plugin hears another only through it.
//!
//! Invariants
//! - plugins are asked in the order in which they were given, so that two runs over one record agree;
//! - it runs under the broker's lock for every publish: a topic that no plugin wants costs one comparison for
//!   each interest;
//! - a deadline is asked of a plugin only after the plugin was called, and a plugin that does not move its
//!   deadline on cannot stop time: it is asked again [`TICK_AGAIN_AFTER`] later.

use std::time::Duration;

use jiff::Timestamp;
use wardline_plugin_api::{Input, Message, NotASnapshot, Output, Plugin, Receipt, Refusal, span};
use wardline_wire::topic;

/// When a plugin is asked again that wants a tick for a moment that has passed already.
pub const TICK_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// The plugins of one node.
pub struct Host {
    plugins: Vec<Slot>,
    interests: Vec<Interest>,
}

struct Slot {
    plugin: Box<dyn Plugin>,
    deadline: Option<Timestamp>,
}

struct Interest {
    plugin: usize,
    filter: String,
}

impl Host {
    /// Runs these plugins; an output's index is that of its plugin here.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        let interests = plugins
            .iter()
            .enumerate()
            .flat_map(|(place, plugin)| plugin.interests().into_iter().map(move |filter| (place, filter)))
            .map(|(plugin, filter)| Interest { plugin, filter })
            .collect();
        let slot = |plugin: Box<dyn Plugin>| Slot { deadline: plugin.next_deadline(), plugin };
        Self { plugins: plugins.into_iter().map(slot).collect(), interests }
    }

    /// Names of the plugins, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.plugins.iter().map(|slot| slot.plugin.name())
    }

    /// Asks the interested plugins whether a publish may be accepted.
    ///
    /// # Errors
    /// The first refusal.
    pub fn admit(&self, topic: &str, payload: &[u8], principal: &str) -> Result<(), Refusal> {
        let message = Message { node: 0, offset: 0, topic, payload, principal };
        let mut asked = None;
        for interest in &self.interests {
            if asked == Some(interest.plugin) || !topic::matches(&interest.filter, topic) {
                continue;
            }
            asked = Some(interest.plugin);
            if let Some(slot) = self.plugins.get(interest.plugin) {
                slot.plugin.admit(&message)?;
            }
        }
        Ok(())
    }

    /// Shows an accepted publish to the interested plugins.
    pub fn message(&mut self, message: &Message<'_>, now: Timestamp, out: &mut Vec<(usize, Output)>) {
        let mut shown = None;
        for interest in &self.interests {
            // A plugin's interests stand together, and it is shown each publish once.
            if shown == Some(interest.plugin) || !topic::matches(&interest.filter, message.topic) {
                continue;
            }
            shown = Some(interest.plugin);
            if let Some(slot) = self.plugins.get_mut(interest.plugin) {
                slot.handle(interest.plugin, Input::Message(*message), now, out);
            }
        }
    }

    /// Tells how a publish fared on its way to a pager. Every plugin is told: an alert's id says whose it is.
    pub fn receipt(&mut self, receipt: &Receipt<'_>, now: Timestamp, out: &mut Vec<(usize, Output)>) {
        for (place, slot) in self.plugins.iter_mut().enumerate() {
            slot.handle(place, Input::Receipt(*receipt), now, out);
        }
    }

    /// The earliest deadline of any plugin.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.plugins.iter().filter_map(|slot| slot.deadline).min()
    }

    /// Lets the plugins know whose deadline is `now` or has passed. Called with [`Host::next_deadline`], and
    /// its outputs published, until no deadline is due, it fires all in order, each at its own time.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<(usize, Output)>) {
        for (place, slot) in self.plugins.iter_mut().enumerate() {
            if slot.deadline.is_some_and(|deadline| deadline <= now) {
                slot.handle(place, Input::Tick, now, out);
                if slot.deadline.is_some_and(|deadline| deadline <= now) {
                    slot.deadline = Some(span::after(now, TICK_AGAIN_AFTER));
                }
            }
        }
    }

    /// What each plugin remembers, by its name.
    pub fn snapshot(&self) -> Vec<(&'static str, Vec<u8>)> {
        self.plugins.iter().map(|slot| (slot.plugin.name(), slot.plugin.snapshot())).collect()
    }

    /// Has the plugins remember what a snapshot says; one that it does not know begins anew.
    ///
    /// # Errors
    /// A plugin that cannot; then some have and some have not.
    pub fn restore<'a>(
        &mut self,
        snapshot: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(), NotASnapshot> {
        for (name, bytes) in snapshot {
            if let Some(slot) = self.plugins.iter_mut().find(|slot| slot.plugin.name() == name) {
                slot.plugin.restore(bytes)?;
                slot.deadline = slot.plugin.next_deadline();
            }
        }
        Ok(())
    }

    /// Puts the same plugins under new rules in the place of these; they take over what these remember.
    ///
    /// # Errors
    /// A plugin that cannot; then nothing has changed.
    pub fn replace(&mut self, plugins: Vec<Box<dyn Plugin>>) -> Result<(), NotASnapshot> {
        let mut next = Self::new(plugins);
        for slot in &mut next.plugins {
            let name = slot.plugin.name();
            if let Some(old) = self.plugins.iter().find(|old| old.plugin.name() == name) {
                slot.plugin.restore(&old.plugin.snapshot())?;
                slot.deadline = slot.plugin.next_deadline();
            }
        }
        *self = next;
        Ok(())
    }
}

impl Slot {
    fn handle(&mut self, place: usize, input: Input<'_>, now: Timestamp, out: &mut Vec<(usize, Output)>) {
        let mut said = Vec::new();
        self.plugin.handle(input, now, &mut said);
        self.deadline = self.plugin.next_deadline();
        out.extend(said.into_iter().map(|output| (place, output)));
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says everything it is told, and never moves its deadline on.
    struct Parrot(&'static str, Vec<&'static str>);

    impl Plugin for Parrot {
        fn name(&self) -> &'static str {
            self.0
        }

        fn interests(&self) -> Vec<String> {
            self.1.iter().map(|filter| (*filter).to_owned()).collect()
        }

        fn admit(&self, message: &Message<'_>) -> Result<(), Refusal> {
            match message.payload {
                b"bad" => Err(Refusal { code: 0x99, reason: format!("{} will not", self.0) }),
                _ => Ok(()),
            }
        }

        fn handle(&mut self, input: Input<'_>, _now: Timestamp, out: &mut Vec<Output>) {
            let topic = match input {
                Input::Message(message) => message.topic.to_owned(),
                Input::Receipt(receipt) => receipt.alert.to_owned(),
                Input::Tick => "tick".to_owned(),
            };
            out.push(Output { topic, ..Output::default() });
        }

        fn next_deadline(&self) -> Option<Timestamp> {
            Some(Timestamp::UNIX_EPOCH)
        }

        fn snapshot(&self) -> Vec<u8> {
            Vec::new()
        }

        fn restore(&mut self, _: &[u8]) -> Result<(), NotASnapshot> {
            Ok(())
        }
    }

    fn host() -> Host {
        Host::new(vec![Box::new(Parrot("a", vec!["x/#", "x/1"])), Box::new(Parrot("b", vec!["+/1", "y/#"]))])
    }

    fn told(host: &mut Host, topic: &str) -> Vec<usize> {
        let mut out = Vec::new();
        let message = Message { node: 1, offset: 1, topic, payload: b"", principal: "" };
        host.message(&message, Timestamp::UNIX_EPOCH, &mut out);
        out.into_iter().map(|(plugin, _)| plugin).collect()
    }

    #[test]
    fn each_plugin_is_shown_what_it_wants_once_and_in_order() {
        let mut host = host();
        let expected: [(&str, &[usize]); 6] =
            [("x/1", &[0, 1]), ("x", &[0]), ("xx/2", &[]), ("y/1", &[1]), ("z/1", &[1]), ("z/2", &[])];
        for (topic, plugins) in expected {
            assert_eq!(told(&mut host, topic), plugins, "{topic}");
        }
    }

    #[test]
    fn the_first_refusal_counts() {
        let host = host();
        assert_eq!(host.admit("x/1", b"bad", "").unwrap_err().reason, "a will not");
        assert_eq!(host.admit("z/1", b"bad", "").unwrap_err().reason, "b will not");
        assert_eq!(host.admit("z/2", b"bad", ""), Ok(()));
    }

    #[test]
    fn a_plugin_that_does_not_move_on_does_not_stop_time() {
        let mut host = host();
        let mut out = Vec::new();
        let due = host.next_deadline().unwrap();
        host.tick(due, &mut out);
        assert_eq!(out.len(), 2);
        assert!(host.next_deadline().unwrap() > due);
    }
}
