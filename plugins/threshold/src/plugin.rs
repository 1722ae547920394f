//! The plugin: topics in, conditions out, timers between.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use wardline_plugin_api::reading::{self, Reading};
use wardline_plugin_api::signal::Signal;
use wardline_plugin_api::{Input, Message, NotASnapshot, Output, Plugin, Refusal};

use crate::admission::Admission;
use crate::bed::Bed;
use crate::limits::PatientLimit;
use crate::rules::Policy;

/// Beds that are watched. A reading, limit or admission for one more is refused, with quota exceeded; nothing
/// known is forgotten for it.
pub const BEDS_MAX: usize = 65_536;

const NAME: &str = "threshold";
const TELEMETRY: &str = "telemetry/";
const LIMITS: &str = "limits/";
const ADMISSIONS: &str = "admissions/";

/// MQTT 5 reason codes.
const NOT_AUTHORIZED: u8 = 0x87;
const TOPIC_NAME_INVALID: u8 = 0x90;
const QUOTA_EXCEEDED: u8 = 0x97;

/// Watches the limits of every bed.
#[derive(Debug)]
pub struct Threshold {
    policy: Policy,
    beds: Vec<Bed>,
    /// Place in `beds` of `unit/bed`.
    places: HashMap<Box<str>, usize>,
    /// When, bed, stream: at most one for each stream.
    timers: BTreeSet<(Timestamp, usize, u64)>,
}

impl Threshold {
    /// Under these rules, knowing nobody yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, beds: Vec::new(), places: HashMap::new(), timers: BTreeSet::new() }
    }

    fn telemetry(
        &mut self,
        topic: &Telemetry<'_>,
        message: &Message<'_>,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let mut readings: [Option<Reading>; 1] = [None];
        let mut more: Vec<Reading> = Vec::new();
        // Nearly every payload is one reading: no allocation for it.
        let mut each = |reading: Reading| match &mut readings {
            [first @ None] => *first = Some(reading),
            _ => more.push(reading),
        };
        let signal = match topic.signal {
            None => None,
            Some(name) => match Signal::named(name) {
                Some(signal) if self.concerns(topic.place, signal) => Some(signal),
                _ => return,
            },
        };
        let parsed = reading::parse(signal, message.payload, now, &mut each);
        if parsed.is_err() {
            if (signal.is_some() || !self.policy.is_empty())
                && let Some(bed) = self.bed(topic.place)
            {
                bed.unreadable(topic.device, signal, message.offset, now, out);
            }
            return;
        }
        if signal.is_none()
            && let Some(bed) = self.places.get(topic.place).and_then(|place| self.beds.get_mut(*place))
        {
            bed.readable(topic.device, message.offset, now, out);
        }
        for reading in readings.into_iter().flatten().chain(more) {
            self.reading(topic, &reading, message.offset, now, out);
        }
    }

    fn reading(
        &mut self,
        topic: &Telemetry<'_>,
        reading: &Reading,
        offset: u64,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        if !self.concerns(topic.place, reading.signal) {
            return;
        }
        let Some(place) = self.place(topic.place) else { return };
        let Some(bed) = self.beds.get_mut(place) else { return };
        if let Some((due, stream)) = bed.reading(&self.policy, topic.device, reading, offset, now, out) {
            self.timers.insert((due, place, stream));
        }
    }

    /// Whether a rule or a limit of the patient is about this signal.
    fn concerns(&self, place: &str, signal: &Signal) -> bool {
        let bed = || self.places.get(place).and_then(|place| self.beds.get(*place));
        self.policy.watches(signal) || bed().is_some_and(|bed| bed.limits(signal))
    }

    fn set_limit(&mut self, message: &Message<'_>, now: Timestamp, out: &mut Vec<Output>) {
        let Ok((topic, limit)) = limit(message) else { return };
        let Some(place) = self.place(topic.place) else { return };
        if let Some(bed) = self.beds.get_mut(place) {
            bed.set_limit(&self.policy, topic.signal, limit, message.offset, now, out);
        }
    }

    fn admission(&mut self, message: &Message<'_>, now: Timestamp, out: &mut Vec<Output>) {
        let (Ok(place), Ok(admission)) = (admission_place(message.topic), Admission::parse(message.payload))
        else {
            return;
        };
        let Some(bed) = self.bed(place) else { return };
        match admission {
            Some(Admission { profile, patient }) => bed.admit(profile, patient, out),
            None => bed.discharge(message.offset, now, out),
        }
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        while let Some(&(due, place, stream)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            let Some(bed) = self.beds.get_mut(place) else { continue };
            if let Some((due, stream)) = bed.silence(&self.policy, stream, now, out) {
                self.timers.insert((due, place, stream));
            }
        }
    }

    fn bed(&mut self, place: &str) -> Option<&mut Bed> {
        let place = self.place(place)?;
        self.beds.get_mut(place)
    }

    /// The place of a bed, made if it is new and there is room.
    fn place(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        if self.beds.len() >= BEDS_MAX {
            return None;
        }
        self.beds.push(Bed::new(name));
        self.places.insert(name.into(), self.beds.len() - 1);
        Some(self.beds.len() - 1)
    }

    fn room(&self, place: &str) -> Result<(), Refusal> {
        if self.beds.len() < BEDS_MAX || self.places.contains_key(place) {
            return Ok(());
        }
        Err(Refusal {
            code: QUOTA_EXCEEDED,
            reason: format!("{BEDS_MAX} beds are watched already; {place} is one too many"),
        })
    }
}

impl Plugin for Threshold {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interests(&self) -> Vec<String> {
        [TELEMETRY, LIMITS, ADMISSIONS].map(|root| format!("{root}#")).into()
    }

    fn admit(&self, message: &Message<'_>) -> Result<(), Refusal> {
        if let Some(topic) = Telemetry::parse(message.topic) {
            return self.room(topic.place);
        }
        if message.topic.starts_with(LIMITS) {
            let (topic, limit) = limit(message)?;
            self.room(topic.place)?;
            let bed = self.places.get(topic.place).and_then(|place| self.beds.get(*place));
            let profile = bed.map(Bed::profile).unwrap_or_default();
            return limit.map_or(Ok(()), |limit| limit.judge(topic.signal, profile, &self.policy));
        }
        if message.topic.starts_with(ADMISSIONS) {
            self.room(admission_place(message.topic)?)?;
            Admission::parse(message.payload)?;
        }
        Ok(())
    }

    fn handle(&mut self, input: Input<'_>, now: Timestamp, out: &mut Vec<Output>) {
        match input {
            Input::Message(message) => {
                if let Some(topic) = Telemetry::parse(message.topic) {
                    self.telemetry(&topic, &message, now, out);
                } else if message.topic.starts_with(LIMITS) {
                    self.set_limit(&message, now, out);
                } else if message.topic.starts_with(ADMISSIONS) {
                    self.admission(&message, now, out);
                }
            }
            Input::Receipt(_) => {}
            Input::Tick => self.tick(now, out),
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first().map(|(due, ..)| *due)
    }

    fn snapshot(&self) -> Vec<u8> {
        wardline_plugin_api::json(&self.beds)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), NotASnapshot> {
        self.beds = serde_json::from_slice(snapshot)
            .map_err(|error| NotASnapshot { plugin: NAME, why: error.to_string() })?;
        self.places = self.beds.iter().enumerate().map(|(place, bed)| (bed.place().into(), place)).collect();
        self.timers.clear();
        for (place, bed) in self.beds.iter_mut().enumerate() {
            self.timers
                .extend(bed.timers(&self.policy).into_iter().map(|(due, stream)| (due, place, stream)));
        }
        Ok(())
    }
}

/// `telemetry/{unit}/{bed}/{device}` and, with a signal, one level more. Other depths are not readings.
struct Telemetry<'a> {
    /// `unit/bed`
    place: &'a str,
    device: &'a str,
    signal: Option<&'a str>,
}

impl<'a> Telemetry<'a> {
    fn parse(topic: &'a str) -> Option<Self> {
        let (place, rest) = split_place(topic.strip_prefix(TELEMETRY)?)?;
        let (device, signal) = match rest?.split_once('/') {
            None => (rest?, None),
            Some((device, signal)) => (device, Some(signal)),
        };
        (!device.is_empty()).then_some(Self { place, device, signal })
    }
}

struct LimitTopic<'a> {
    place: &'a str,
    signal: &'static Signal,
}

/// Topic and payload of a patient's limit; no limit where the payload is empty.
fn limit<'a>(message: &Message<'a>) -> Result<(LimitTopic<'a>, Option<PatientLimit>), Refusal> {
    let refuse = |code, reason: &str| Refusal { code, reason: reason.to_owned() };
    if message.principal.starts_with("device:") {
        return Err(refuse(NOT_AUTHORIZED, "a device does not set limits; a person or a service does"));
    }
    let (place, signal) = message
        .topic
        .strip_prefix(LIMITS)
        .and_then(split_place)
        .and_then(|(place, signal)| Some((place, signal?)))
        .ok_or_else(|| refuse(TOPIC_NAME_INVALID, "limits are set on limits/{unit}/{bed}/{signal}"))?;
    let signal = Signal::named(signal).ok_or_else(|| {
        refuse(TOPIC_NAME_INVALID, &format!("there is no signal {signal:?} that a limit could be set for"))
    })?;
    let limit = match message.payload {
        [] => None,
        payload => Some(PatientLimit::parse(signal, payload, message.principal)?),
    };
    Ok((LimitTopic { place, signal }, limit))
}

fn admission_place(topic: &str) -> Result<&str, Refusal> {
    match topic.strip_prefix(ADMISSIONS).and_then(split_place) {
        Some((place, None)) => Ok(place),
        _ => Err(Refusal {
            code: TOPIC_NAME_INVALID,
            reason: "an admission is published on admissions/{unit}/{bed}".to_owned(),
        }),
    }
}

/// `unit/bed` and what follows it, if both are there.
fn split_place(levels: &str) -> Option<(&str, Option<&str>)> {
    let (unit, rest) = levels.split_once('/')?;
    let bed = rest.split('/').next()?;
    if unit.is_empty() || bed.is_empty() {
        return None;
    }
    let end = unit.len() + 1 + bed.len();
    Some((levels.get(..end)?, levels.get(end + 1..)))
}
