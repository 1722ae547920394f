//! One bed: its patient's limits, and a stream for each signal of each device in each mode.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wardline_plugin_api::condition::{Change, Condition};
use wardline_plugin_api::reading::{Fault, Reading};
use wardline_plugin_api::signal::{Signal, by_name};
use wardline_plugin_api::span::{after, between};
use wardline_plugin_api::{Mode, Output, Priority};

use crate::condition::Finding;
use crate::limits::{self, PatientLimit};
use crate::machine::{Machine, Side};
use crate::rules::{Policy, Profile};

/// Streams at one bed. One more takes the place of the one unheard for longest, of those whose conditions are
/// all quiet if there is any; a condition that so loses its stream stands until a person settles it.
pub const STREAMS_PER_BED_MAX: usize = 128;

/// A technical condition about unusable data begins at most once in this time for each stream, so that a
/// loose contact does not flood.
pub const INVALID_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bed {
    /// `unit/bed`
    place: Box<str>,
    profile: Profile,
    patient: Option<String>,
    /// Signal name and limits; at most one for each signal there is.
    limits: Vec<(String, PatientLimit)>,
    streams: Vec<Stream>,
    next_stream: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stream {
    id: u64,
    mode: Mode,
    device: Box<str>,
    /// None: the device as a whole, for payloads that could not be read.
    #[serde(with = "by_name")]
    signal: Option<&'static Signal>,
    /// By the broker's clock, good or not.
    heard: Timestamp,
    /// Last good reading, by the broker's clock; none before the first and after a discharge.
    good: Option<Timestamp>,
    /// Last good reading, by the clock that counts in this mode.
    sampled: Option<Timestamp>,
    low: Machine,
    high: Machine,
    invalid: Invalid,
    absent: bool,
    /// A timer for its absence is running.
    #[serde(skip)]
    timed: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Invalid {
    active: bool,
    began: Option<Timestamp>,
}

/// Whether a stream holds one certain condition.
type Holds = fn(&Stream) -> bool;

/// A timer to set: the stream whose absence is to be looked at, and when.
pub(crate) type Timer = (Timestamp, u64);

impl Bed {
    pub(crate) fn new(place: &str) -> Self {
        Self {
            place: place.into(),
            profile: Profile::default(),
            patient: None,
            limits: Vec::new(),
            streams: Vec::new(),
            next_stream: 0,
        }
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) const fn profile(&self) -> Profile {
        self.profile
    }

    /// Whether a limit was set for this patient.
    pub(crate) fn limits(&self, signal: &Signal) -> bool {
        patient_limit(&self.limits, signal).is_some()
    }

    /// Takes a reading; returns the timer that has to be set, if any.
    pub(crate) fn reading(
        &mut self,
        policy: &Policy,
        device: &str,
        reading: &Reading,
        offset: u64,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Option<Timer> {
        let at = match reading.mode {
            Mode::Real => now,
            Mode::Demo | Mode::Test => reading.at.unwrap_or(now),
        };
        let place = self.stream(reading.mode, device, Some(reading.signal), now);
        let Self { place: name, profile, limits, streams, .. } = self;
        let stream = streams.get_mut(place)?;
        let finding = Finding { place: name, mode: reading.mode, device, offset: Some(offset), at };
        let value = match &reading.value {
            Ok(value) => *value,
            Err(fault) => {
                out.extend(stream.fault(&finding, fault).map(|condition| condition.publish()));
                return None;
            }
        };

        let mut found: Vec<(Condition, Holds)> = Vec::new();
        if let Some(condition) = stream.readable(&finding) {
            found.push((condition, |other| other.invalid.active));
        }
        if std::mem::take(&mut stream.absent) {
            let since = stream.good.unwrap_or(now);
            // Absence is always of the broker's time.
            let finding = Finding { at: now, ..finding };
            let (priority, lethal) = policy
                .absence(reading.signal)
                .map_or((Priority::Low, false), |absence| (absence.priority, absence.lethal));
            let condition = finding.absent(reading.signal, priority, lethal, Change::End, since);
            found.push((condition, |other| other.absent));
        }
        let patient = patient_limit(limits, reading.signal);
        for side in Side::BOTH {
            let limit = limits::in_force(policy, *profile, patient, reading.signal, side, now);
            let sampled = stream.sampled;
            if let Some(turn) =
                stream.machine(side).sample(side, limit.criterion.as_ref(), value, at, sampled)
            {
                found.push((finding.limit(reading.signal, side, turn, Some(value), &limit), is_active(side)));
            }
        }
        stream.sampled = Some(at);
        stream.good = Some(now);
        let timer = stream.timer(policy);

        let id = stream.id;
        for (condition, holds) in found {
            let elsewhere = || {
                streams.iter().any(|other| {
                    other.id != id
                        && other.mode == reading.mode
                        && other.signal == Some(reading.signal)
                        && holds(other)
                })
            };
            if condition.phase != Change::End || !elsewhere() {
                out.push(condition.publish());
            }
        }
        timer
    }

    /// A payload of `device` that could not be read, about `signal` or about anything.
    pub(crate) fn unreadable(
        &mut self,
        device: &str,
        signal: Option<&'static Signal>,
        offset: u64,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        // Its mode cannot be read either: the one that the device used last, and a patient's if that is
        // unknown.
        let mode = self
            .streams
            .iter()
            .filter(|stream| *stream.device == *device && (signal.is_none() || stream.signal == signal))
            .max_by_key(|stream| stream.heard)
            .map_or(Mode::Real, |stream| stream.mode);
        let place = self.stream(mode, device, signal, now);
        let finding = Finding { place: &self.place, mode, device, offset: Some(offset), at: now };
        if let Some(stream) = self.streams.get_mut(place) {
            out.extend(stream.fault(&finding, &Fault::Malformed).map(|condition| condition.publish()));
        }
    }

    /// A payload of the whole device could be read.
    pub(crate) fn readable(&mut self, device: &str, offset: u64, now: Timestamp, out: &mut Vec<Output>) {
        for place in 0..self.streams.len() {
            let Some(stream) = self.streams.get_mut(place) else { return };
            if stream.signal.is_some() || *stream.device != *device || !stream.invalid.active {
                continue;
            }
            let (mode, id) = (stream.mode, stream.id);
            let finding = Finding { place: &self.place, mode, device, offset: Some(offset), at: now };
            let condition = stream.readable(&finding);
            let elsewhere = self.streams.iter().any(|other| {
                other.id != id && other.signal.is_none() && other.mode == mode && other.invalid.active
            });
            if !elsewhere {
                out.extend(condition.map(|condition| condition.publish()));
            }
        }
    }

    /// Looks whether a stream has fallen silent; returns when to look again, if to.
    pub(crate) fn silence(
        &mut self,
        policy: &Policy,
        id: u64,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Option<Timer> {
        let stream = self.streams.iter_mut().find(|stream| stream.id == id)?;
        stream.timed = false;
        let (signal, good) = (stream.signal?, stream.good?);
        let absence = policy.absence(signal)?;
        if stream.absent || now < after(good, absence.after) {
            return stream.timer(policy);
        }
        stream.absent = true;
        let finding =
            Finding { place: &self.place, mode: stream.mode, device: &stream.device, offset: None, at: now };
        out.push(finding.absent(signal, absence.priority, absence.lethal, Change::Begin, good).publish());
        None
    }

    /// The timers of all streams, after a restore.
    pub(crate) fn timers(&mut self, policy: &Policy) -> Vec<Timer> {
        self.streams.iter_mut().filter_map(|stream| stream.timer(policy)).collect()
    }

    /// Sets or clears the patient's limits of a signal. A condition whose limit is switched off is over.
    pub(crate) fn set_limit(
        &mut self,
        policy: &Policy,
        signal: &'static Signal,
        limit: Option<PatientLimit>,
        offset: u64,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        self.limits.retain(|(name, _)| name != signal.name);
        self.limits.extend(limit.map(|limit| (signal.name.to_owned(), limit)));
        let Self { place, profile, limits, streams, .. } = self;
        let patient = patient_limit(limits, signal);
        for side in Side::BOTH {
            let limit = limits::in_force(policy, *profile, patient, signal, side, now);
            if limit.criterion.is_some() {
                continue;
            }
            let mut told: Vec<Mode> = Vec::new();
            for stream in streams.iter_mut().filter(|stream| stream.signal == Some(signal)) {
                let Some(turn) = stream.machine(side).switch_off() else { continue };
                if !told.contains(&stream.mode) {
                    told.push(stream.mode);
                    let finding = Finding {
                        place,
                        mode: stream.mode,
                        device: &stream.device,
                        offset: Some(offset),
                        at: now,
                    };
                    out.push(finding.limit(signal, side, turn, None, &limit).publish());
                }
            }
        }
    }

    /// Somebody is in the bed, perhaps somebody else than before.
    pub(crate) fn admit(&mut self, profile: Profile, patient: Option<String>, out: &mut Vec<Output>) {
        self.profile = profile;
        if patient.is_none() {
            return;
        }
        if self.patient.is_some() && self.patient != patient {
            self.forget_limits(out);
        }
        self.patient = patient;
    }

    /// Nobody is in the bed. Silence and bad data no longer matter; a limit that stands violated waits for a
    /// person.
    pub(crate) fn discharge(&mut self, offset: u64, now: Timestamp, out: &mut Vec<Output>) {
        self.profile = Profile::default();
        self.patient = None;
        self.forget_limits(out);
        let mut ended: Vec<(Mode, String)> = Vec::new();
        for stream in &mut self.streams {
            let device = stream.device.clone();
            let finding = Finding {
                place: &self.place,
                mode: stream.mode,
                device: &device,
                offset: Some(offset),
                at: now,
            };
            let since = stream.good.unwrap_or(now);
            let absent = stream
                .signal
                .filter(|_| stream.absent)
                .map(|signal| finding.absent(signal, Priority::Low, false, Change::End, since));
            let invalid = stream.readable(&finding);
            stream.absent = false;
            stream.good = None;
            for mut condition in absent.into_iter().chain(invalid) {
                let name = (condition.mode, condition.condition.clone());
                if !ended.contains(&name) {
                    condition.text = "the patient was discharged".to_owned();
                    out.push(condition.publish());
                    ended.push(name);
                }
            }
        }
        self.streams.retain(Stream::is_standing);
    }

    /// The patient's limits go with the patient, also from the retained topics; so do delays that are
    /// running.
    fn forget_limits(&mut self, out: &mut Vec<Output>) {
        for (signal, _) in self.limits.drain(..) {
            let topic = format!("limits/{}/{signal}", self.place);
            out.push(Output { topic, qos: 1, retain: true, ..Output::default() });
        }
        for stream in &mut self.streams {
            stream.low.restart();
            stream.high.restart();
        }
    }

    /// The place of the stream, made if it is new.
    fn stream(&mut self, mode: Mode, device: &str, signal: Option<&'static Signal>, now: Timestamp) -> usize {
        let found = self.streams.iter().position(|stream| {
            stream.signal.map(Signal::index) == signal.map(Signal::index)
                && stream.mode == mode
                && *stream.device == *device
        });
        if let Some(place) = found {
            if let Some(stream) = self.streams.get_mut(place) {
                stream.heard = now;
            }
            return place;
        }
        if self.streams.len() >= STREAMS_PER_BED_MAX {
            let order = |(_, stream): &(usize, &Stream)| (!stream.is_quiet(), stream.heard, stream.id);
            if let Some((place, _)) = self.streams.iter().enumerate().min_by_key(order) {
                self.streams.remove(place);
            }
        }
        self.streams.push(Stream {
            id: self.next_stream,
            mode,
            device: device.into(),
            signal,
            heard: now,
            good: None,
            sampled: None,
            low: Machine::Normal,
            high: Machine::Normal,
            invalid: Invalid::default(),
            absent: false,
            timed: false,
        });
        self.next_stream += 1;
        self.streams.len() - 1
    }
}

impl Stream {
    fn machine(&mut self, side: Side) -> &mut Machine {
        match side {
            Side::Low => &mut self.low,
            Side::High => &mut self.high,
        }
    }

    fn is_standing(&self) -> bool {
        self.low.is_active() || self.high.is_active()
    }

    fn is_quiet(&self) -> bool {
        !(self.is_standing() || self.invalid.active || self.absent)
    }

    fn fault(&mut self, finding: &Finding<'_>, fault: &Fault) -> Option<Condition> {
        let recent = self
            .invalid
            .began
            .is_some_and(|began| between(began, finding.at) < INVALID_EVERY && began <= finding.at);
        if self.invalid.active || recent {
            return None;
        }
        self.invalid = Invalid { active: true, began: Some(finding.at) };
        Some(finding.invalid(self.signal, Change::Begin, finding.at, fault))
    }

    fn readable(&mut self, finding: &Finding<'_>) -> Option<Condition> {
        let since = self.invalid.began.unwrap_or(finding.at);
        std::mem::take(&mut self.invalid.active)
            .then(|| finding.invalid(self.signal, Change::End, since, &Fault::NotAvailable))
    }

    /// When to look for its absence, unless a timer is already running: one timer a stream, however often it
    /// reads.
    fn timer(&mut self, policy: &Policy) -> Option<Timer> {
        if self.timed || self.absent {
            return None;
        }
        let due = after(self.good?, policy.absence(self.signal?)?.after);
        self.timed = true;
        Some((due, self.id))
    }
}

const fn is_active(side: Side) -> Holds {
    match side {
        Side::Low => |stream| stream.low.is_active(),
        Side::High => |stream| stream.high.is_active(),
    }
}

fn patient_limit<'a>(limits: &'a [(String, PatientLimit)], signal: &Signal) -> Option<&'a PatientLimit> {
    limits.iter().find(|(name, _)| name == signal.name).map(|(_, limit)| limit)
}
