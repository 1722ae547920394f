//! The sentences and the messages that conditions are told in.

use std::time::Duration;

use jiff::Timestamp;
use wardline_plugin_api::condition::{Change, Condition};
use wardline_plugin_api::reading::Fault;
use wardline_plugin_api::signal::Signal;
use wardline_plugin_api::span::{Spoken, between};
use wardline_plugin_api::{Kind, Mode, Priority};

use crate::machine::{Criterion, Side, Turn};

/// Priority of data that cannot be used. If it lasts, the absence rule speaks louder.
const INVALID_PRIORITY: Priority = Priority::Low;

/// The limit that a value was held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitInForce<'a> {
    pub(crate) criterion: Option<Criterion>,
    pub(crate) by: &'a str,
}

/// Where and when something was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding<'a> {
    /// `unit/bed`
    pub(crate) place: &'a str,
    pub(crate) mode: Mode,
    pub(crate) device: &'a str,
    pub(crate) offset: Option<u64>,
    pub(crate) at: Timestamp,
}

impl Finding<'_> {
    pub(crate) fn limit(
        &self,
        signal: &Signal,
        side: Side,
        turn: Turn,
        value: Option<f64>,
        limit: &LimitInForce<'_>,
    ) -> Condition {
        let (phase, since) = match turn {
            Turn::Begin { since } => (Change::Begin, since),
            Turn::Relimit { since } => (Change::Update, since),
            Turn::End { since } => (Change::End, since),
        };
        let unit = spoken_unit(signal.ucum);
        let label = signal.label;
        let lasted = between(since, self.at);
        let text = match (phase, value, limit.criterion) {
            (Change::End, Some(value), Some(_)) => format!("{label} back at {value} {unit}{}", after(lasted)),
            (Change::End, _, _) => format!("{label} {side} limit switched off by {}", limit.by),
            (Change::Update, Some(value), Some(criterion)) => {
                format!("{label} {value} {unit}, {side} limit now {} {unit} by {}", criterion.limit, limit.by)
            }
            (_, value, criterion) => {
                let beyond = match side {
                    Side::Low => "below",
                    Side::High => "above",
                };
                let limit = criterion.map_or_else(String::new, |c| format!(" {beyond} {} {unit}", c.limit));
                let held =
                    if lasted.as_secs() == 0 { String::new() } else { format!(" for {}", Spoken(lasted)) };
                format!("{label} {} {unit}{limit}{held}", value.unwrap_or_default())
            }
        };
        let priority = limit.criterion.map_or(Priority::Low, |criterion| criterion.priority);
        Condition {
            phase,
            priority,
            lethal: limit.criterion.is_some_and(|criterion| criterion.lethal),
            kind: Kind::Physiological,
            value,
            limit: limit.criterion.map(|criterion| criterion.limit),
            limit_by: Some(limit.by.to_owned()),
            since,
            text,
            ..self.about(Some(signal), format!("{}-{side}", signal.name))
        }
    }

    pub(crate) fn absent(
        &self,
        signal: &Signal,
        priority: Priority,
        lethal: bool,
        phase: Change,
        since: Timestamp,
    ) -> Condition {
        let lasted = Spoken(between(since, self.at));
        let text = match phase {
            Change::End => format!("{} readings are back after {lasted}", signal.label),
            Change::Begin | Change::Update => format!("no {} reading for {lasted}", signal.label),
        };
        Condition {
            phase,
            priority,
            lethal,
            since,
            text,
            ..self.about(Some(signal), format!("{}-absent", signal.name))
        }
    }

    /// `signal` is none where the payload of a whole device could not be read.
    pub(crate) fn invalid(
        &self,
        signal: Option<&'static Signal>,
        phase: Change,
        since: Timestamp,
        fault: &Fault,
    ) -> Condition {
        let whose = signal
            .map_or_else(|| format!("data of device {}", self.device), |signal| signal.label.to_owned());
        let (text, value) = match (phase, fault) {
            (Change::End, _) => (format!("{whose} can be read again"), None),
            (_, Fault::Implausible(value)) => (format!("{whose} {fault}"), Some(*value)),
            (_, fault) => (format!("{whose} {fault}"), None),
        };
        let name =
            signal.map_or_else(|| "device-data".to_owned(), |signal| format!("{}-invalid", signal.name));
        Condition { phase, priority: INVALID_PRIORITY, value, since, text, ..self.about(signal, name) }
    }

    fn about(&self, signal: Option<&Signal>, condition: String) -> Condition {
        let (unit, bed) = self.place.split_once('/').unwrap_or((self.place, ""));
        Condition {
            unit: unit.to_owned(),
            bed: bed.to_owned(),
            condition,
            signal: signal.map(|signal| signal.name.to_owned()),
            mdc: signal.map(|signal| signal.mdc),
            phase: Change::Begin,
            priority: Priority::Low,
            lethal: false,
            kind: Kind::Technical,
            value: None,
            ucum: signal.map(|signal| signal.ucum.to_owned()),
            limit: None,
            limit_by: None,
            since: self.at,
            at: self.at,
            mode: self.mode,
            text: String::new(),
            offset: self.offset,
            device: Some(self.device.to_owned()),
        }
    }
}

fn after(lasted: Duration) -> String {
    if lasted.as_secs() == 0 { String::new() } else { format!(" after {}", Spoken(lasted)) }
}

/// UCUM is for machines.
fn spoken_unit(ucum: &str) -> &str {
    match ucum {
        "mm[Hg]" => "mmHg",
        "Cel" => "°C",
        other => other,
    }
}
