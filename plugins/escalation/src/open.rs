//! One open alert, from its condition to the person who answers.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wardline_plugin_api::alert::{Alert, AnswerWord};
use wardline_plugin_api::condition::Condition;
use wardline_plugin_api::span::after;
use wardline_plugin_api::{JSON, Mode, Output, Phase, Priority, ReceiptStep, State};

use crate::response::Answer;
use crate::rules::Paths;

/// How often an alert that nobody can receive is sent again, at most.
pub const RETRY_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    id: String,
    /// As last told; of its end only value, time and text are taken.
    condition: Condition,
    revision: u32,
    state: State,
    /// From 0.
    tier: usize,
    /// Everybody who was told, in order.
    told: Vec<String>,
    /// When the current tier was last told.
    sent: Timestamp,
    /// A pager confirmed it, at any tier.
    delivered: bool,
    /// A pager of the current tier confirmed it since `sent`.
    confirmed: bool,
    /// A pager of the current tier is connected and has been handed it since `sent`.
    on_its_way: bool,
    by: Option<String>,
    answer: Option<AnswerWord>,
    due: Option<Timestamp>,
}

/// What a step needs to know besides the alert.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) now: Timestamp,
    /// Whether this alert owns its retained topic, or one of an earlier mode does.
    pub(crate) owner: bool,
}

impl Open {
    /// Begins, and tells the first tier.
    pub(crate) fn begin(id: String, condition: Condition, step: Step<'_>, out: &mut Vec<Output>) -> Self {
        let mut alert = Self {
            id,
            condition,
            revision: 0,
            state: State::Active,
            tier: 0,
            told: Vec::new(),
            sent: step.now,
            delivered: false,
            confirmed: false,
            on_its_way: false,
            by: None,
            answer: None,
            due: None,
        };
        alert.tell_tier(0, Phase::Start, step, out);
        alert
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// Its condition is gone, and it will reach its person all the same: what comes now is another episode.
    pub(crate) fn is_past(&self) -> bool {
        self.state == State::Latched && self.on_its_way
    }

    pub(crate) const fn due(&self) -> Option<Timestamp> {
        self.due
    }

    pub(crate) fn by(&self) -> Option<&str> {
        self.by.as_deref()
    }

    pub(crate) const fn is_lethal(&self) -> bool {
        self.condition.lethal
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Inactive
    }

    /// Unit and bed.
    pub(crate) fn place(&self) -> (&str, &str) {
        (&self.condition.unit, &self.condition.bed)
    }

    pub(crate) const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// The condition still stands, is back, or is another in limit or priority.
    pub(crate) fn update(&mut self, condition: Condition, step: Step<'_>, out: &mut Vec<Output>) {
        let worse = condition.priority > self.condition.priority;
        let milder = condition.priority < self.condition.priority;
        let since = self.condition.since.min(condition.since);
        self.condition = Condition { since, ..condition };
        if self.state == State::Latched {
            self.state = State::Active;
        }
        if worse {
            // What was accepted or shelved was less than this.
            self.state = State::Active;
            (self.by, self.answer) = (None, None);
            self.tell_tier(0, Phase::Update, step, out);
            return;
        }
        if milder {
            // The way of this priority may be shorter, and lead to others.
            let path = step.paths.of(self.condition.priority);
            self.tier = self.tier.min(path.last());
            self.add_told(&path.tier(self.tier).to);
            self.begin_wait(step);
        }
        self.tell_all(Phase::Update, step, out);
    }

    /// The condition is gone.
    pub(crate) fn recover(&mut self, end: &Condition, step: Step<'_>, out: &mut Vec<Output>) {
        if self.state == State::Latched {
            return;
        }
        let answered = matches!(self.state, State::Acknowledged | State::Shelved);
        let text = if answered || self.delivered || self.condition.priority == Priority::Low {
            end.text.clone()
        } else {
            format!("{}; over: {}", self.condition.text, end.text)
        };
        self.condition.text = text;
        self.condition.value = end.value;
        if answered || self.delivered || self.condition.priority == Priority::Low {
            self.finish(step, out);
        } else {
            self.state = State::Latched;
            self.tell(&[], Phase::Update, step, out);
        }
    }

    /// Its deadline has come.
    pub(crate) fn expire(&mut self, step: Step<'_>, out: &mut Vec<Output>) {
        match self.state {
            State::Shelved => {
                self.state = State::Active;
                self.tell_tier(0, Phase::Continue, step, out);
            }
            State::Active | State::Latched => self.climb(step, out),
            State::Acknowledged | State::Inactive => self.due = None,
        }
    }

    /// How one of its publishes fared; `to` is whom it was for.
    pub(crate) fn receipt(&mut self, to: &str, receipt: ReceiptStep, step: Step<'_>, out: &mut Vec<Output>) {
        let path = step.paths.of(self.condition.priority);
        let current = path.tier(self.tier).to == to;
        let waiting = matches!(self.state, State::Active | State::Latched);
        if current {
            self.on_its_way = receipt != ReceiptStep::Unreachable;
        }
        match receipt {
            ReceiptStep::Confirmed => {
                self.delivered = true;
                self.confirmed |= current;
                if self.state == State::Latched {
                    self.finish(step, out);
                } else {
                    self.reschedule(step);
                }
            }
            ReceiptStep::Unreachable if waiting && current && !self.confirmed && self.tier < path.last() => {
                self.climb(step, out);
            }
            ReceiptStep::Sent | ReceiptStep::Unreachable => {}
        }
    }

    /// A person answered.
    pub(crate) fn answer(&mut self, answer: &Answer, principal: &str, step: Step<'_>, out: &mut Vec<Output>) {
        self.by = Some(principal.to_owned());
        self.answer = Some(answer.word());
        match answer {
            Answer::Complete => self.finish(step, out),
            Answer::Accept(_) if self.state == State::Latched => self.finish(step, out),
            Answer::Accept(_) => {
                self.state = State::Acknowledged;
                self.reschedule(step);
                self.tell_all(Phase::Update, step, out);
            }
            Answer::Shelve(span) => {
                self.state = State::Shelved;
                self.due = Some(after(step.now, *span));
                self.tell_all(Phase::Update, step, out);
            }
            Answer::Reject => {
                if self.state != State::Latched {
                    self.state = State::Active;
                }
                if self.tier < step.paths.of(self.condition.priority).last() {
                    self.climb(step, out);
                } else {
                    // There is nobody above: it comes back to the last tier in time.
                    self.sent = step.now;
                    self.reschedule(step);
                    self.tell_all(Phase::Update, step, out);
                }
            }
        }
    }

    /// To the next tier, or once more to the last.
    fn climb(&mut self, step: Step<'_>, out: &mut Vec<Output>) {
        let path = step.paths.of(self.condition.priority);
        if self.tier < path.last() {
            return self.tell_tier(self.tier + 1, Phase::Escalate, step, out);
        }
        let last = path.tier(self.tier).to.as_str();
        let recipients: Vec<String> = if self.confirmed {
            vec![last.to_owned()]
        } else {
            // Somebody of an earlier tier may be back within reach.
            path.recipients().map(str::to_owned).collect()
        };
        for to in &recipients {
            self.add_told(to);
        }
        self.begin_wait(step);
        self.tell(&recipients, Phase::Continue, step, out);
    }

    fn tell_tier(&mut self, tier: usize, phase: Phase, step: Step<'_>, out: &mut Vec<Output>) {
        self.tier = tier;
        let to = step.paths.of(self.condition.priority).tier(tier).to.clone();
        self.add_told(&to);
        self.begin_wait(step);
        self.tell(&[to], phase, step, out);
    }

    fn begin_wait(&mut self, step: Step<'_>) {
        self.sent = step.now;
        self.confirmed = false;
        self.on_its_way = false;
        self.reschedule(step);
    }

    fn add_told(&mut self, to: &str) {
        if !self.told.iter().any(|told| told == to) {
            self.told.push(to.to_owned());
        }
    }

    fn tell_all(&mut self, phase: Phase, step: Step<'_>, out: &mut Vec<Output>) {
        let told = std::mem::take(&mut self.told);
        self.tell(&told, phase, step, out);
        self.told = told;
    }

    fn finish(&mut self, step: Step<'_>, out: &mut Vec<Output>) {
        self.state = State::Inactive;
        self.due = None;
        self.tell_all(Phase::End, step, out);
    }

    /// One step: a message to each of `recipients`, and the retained state.
    fn tell(&mut self, recipients: &[String], phase: Phase, step: Step<'_>, out: &mut Vec<Output>) {
        self.revision = self.revision.saturating_add(1);
        let Condition { unit, bed, condition, .. } = &self.condition;
        let mut alert = self.payload(phase, step);
        for to in recipients {
            alert.to.clone_from(to);
            out.push(Output {
                topic: format!("alerts/{unit}/{to}/{}/{bed}/{condition}", alert.priority),
                payload: alert.json(),
                qos: 1,
                retain: false,
                content_type: Some(JSON),
                response_topic: Some(alert.respond.clone()),
                correlation: Some(self.id.clone()),
            });
        }
        if !step.owner {
            return;
        }
        let topic = format!("alarms/{unit}/{bed}/{condition}");
        if self.is_over() {
            out.push(Output { topic, qos: 1, retain: true, ..Output::default() });
        } else {
            alert.to.clone_from(&step.paths.of(self.condition.priority).tier(self.tier).to);
            out.push(Output {
                topic,
                payload: alert.json(),
                qos: 1,
                retain: true,
                content_type: Some(JSON),
                ..Output::default()
            });
        }
    }

    fn payload(&self, phase: Phase, step: Step<'_>) -> Alert {
        let Condition { unit, bed, .. } = &self.condition;
        let condition = self.condition.clone();
        let text = match condition.mode {
            Mode::Real => condition.text,
            Mode::Demo => format!("DEMO: {}", condition.text),
            Mode::Test => format!("TEST: {}", condition.text),
        };
        let deadline = match self.state {
            State::Active | State::Latched => self.answer_by(step),
            State::Shelved => self.due,
            State::Acknowledged | State::Inactive => None,
        };
        Alert {
            respond: format!("responses/{unit}/{bed}/{}", self.id),
            alert: self.id.clone(),
            revision: self.revision,
            phase,
            state: self.state,
            priority: condition.priority,
            kind: condition.kind,
            unit: condition.unit,
            bed: condition.bed,
            condition: condition.condition,
            signal: condition.signal,
            mdc: condition.mdc,
            value: condition.value,
            ucum: condition.ucum,
            limit: condition.limit,
            limit_by: condition.limit_by,
            tier: u32::try_from(self.tier).unwrap_or(u32::MAX).saturating_add(1),
            to: String::new(),
            since: condition.since,
            at: step.now,
            deadline,
            mode: condition.mode,
            text,
            by: self.by.clone(),
            answer: self.answer,
        }
    }

    /// When the current tier's time to answer is up.
    fn answer_by(&self, step: Step<'_>) -> Option<Timestamp> {
        let wait = step.paths.of(self.condition.priority).tier(self.tier).wait;
        wait.map(|wait| after(self.sent, wait))
    }

    fn reschedule(&mut self, step: Step<'_>) {
        let path = step.paths.of(self.condition.priority);
        self.due = match self.state {
            State::Acknowledged | State::Inactive => None,
            State::Shelved => self.due,
            State::Active | State::Latched if self.confirmed => {
                let rejected = self.answer == Some(AnswerWord::Rejected);
                self.answer_by(step).or_else(|| rejected.then(|| after(self.sent, RETRY_EVERY)))
            }
            State::Active | State::Latched => {
                let confirm_by = if self.tier < path.last() { path.confirm } else { RETRY_EVERY };
                let confirm_by = after(self.sent, confirm_by);
                Some(self.answer_by(step).map_or(confirm_by, |answer_by| answer_by.min(confirm_by)))
            }
        };
    }
}
