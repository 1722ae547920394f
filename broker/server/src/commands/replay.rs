//! `wardline replay`: recorded readings through rules, with no broker and no clock but the file's.
//!
//! The plugins are the broker's own. Every pager is within reach and confirms at once; nobody ever answers.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use wardline_plugin_api::alert::Alert;
use wardline_plugin_api::{Message, Output, Phase, Priority, Receipt, ReceiptStep, State, number};

use super::{Failure, Outcome};
use crate::host::Host;
use crate::recording::{Mapping, Recording, RecordingError};
use crate::rules;

/// Alert ids begin with the node's id; a replay has no node, and calls itself the first.
const NODE: u16 = 1;

/// Who publishes the recorded readings.
const DEVICE: &str = "replay";

/// Options of `wardline replay`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Rules to try
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// Recorded readings: first column t_s, in seconds; an empty cell is no reading
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,
    /// What a column holds, where its name does not say so; may be repeated
    #[arg(long, value_name = "COLUMN=signal", num_args = 1..)]
    map: Vec<Mapping>,
    /// Where the patient lies
    #[arg(long, value_name = "UNIT/BED", default_value = "replay/1")]
    bed: Place,
    /// Whose limits apply
    #[arg(long, default_value = "adult", value_parser = ["adult", "paediatric", "neonate"])]
    profile: String,
}

/// `unit/bed`
#[derive(Clone, Debug)]
struct Place(String);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((unit, bed))
                if !unit.is_empty()
                    && !bed.is_empty()
                    && !text.contains(['+', '#', '\0'])
                    && !bed.contains('/') =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(format!("'{text}' is not UNIT/BED, as in icu-3/b12")),
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    let rules = rules::load(&args.rules).map_err(|error| Failure::usage(error.to_string()))?;
    let recording = Recording::open(&args.csv, &args.map).map_err(|error| match error {
        RecordingError::Line { .. } if !args.map.is_empty() => Failure::usage(error.to_string()),
        error => Failure::failed(error.to_string()),
    })?;
    let mut stderr = io::stderr().lock();
    for column in recording.ignored_columns() {
        // Nobody is left to tell if standard error is closed.
        let _ = writeln!(
            stderr,
            "wardline: column {column} is not read; say what it holds with --map {column}=signal"
        );
    }
    let mut replay =
        Replay::new(Host::new(rules::plugins(&rules)), &args.bed.0, BufWriter::new(io::stdout().lock()));
    let played =
        replay.play(recording, &args.profile).and_then(|()| replay.lines.flush().map_err(Stop::Write));
    match played {
        Err(Stop::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Err(stop) => return Err(Failure::failed(stop.to_string())),
        Ok(()) => {}
    }
    let _ = write!(stderr, "{}", replay.summary);
    Ok(())
}

/// Why it ended before the recording did.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Read(#[from] RecordingError),
    #[error("t_s = {0} lies beyond what a clock can show")]
    Time(f64),
    #[error("cannot write to standard output: {0}")]
    Write(#[from] io::Error),
}

/// A step of an alert, as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "number::serialize")]
    t_s: Option<f64>,
    phase: Phase,
    condition: &'a str,
    priority: Priority,
    #[serde(serialize_with = "number::serialize")]
    value: Option<f64>,
    #[serde(serialize_with = "number::serialize")]
    limit: Option<f64>,
    alert: &'a str,
    state: State,
    tier: u32,
    to: &'a str,
    text: &'a str,
}

struct Replay<'a, W> {
    host: Host,
    place: &'a str,
    lines: W,
    /// Of the next publish.
    offset: u64,
    queue: VecDeque<(usize, Output)>,
    said: Vec<(usize, Output)>,
    /// Last step printed: a step that tells several people is printed once.
    printed: Option<(String, u32)>,
    summary: Summary,
}

impl<'a, W: Write> Replay<'a, W> {
    fn new(host: Host, place: &'a str, lines: W) -> Self {
        Self {
            host,
            place,
            lines,
            offset: 0,
            queue: VecDeque::new(),
            said: Vec::new(),
            printed: None,
            summary: Summary::default(),
        }
    }

    fn play<R: BufRead>(&mut self, recording: Recording<R>, profile: &str) -> Result<(), Stop> {
        let admission = format!(r#"{{"profile":"{profile}"}}"#);
        self.publish(
            &format!("admissions/{}", self.place),
            admission.as_bytes(),
            "service:replay",
            Timestamp::MIN,
        )?;
        for reading in recording {
            let reading = reading?;
            let now = moment(reading.t_s)?;
            while let Some(due) = self.host.next_deadline().filter(|due| *due <= now) {
                self.host.tick(due, &mut self.said);
                self.settle(due)?;
            }
            let topic = format!("telemetry/{}/{DEVICE}/{}", self.place, reading.signal.name);
            self.publish(&topic, reading.value.to_string().as_bytes(), "device:replay", now)?;
        }
        Ok(())
    }

    fn publish(&mut self, topic: &str, payload: &[u8], principal: &str, now: Timestamp) -> Result<(), Stop> {
        let message = Message { node: NODE, offset: self.offset, topic, payload, principal };
        self.offset += 1;
        self.host.message(&message, now, &mut self.said);
        self.settle(now)
    }

    /// Publishes what the plugins say until they are silent.
    fn settle(&mut self, now: Timestamp) -> Result<(), Stop> {
        self.queue.extend(self.said.drain(..));
        while let Some((_, output)) = self.queue.pop_front() {
            let message = Message {
                node: NODE,
                offset: self.offset,
                topic: &output.topic,
                payload: &output.payload,
                principal: "plugin:replay",
            };
            self.offset += 1;
            self.host.message(&message, now, &mut self.said);
            if let Some(alert) = output.correlation.as_deref().filter(|_| output.topic.starts_with("alerts/"))
            {
                self.print(&output.payload, now)?;
                for step in [ReceiptStep::Sent, ReceiptStep::Confirmed] {
                    let receipt = Receipt { topic: &output.topic, alert, step, principal: "staff:replay" };
                    self.host.receipt(&receipt, now, &mut self.said);
                }
            }
            self.queue.extend(self.said.drain(..));
        }
        Ok(())
    }

    fn print(&mut self, payload: &[u8], now: Timestamp) -> Result<(), Stop> {
        let alert: Alert = serde_json::from_slice(payload).map_err(io::Error::from)?;
        let step = (alert.alert.clone(), alert.revision);
        if self.printed.as_ref() == Some(&step) {
            return Ok(());
        }
        self.printed = Some(step);
        self.summary.count(&alert);
        let line = Line {
            t_s: Some(seconds(now)),
            phase: alert.phase,
            condition: &alert.condition,
            priority: alert.priority,
            value: alert.value,
            limit: alert.limit,
            alert: &alert.alert,
            state: alert.state,
            tier: alert.tier,
            to: &alert.to,
            text: &alert.text,
        };
        serde_json::to_writer(&mut self.lines, &line).map_err(io::Error::from)?;
        self.lines.write_all(b"\n")?;
        Ok(())
    }
}

/// Seconds of the recording as a moment, to the microsecond.
fn moment(t_s: f64) -> Result<Timestamp, Stop> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float that is too large saturates, and is refused"
    )]
    let microsecond = (t_s * 1e6).round() as i64;
    Timestamp::from_microsecond(microsecond).map_err(|_| Stop::Time(t_s))
}

/// Back to seconds of the recording.
fn seconds(at: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for the 285 years around the start of a recording")]
    let microsecond = at.as_microsecond() as f64;
    microsecond / 1e6
}

/// What is said at the end.
#[derive(Default)]
struct Summary {
    begun: BTreeMap<String, u64>,
    /// Condition of each open alert.
    open: BTreeMap<String, String>,
}

impl Summary {
    fn count(&mut self, alert: &Alert) {
        if alert.phase == Phase::Start {
            *self.begun.entry(alert.condition.clone()).or_default() += 1;
            self.open.insert(alert.alert.clone(), alert.condition.clone());
        }
        if alert.state == State::Inactive {
            self.open.remove(&alert.alert);
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.open.is_empty() {
            let open: Vec<_> =
                self.open.iter().map(|(alert, condition)| format!("{condition} ({alert})")).collect();
            writeln!(f, "open at the end of the recording: {}", open.join(", "))?;
        }
        write!(f, "alerts {}", self.begun.values().sum::<u64>())?;
        for (place, (condition, count)) in self.begun.iter().enumerate() {
            write!(f, "{} {condition} {count}", if place == 0 { ":" } else { "," })?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: &str =
        "[[limit]]\nsignal = \"hr\"\nlow = 52\nseverity = \"death\"\nonset = \"prompt\"\ndelay = \"2s\"\n";

    fn replay(rules: &str, csv: &str) -> (Vec<serde_json::Value>, String) {
        let host = Host::new(rules::plugins(&rules::parse(rules).unwrap()));
        let mut lines = Vec::new();
        let mut replay = Replay::new(host, "icu/b1", &mut lines);
        replay.play(Recording::read(csv.as_bytes(), "x.csv", &[]).unwrap(), "adult").unwrap();
        let summary = replay.summary.to_string();
        let lines = String::from_utf8(lines).unwrap();
        (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), summary)
    }

    fn steps(lines: &[serde_json::Value]) -> Vec<(f64, &str, &str)> {
        lines
            .iter()
            .map(|l| (l["t_s"].as_f64().unwrap(), l["phase"].as_str().unwrap(), l["to"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn without_escalation_an_alert_starts_and_ends_in_the_time_of_the_file() {
        let (lines, summary) = replay(LIMIT, "t_s,hr\n0.5,60\n1.5,50\n2.5,49\n3.5,48\n300,47\n301,60\n");
        assert_eq!(steps(&lines), [(3.5, "start", "nurse"), (301.0, "end", "nurse")]);
        assert_eq!((&lines[0]["value"], &lines[0]["limit"]), (&48.into(), &52.into()));
        assert_eq!(summary, "alerts 1: hr-low 1\n");
    }

    #[test]
    fn with_escalation_it_climbs_between_readings_and_stays_open() {
        let rules = format!(
            "{LIMIT}[[escalation]]\npriority = \"high\"\ntiers = [{{ to = \"nurse\", wait = \"30s\" }}, {{ to = \"charge\", wait = \"60s\" }}]\n"
        );
        let (lines, summary) = replay(&rules, "t_s,hr\n0,50\n1,50\n2,50\n100,50\n");
        assert_eq!(
            steps(&lines),
            [(2.0, "start", "nurse"), (32.0, "escalate", "charge"), (92.0, "continue", "charge")]
        );
        assert_eq!(summary, "open at the end of the recording: hr-low (n1-4)\nalerts 1: hr-low 1\n");
    }

    #[test]
    fn two_runs_agree() {
        let csv = "t_s,hr,spo2\n0,50,0\n1,50,90\n2,50,0\n3,60,88\n100,10,0\n102.5,10,\n";
        assert_eq!(replay(LIMIT, csv), replay(LIMIT, csv));
    }

    #[test]
    fn a_bed_is_a_unit_and_a_bed() {
        assert!("icu-3/b12".parse::<Place>().is_ok());
        for wrong in ["icu", "icu/", "/b", "a/b/c", "a/+"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
