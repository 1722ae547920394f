//! `wardline simulate`: a ward of devices, from a model or a recording.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rumqttc::v5::mqttbytes::QoS;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use wardline_certs::TokenKey;
use wardline_plugin_api::Mode;

use super::{
    Failure, Outcome,
    token::{DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER},
};
use crate::{
    clock,
    recording::{Mapping, RecordedReading, Recording},
    simulate::{
        device::{Device, Tally},
        identity::{BrokerUrl, Credentials, Identity, TokenTerms},
        link::WINDOW,
        model::{Course, Patient},
        playback::Playback,
        reading::Place,
        ward::{Pace, measure},
    },
};

/// Most measurements of a monitor in a second, in the patient's time.
const RATE_HZ_MAX: f64 = 1000.0;

/// Beds of one ward: each is a connection.
const BEDS_MAX: u32 = 10_000;

/// Options of `wardline simulate`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The broker: mqtts://HOST:PORT, or mqtt://HOST:PORT without TLS
    #[arg(long, default_value = "mqtts://localhost:8883")]
    url: BrokerUrl,
    /// CA certificate that the broker's must chain to [default: ca.pem in --certs]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Folder with each device's device-ID.pem and device-ID.key
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Folder with each device's token, device-ID.jwt
    #[arg(long, value_name = "DIR", conflicts_with_all = ["token", "issue_from"])]
    token_dir: Option<PathBuf>,
    /// File with the token that every device uses
    #[arg(long, value_name = "FILE", conflicts_with = "issue_from")]
    token: Option<PathBuf>,
    /// Folder with token.key: issue the devices' tokens here and now, bound to their certificates
    #[arg(long, value_name = "DIR")]
    issue_from: Option<PathBuf>,
    /// Issuer of these tokens
    #[arg(long, default_value = DEVELOPMENT_ISSUER, requires = "issue_from")]
    issuer: String,
    /// Audience of these tokens
    #[arg(long, default_value = DEVELOPMENT_AUDIENCE, requires = "issue_from")]
    audience: String,
    /// What the readings are marked as: real, test or demo
    #[arg(long, default_value = "test", value_parser = parse_mode)]
    mode: Mode,
    /// Quality of service: 1 is acknowledged, 0 is not
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// Times faster than life; for a recording 0 or max is as fast as it is acknowledged
    #[arg(long, default_value = "1")]
    speed: Speed,
    /// Stop after this many seconds [default: at the end of the recording, or at Ctrl-C]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,

    /// Unit of the simulated ward
    #[arg(long, default_value = "icu-3", help_heading = "From the model")]
    unit: String,
    /// Beds of the simulated ward: b1, b2, …
    #[arg(long, default_value_t = 4, help_heading = "From the model")]
    beds: u32,
    /// Devices are called this and the number of their bed
    #[arg(long, default_value = "mon-", help_heading = "From the model")]
    device_prefix: String,
    /// Measurements a second, in the patient's time
    #[arg(long, default_value_t = 1.0, value_name = "HZ", help_heading = "From the model")]
    rate: f64,
    /// The same seed is the same patients
    #[arg(long, default_value_t = 1, help_heading = "From the model")]
    seed: u64,

    /// Recorded vitals: first column t_s in seconds, one column a signal, an empty cell is no reading
    #[arg(long, value_name = "FILE", requires_all = ["bed", "device"], help_heading = "From a recording")]
    csv: Option<PathBuf>,
    /// What a column holds; with any given, only the columns given are played
    #[arg(long, value_name = "COLUMN=SIGNAL", requires = "csv", help_heading = "From a recording")]
    map: Vec<Mapping>,
    /// Where the recording is played
    #[arg(long, value_name = "UNIT/BED", requires = "csv", help_heading = "From a recording")]
    bed: Option<String>,
    /// The device that plays it
    #[arg(long, value_name = "ID", requires = "csv", help_heading = "From a recording")]
    device: Option<String>,
    /// The time of the recording's second 0 [default: such that its first reading is now]
    #[arg(long, value_name = "TIMESTAMP", requires = "csv", help_heading = "From a recording")]
    base: Option<Timestamp>,
}

/// How much faster than life; none: without waiting.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Speed(Option<f64>);

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self(None));
        }
        match text.parse::<f64>() {
            Ok(0.0) => Ok(Self(None)),
            Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(Self(Some(speed))),
            _ => Err(format!("'{text}' is no speed; write 1 for life, 60 for a minute in a second, max")),
        }
    }
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    Mode::parse(text).ok_or_else(|| format!("'{text}' is no mode; it is real, test or demo"))
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    runtime.block_on(simulate(args))
}

async fn simulate(args: Args) -> Outcome {
    let source = Source::of(&args)?;
    let mut devices = Vec::new();
    for place in source.places() {
        let identity = identity(&args, &place.device)?;
        let qos = if args.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let device =
            Device::connect(identity, qos).await.map_err(|error| Failure::failed(error.to_string()))?;
        devices.push((place, device));
    }

    let began = Instant::now();
    let (stop, stopped) = watch::channel(false);
    // Never changes here: these patients are stable.
    let (_course, course) = watch::channel(Course::default());
    let mut running = JoinSet::new();
    for (number, (place, device)) in (1..).zip(devices) {
        let (sender, publishes) = mpsc::channel(WINDOW);
        running.spawn(device.run(publishes));
        match &source {
            Source::Model { pace, seed, .. } => {
                let patient = Patient::new(seed.wrapping_add(number));
                tokio::spawn(measure(place, patient, *pace, course.clone(), stopped.clone(), sender));
            }
            Source::Recording { playback, readings, .. } => {
                let (playback, readings, stopped) = (*playback, readings.clone(), stopped.clone());
                tokio::spawn(async move { playback.play(&place, &readings, stopped, sender).await });
            }
        }
    }
    let tally = finish(running, &stop, args.seconds.map(Duration::from_secs)).await?;
    conclude(&tally, began.elapsed())
}

/// Waits for every device; asks them to stop when the time is up or at Ctrl-C, and gives up at the second one.
async fn finish(
    mut running: JoinSet<Tally>,
    stop: &watch::Sender<bool>,
    limit: Option<Duration>,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let time_up = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time_up);
    loop {
        let stopping = *stop.borrow();
        tokio::select! {
            ended = running.join_next() => match ended {
                None => return Ok(tally),
                Some(Ok(one)) => tally.add(one),
                Some(Err(error)) => return Err(Failure::failed(format!("a device ended badly: {error}"))),
            },
            () = &mut time_up, if !stopping => { stop.send_replace(true); }
            _ = tokio::signal::ctrl_c() => {
                if stopping {
                    return Err(Failure::failed("interrupted before everything was acknowledged"));
                }
                stop.send_replace(true);
            }
        }
    }
}

fn conclude(tally: &Tally, elapsed: Duration) -> Outcome {
    let (published, acknowledged, lost) = (tally.published, tally.acknowledged, tally.lost());
    tell(&format!(
        "published {published} acknowledged {acknowledged} lost {lost} in {:.1} s",
        elapsed.as_secs_f64()
    ));
    if tally.repeated > 0 {
        tell(&format!(
            "sent again after a lost connection: {}, so the record may hold as many more",
            tally.repeated
        ));
    }
    if acknowledged == published {
        return Ok(());
    }
    let reason = tally.trouble.as_deref().unwrap_or("no reason was given");
    Err(Failure::failed(format!("{} refused, {lost} lost: {reason}", tally.refused)))
}

/// What is published, and where.
enum Source {
    Model { places: Vec<Place>, pace: Pace, seed: u64 },
    Recording { place: Place, playback: Playback, readings: std::sync::Arc<[RecordedReading]> },
}

impl Source {
    fn of(args: &Args) -> Result<Self, Failure> {
        match (&args.csv, &args.bed, &args.device) {
            (Some(csv), Some(bed), Some(device)) => Self::recording(args, csv, bed, device),
            _ => Self::model(args),
        }
    }

    fn model(args: &Args) -> Result<Self, Failure> {
        let Speed(Some(speed)) = args.speed else {
            return Err(Failure::usage(
                "--speed max is for a recording (--csv): a model has no end; give a number",
            ));
        };
        if !(args.rate > 0.0 && args.rate <= RATE_HZ_MAX) {
            return Err(Failure::usage(format!("--rate is above 0 and at most {RATE_HZ_MAX} Hz")));
        }
        if !(1..=BEDS_MAX).contains(&args.beds) {
            return Err(Failure::usage(format!("--beds is 1 to {BEDS_MAX}")));
        }
        let place = |number| Place {
            unit: args.unit.clone(),
            bed: format!("b{number}"),
            device: format!("{}{number}", args.device_prefix),
        };
        let step = Duration::from_secs_f64(1.0 / args.rate);
        let pace = Pace { step, speed, start: clock::now(), mode: args.mode };
        let places: Vec<_> = (1..=args.beds).map(place).collect();
        places.iter().try_for_each(check_levels)?;
        Ok(Self::Model { places, pace, seed: args.seed })
    }

    fn recording(args: &Args, csv: &Path, bed: &str, device: &str) -> Result<Self, Failure> {
        let (unit, bed) = bed
            .split_once('/')
            .ok_or_else(|| Failure::usage(format!("--bed is UNIT/BED, as in icu-3/b12, not '{bed}'")))?;
        let place = Place { unit: unit.to_owned(), bed: bed.to_owned(), device: device.to_owned() };
        check_levels(&place)?;
        // Read to its end before anything is published, so that a faulty file is not played by half.
        let recording = Recording::open(csv, &args.map).map_err(|error| Failure::usage(error.to_string()))?;
        if !recording.ignored_columns().is_empty() {
            tell(&format!("not played: columns {}", recording.ignored_columns().join(", ")));
        }
        let readings: Result<Vec<_>, _> = recording.collect();
        let readings = readings.map_err(|error| Failure::usage(error.to_string()))?;
        let first_t_s = readings.first().map_or(0.0, |reading| reading.t_s);
        let base = args.base.unwrap_or_else(|| starting_now(first_t_s));
        let playback = Playback { base, speed: args.speed.0, mode: args.mode };
        Ok(Self::Recording { place, playback, readings: readings.into() })
    }

    fn places(&self) -> Vec<Place> {
        match self {
            Self::Model { places, .. } => places.clone(),
            Self::Recording { place, .. } => vec![place.clone()],
        }
    }
}

/// The time of a recording's second 0, if its first reading, at `first_t_s`, is now.
fn starting_now(first_t_s: f64) -> Timestamp {
    let now = clock::now();
    now.checked_sub(SignedDuration::from_micros((first_t_s * 1e6) as i64)).unwrap_or(now)
}

/// Names become levels of a topic, and file names.
fn check_levels(place: &Place) -> Result<(), Failure> {
    match [&place.unit, &place.bed, &place.device].into_iter().find(|level| !is_level(level)) {
        None => Ok(()),
        Some(level) => Err(Failure::usage(format!(
            "'{level}' cannot be part of a topic: not empty, without / + # and spaces"
        ))),
    }
}

fn is_level(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|c: char| matches!(c, '/' | '+' | '#') || c.is_whitespace() || c.is_control())
}

fn identity(args: &Args, device: &str) -> Result<Identity, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::usage(error.to_string());
    let name = format!("device-{device}");
    let mut credentials =
        args.certs.as_deref().map(|dir| Credentials::in_dir(dir, &name)).unwrap_or_default();
    if let Some(ca) = &args.ca {
        credentials.ca = Some(ca.clone());
    }
    let token_file =
        args.token_dir.as_ref().map(|dir| dir.join(format!("{name}.jwt"))).or(args.token.clone());
    if let Some(path) = token_file {
        let token = std::fs::read_to_string(&path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        credentials.token = Some(token.trim().to_owned());
    }
    if let Some(dir) = &args.issue_from {
        let key = TokenKey::open(dir).map_err(|error| usage(&error))?;
        let terms = TokenTerms { issuer: args.issuer.clone(), audience: args.audience.clone() };
        let principal = format!("device:{device}");
        credentials.issue_token(&key, &terms, &principal, clock::now()).map_err(|error| usage(&error))?;
    }
    Identity::load(device, &args.url, &credentials).map_err(|error| usage(&error))
}

#[expect(clippy::print_stderr, reason = "the summary is for the person who typed the command")]
fn tell(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Result<Args, clap::Error> {
        Cli::try_parse_from(["simulate"].into_iter().chain(line.split_whitespace())).map(|cli| cli.args)
    }

    fn usage(line: &str) -> String {
        match Source::of(&args(line).unwrap()) {
            Err(Failure { status: 2, message }) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{line} was taken"),
        }
    }

    #[test]
    fn a_ward_has_a_device_at_each_bed() {
        let Ok(Source::Model { places, pace, .. }) =
            Source::of(&args("--beds 3 --rate 4 --speed 10").unwrap())
        else {
            panic!("not a model");
        };
        let devices: Vec<_> =
            places.iter().map(|place| (place.bed.as_str(), place.device.as_str())).collect();
        assert_eq!(devices, [("b1", "mon-1"), ("b2", "mon-2"), ("b3", "mon-3")]);
        assert_eq!((pace.step, pace.speed, pace.mode), (Duration::from_millis(250), 10.0, Mode::Test));
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_sent() {
        assert!(usage("--speed max").contains("is for a recording"));
        assert!(usage("--rate 0").contains("--rate"));
        assert!(usage("--rate nan").contains("--rate"));
        assert!(usage("--beds 0").contains("--beds"));
        assert!(usage("--unit icu/3").contains("'icu/3' cannot be part of a topic"));
        assert!(usage("--csv x.csv --bed b12 --device mon-12").contains("--bed is UNIT/BED"));
        assert!(usage("--csv /nonexistent.csv --bed icu-3/b12 --device mon-12").contains("/nonexistent.csv"));
        for wrong in
            ["--csv x.csv", "--map HR=hr", "--speed -1", "--speed inf", "--mode life", "--qos 2", "--url x"]
        {
            assert!(args(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_recording_is_read_to_its_end_first() {
        let dir = tempfile::tempdir().unwrap();
        let csv = dir.path().join("r.csv");
        std::fs::write(&csv, "t_s,HR_ecg,x\n100,57,1\n101,,1\n102,58,1\n").unwrap();
        let line =
            |map: &str| format!("--csv {} {map} --bed icu-3/b12 --device mon-12 --speed 0", csv.display());
        let base = "--map HR_ecg=hr --base 2026-01-01T00:00:00Z";
        let Ok(Source::Recording { place, playback, readings }) = Source::of(&args(&line(base)).unwrap())
        else {
            panic!("not a recording");
        };
        assert_eq!((place.bed.as_str(), playback.speed, readings.len()), ("b12", None, 2));
        assert_eq!(playback.base.to_string(), "2026-01-01T00:00:00Z");

        std::fs::write(&csv, "t_s,HR_ecg\n100,57\n101,fast\n").unwrap();
        assert!(usage(&line("--map HR_ecg=hr")).contains("r.csv:3: 'fast'"));
    }

    #[test]
    fn anything_unacknowledged_is_a_failure_with_its_reason() {
        let good = Tally { published: 3, acknowledged: 3, ..Tally::default() };
        assert_eq!(conclude(&good, Duration::ZERO), Ok(()));
        let trouble = Some("not authorized".to_owned());
        let bad = Tally { published: 3, acknowledged: 1, refused: 1, repeated: 0, trouble };
        assert_eq!(conclude(&bad, Duration::ZERO), Err(Failure::failed("1 refused, 1 lost: not authorized")));
    }
}
