//! The plugin: topics in, conditions out, timers between.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use wardline_plugin_api::reading::{self, Reading};
use wardline_plugin_api::signal::Signal;
use wardline_plugin_api::{Input, Message, NotASnapshot, Output, Plugin, Refusal};

use crate::admission::Admission;
use crate::bed::Bed;
use crate::limits::PatientLimit;
use crate::rules::Policy;
use crate::topics::{self, ADMISSIONS, LIMITS, TELEMETRY, Telemetry};

/// Beds that are watched. A reading, limit or admission for one more is refused, with quota exceeded; nothing
/// known is forgotten for it.
pub const BEDS_MAX: usize = 65_536;

const NAME: &str = "threshold";

/// MQTT 5 reason codes.
const NOT_AUTHORIZED: u8 = 0x87;
const TOPIC_NAME_INVALID: u8 = 0x90;
const QUOTA_EXCEEDED: u8 = 0x97;

/// Watches the limits of every bed.
#[derive(Debug)]
pub struct Threshold {
    policy: Policy,
    beds: Vec<Bed>,
    /// Place in `beds` of `unit/bed`. The hash is seeded at random and seen by nobody, so that no device can choose names that
    /// collide.
    places: HashMap<Box<str>, usize, RandomState>,
    /// When, bed, stream: at most one for each stream.
    timers: BTreeSet<(Timestamp, usize, u64)>,
}

impl Threshold {
    /// Under these rules, knowing nobody yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, beds: Vec::new(), places: HashMap::default(), timers: BTreeSet::new() }
    }

    fn telemetry(
        &mut self,
        topic: &Telemetry<'_>,
        message: &Message<'_>,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let (payload, offset) = (message.payload, message.offset);
        if let Some(name) = topic.signal {
            let Some(signal) = Signal::named(name).filter(|signal| self.concerns(topic.place, signal)) else {
                return;
            };
            let mut each = |reading: Reading| self.reading(topic, &reading, offset, now, out);
            if reading::parse(Some(signal), payload, now, &mut each).is_err()
                && let Some(bed) = self.bed(topic.place)
            {
                bed.unreadable(topic.device, Some(signal), offset, now, out);
            }
            return;
        }
        let mut readings: Vec<Reading> = Vec::new();
        if reading::parse(None, payload, now, &mut |reading| readings.push(reading)).is_err() {
            if !self.policy.is_empty()
                && let Some(bed) = self.bed(topic.place)
            {
                bed.unreadable(topic.device, None, offset, now, out);
            }
            return;
        }
        if let Some(bed) = self.places.get(topic.place).and_then(|place| self.beds.get_mut(*place)) {
            bed.readable(topic.device, offset, now, out);
        }
        for reading in &readings {
            self.reading(topic, reading, offset, now, out);
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
        // A reading is refused for nothing but a bed too many.
        if self.beds.len() >= BEDS_MAX
            && let Some(topic) = Telemetry::parse(message.topic)
        {
            self.room(topic.place)?;
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
    let (place, signal) = topics::limit(message.topic)
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
    topics::admission(topic).ok_or_else(|| Refusal {
        code: TOPIC_NAME_INVALID,
        reason: "an admission is published on admissions/{unit}/{bed}".to_owned(),
    })
}
