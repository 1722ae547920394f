//! The plugin: conditions, receipts and responses in, alerts out, timers between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wardline_plugin_api::condition::{self, Change, Condition};
use wardline_plugin_api::{Input, Message, Mode, NotASnapshot, Output, Plugin, Receipt, Refusal};

use crate::open::{Open, Step};
use crate::response::{self, Answer, ResponseTopic};
use crate::rules::Paths;

/// Alerts that are over and still known as such, so that a late answer is told so. Of older ones it is told
/// that they are unknown.
pub const FINISHED_MAX: usize = 4_096;

const NAME: &str = "escalation";
const RESPONSES: &str = "responses/";

/// Finds a person for every condition.
#[derive(Debug)]
pub struct Escalation {
    paths: Paths,
    /// By alert id.
    alerts: BTreeMap<String, Open>,
    /// Newest open alert of each condition. Earlier ones are latched and only wait for their pager.
    conditions: BTreeMap<Key, String>,
    deadlines: BTreeSet<(Timestamp, String)>,
    finished: VecDeque<String>,
}

/// What makes two conditions the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    unit: String,
    bed: String,
    condition: String,
    mode: Mode,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    alerts: Vec<Open>,
    /// Ids of those that are their condition's newest.
    newest: BTreeSet<String>,
    finished: VecDeque<String>,
}

impl Escalation {
    /// Along these paths, with nothing open.
    pub fn new(paths: Paths) -> Self {
        Self {
            paths,
            alerts: BTreeMap::new(),
            conditions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            finished: VecDeque::new(),
        }
    }

    fn condition(&mut self, message: &Message<'_>, now: Timestamp, out: &mut Vec<Output>) {
        let Ok(condition) = serde_json::from_slice::<Condition>(message.payload) else { return };
        let key = Key::of(&condition);
        let present = self.conditions.get(&key).cloned();
        // Episodes of a condition that nobody can be told of are one alert; each that is being told of is its own.
        let past =
            |id: &String| condition.phase == Change::Begin && self.alerts.get(id).is_some_and(Open::is_past);
        if let Some(id) = present.filter(|id| !past(id)) {
            return self.step(&id, now, out, |alert, step, out| match condition.phase {
                Change::Begin | Change::Update => alert.update(condition, step, out),
                Change::End => alert.recover(&condition, step, out),
            });
        }
        if condition.phase != Change::Begin {
            // Its alert was completed by a person.
            return;
        }
        let id = format!("n{}-{}", message.node, message.offset);
        let step = Step { paths: &self.paths, now, owner: self.owns(&key) };
        let alert = Open::begin(id.clone(), condition, step, out);
        self.deadlines.extend(alert.due().map(|due| (due, id.clone())));
        self.conditions.insert(key, id.clone());
        self.alerts.insert(id, alert);
    }

    fn response(&mut self, message: &Message<'_>, now: Timestamp, out: &mut Vec<Output>) {
        // An answer that could not be given was refused before, or came too late to matter.
        let Ok((alert, answer)) = self.judge(message) else { return };
        let id = alert.id().to_owned();
        self.step(&id, now, out, |alert, step, out| alert.answer(&answer, message.principal, step, out));
    }

    fn receipt(&mut self, receipt: &Receipt<'_>, now: Timestamp, out: &mut Vec<Output>) {
        let Some(to) = receipt.topic.split('/').nth(2) else { return };
        self.step(receipt.alert, now, out, |alert, step, out| alert.receipt(to, receipt.step, step, out));
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        // Each deadline that is due now, once: what they set anew lies later, or waits for the next tick.
        let due: Vec<String> =
            self.deadlines.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| id.clone()).collect();
        for id in due {
            self.step(&id, now, out, |alert, step, out| alert.expire(step, out));
        }
    }

    /// Does something to an open alert, and keeps deadlines and indices true to it.
    fn step(
        &mut self,
        id: &str,
        now: Timestamp,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut Open, Step<'_>, &mut Vec<Output>),
    ) {
        let Some((id, mut alert)) = self.alerts.remove_entry(id) else { return };
        let key = Key::of(alert.condition());
        let before = alert.due();
        let newest = self.conditions.get(&key) == Some(&id);
        act(&mut alert, Step { paths: &self.paths, now, owner: newest && self.owns(&key) }, out);
        if before != alert.due() {
            if let Some(before) = before {
                self.deadlines.remove(&(before, id.clone()));
            }
            self.deadlines.extend(alert.due().map(|due| (due, id.clone())));
        }
        if alert.is_over() {
            if newest {
                self.conditions.remove(&key);
            }
            self.finished.truncate(FINISHED_MAX - 1);
            self.finished.push_front(id);
        } else {
            self.alerts.insert(id, alert);
        }
    }

    /// Whether no alert of an earlier mode is open for the same condition.
    fn owns(&self, key: &Key) -> bool {
        [Mode::Real, Mode::Demo, Mode::Test]
            .into_iter()
            .filter(|mode| *mode < key.mode)
            .all(|mode| !self.conditions.contains_key(&Key { mode, ..key.clone() }))
    }

    fn judge(&self, message: &Message<'_>) -> Result<(&Open, Answer), Refusal> {
        let topic = ResponseTopic::parse(message.topic)?;
        response::judge_author(message.principal)?;
        let Some(alert) = self.alerts.get(topic.alert) else {
            let over = self.finished.iter().any(|id| id == topic.alert);
            return Err(if over { response::finished(topic.alert) } else { response::unknown(topic.alert) });
        };
        if alert.place() != (topic.unit, topic.bed) {
            return Err(response::elsewhere(alert));
        }
        let answer = Answer::parse(message.payload)?;
        answer.judge(alert, message.principal)?;
        Ok((alert, answer))
    }
}

impl Key {
    fn of(condition: &Condition) -> Self {
        Self {
            unit: condition.unit.clone(),
            bed: condition.bed.clone(),
            condition: condition.condition.clone(),
            mode: condition.mode,
        }
    }
}

impl Plugin for Escalation {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interests(&self) -> Vec<String> {
        let own = ["alerts/#", "alarms/#"].map(String::from);
        [format!("{}/#", condition::TOPIC_ROOT), format!("{RESPONSES}#")].into_iter().chain(own).collect()
    }

    fn admit(&self, message: &Message<'_>) -> Result<(), Refusal> {
        if message.topic.starts_with(RESPONSES) {
            self.judge(message).map(|_| ())
        } else if message.principal.starts_with("plugin:") {
            Ok(())
        } else {
            Err(response::forged(message.topic, message.principal))
        }
    }

    fn handle(&mut self, input: Input<'_>, now: Timestamp, out: &mut Vec<Output>) {
        match input {
            Input::Message(message) if message.topic.starts_with(RESPONSES) => {
                self.response(&message, now, out);
            }
            Input::Message(message) if message.topic.starts_with(condition::TOPIC_ROOT) => {
                self.condition(&message, now, out);
            }
            // Its own, come back: it asks for them only to refuse anybody else's.
            Input::Message(_) => {}
            Input::Receipt(receipt) => self.receipt(&receipt, now, out),
            Input::Tick => self.tick(now, out),
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    fn snapshot(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            alerts: Vec<&'a Open>,
            newest: Vec<&'a String>,
            finished: &'a VecDeque<String>,
        }
        wardline_plugin_api::json(&Borrowed {
            alerts: self.alerts.values().collect(),
            newest: self.conditions.values().collect(),
            finished: &self.finished,
        })
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), NotASnapshot> {
        let Snapshot { alerts, newest, finished } = serde_json::from_slice(snapshot)
            .map_err(|error| NotASnapshot { plugin: NAME, why: error.to_string() })?;
        self.deadlines = alerts.iter().filter_map(|a| Some((a.due()?, a.id().to_owned()))).collect();
        self.conditions = alerts
            .iter()
            .filter(|alert| newest.contains(alert.id()))
            .map(|alert| (Key::of(alert.condition()), alert.id().to_owned()))
            .collect();
        self.alerts = alerts.into_iter().map(|a| (a.id().to_owned(), a)).collect();
        self.finished = finished;
        Ok(())
    }
}
