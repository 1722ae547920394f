//! `wardline demo`: watch a ward work, with nothing prepared.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};
use wardline_audit::Store;
use wardline_plugin_api::{Phase, State, alert::AnswerWord};

use super::{Failure, Outcome};
use crate::{
    clock,
    config::{Config, LogFormat},
    demo::{
        record,
        site::{self, BEDS, Site, UNIT},
        stage::Stage,
        story::{Act, BED, Holder, LENGTH, Step, Story},
        voice::{Tone, Voice},
    },
    log,
    serve::{self, Running},
    simulate::{device::Tally, identity::BrokerUrl, model::Course, pager::Page},
};

/// Options of `wardline demo`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Stop after this many seconds [default: at Ctrl-C]. The story takes about 20
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Folder for certificates, keys, configuration and the record; used again if it is there
    #[arg(long, value_name = "DIR", default_value = "wardline-demo")]
    dir: PathBuf,
    /// Port for MQTT over TLS; another one is chosen if it is taken
    #[arg(long, default_value_t = 8883)]
    port: u16,
    /// Port for health and metrics; another one is chosen if it is taken
    #[arg(long, default_value_t = 9180)]
    http_port: u16,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    log::start(LogFormat::Text, tracing::Level::WARN);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    runtime.block_on(demonstrate(args))
}

async fn demonstrate(args: Args) -> Outcome {
    let mut stop = Stop::new(args.seconds)?;
    let site = Site::prepare(&args.dir, clock::now()).map_err(failed)?;
    let token = site.guest_token(clock::now()).map_err(failed)?;
    let charge = site::charge().map_err(failed)?.principal().unwrap_or_default();
    let (port, http_port) = (free_port(args.port), free_port(args.http_port));
    let overlay = [("LISTENER__0__BIND", port), ("HTTP__BIND", http_port)]
        .map(|(name, port)| (format!("WARDLINE__{name}"), format!("{}:{port}", Ipv4Addr::LOCALHOST)));
    let config = Config::load(&site.config(), overlay.into_iter())
        .map_err(|problems| Failure::usage(problems.to_string()))?;
    let store = config.audit.store.clone().ok_or_else(|| {
        Failure::usage(
            "the demonstration ends with its audit record, which [audit] store = \"none\" switches off",
        )
    })?;
    let (data, node) = (config.node.data.clone(), config.node.id);
    let since = clock::now();
    let running = serve::start(config).await.map_err(failed)?;

    let voice = Voice::new();
    stop.begin();
    let broker = announce(&voice, &args, &running);
    let mut story = Story::new();
    let mut answers = 0;
    let mut faults = Vec::new();
    let mut sent = BTreeMap::new();
    let mut cut_short = false;
    match Stage::enter(&site, &broker).await {
        Err(error) => faults.push(error.to_string()),
        Ok(mut stage) => {
            invite(&voice, &site, &token, &broker, &running);
            match play(&voice, &mut stage, &mut story, &mut answers, &running, &mut stop).await {
                Ok(ending) => cut_short = ending == Ending::CutShort,
                Err(fault) => faults.push(fault),
            }
            voice.say(Tone::Plain, "stopping: the monitors wait for their last acknowledgements");
            sent = count(stage.leave().await, &mut faults);
        }
    }
    sent.insert(charge, answers);
    if let Err(unfinished) = running.stop().await {
        faults.push(unfinished);
    }
    // What somebody did not want to wait for is no fault of the broker's.
    if !cut_short {
        faults.extend(story.missing().into_iter().map(str::to_owned));
    }
    faults.extend(prove(&voice, &store, &data, node, since, &sent).await);
    let finished = story.missing().is_empty();
    conclude(&voice, &args.dir, &faults, finished)
}

/// How the play ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// After all that was to come had had its time.
    Played,
    /// Earlier, because somebody wanted it.
    CutShort,
}

/// Plays the story, then lets the ward go on, until it is time to stop.
///
/// # Errors
/// What broke.
async fn play(
    voice: &Voice,
    stage: &mut Stage,
    story: &mut Story,
    answers: &mut u64,
    running: &Running,
    stop: &mut Stop,
) -> Result<Ending, String> {
    let began = Instant::now();
    let mut over = false;
    loop {
        let late = began + LENGTH;
        let due = story.due().map_or(late, |due| began + due);
        tokio::select! {
            () = stop.wait() => {
                return Ok(if Instant::now() < late { Ending::CutShort } else { Ending::Played });
            }
            failure = running.failed() => return Err(format!("the broker gave up: {failure}")),
            page = stage.page() => {
                let (holder, page) = page.map_err(|error| error.to_string())?;
                let step = story.page(holder, &page, began.elapsed());
                over |= step == Some(Step::Over);
                // Of the end it is told once, when both pagers know it.
                if step.is_some() || page.alert.phase != Phase::End || !story.is_about(&page) {
                    tell(voice, holder, &page, step);
                }
                if over && step.is_some() && !stop.is_timed() {
                    voice.say(Tone::Plain, "the ward goes on; Ctrl-C ends it and verifies the record");
                }
            }
            () = sleep_until(due), if story.due().is_some() => match story.act() {
                Some(Act::Deteriorate) => {
                    stage.set_course(BED, Course::Deteriorating);
                    story.deteriorating();
                    voice.say(Tone::Plain, &format!("b{BED}: the patient deteriorates, oxygen saturation begins to fall"));
                }
                Some(Act::Accept(page)) => {
                    let answered = stage.charge().answer(&page, AnswerWord::Accepted).await;
                    answered.map_err(|error| error.to_string())?;
                    *answers += 1;
                    story.accepted();
                    stage.set_course(BED, Course::Recovering);
                    voice.say(Tone::Plain, "the charge nurse accepts on the pager, goes to the bed and gives oxygen");
                }
                None => {}
            },
            // Whatever is still to come will not: the verdict says what.
            () = sleep_until(late), if !over && story.due().is_none() => return Ok(Ending::Played),
        }
    }
}

fn tell(voice: &Voice, holder: Holder, page: &Page, step: Option<Step>) {
    let alert = &page.alert;
    let took = span(page.latency());
    match step {
        Some(Step::NursePaged) => {
            let decided = span(alert.at.duration_since(alert.since));
            let what = format!(
                "ALERT, priority {}: {}\nthe threshold rule decided {decided} after the first such reading, and the nurse's pager had it {took} later",
                alert.priority, alert.text
            );
            voice.say(Tone::Alarm, &what);
            if let Some(deadline) = alert.deadline {
                let wait = deadline.duration_since(alert.at);
                voice.say(Tone::Plain, &format!("the nurse has {} to answer, and does not", span(wait)));
            }
        }
        Some(Step::ChargePaged) => {
            voice.say(
                Tone::Alarm,
                &format!(
                    "nobody answered: the alert climbs, and the charge nurse's pager has it {took} later"
                ),
            );
        }
        Some(Step::Over) => {
            voice.say(Tone::Good, &format!("the alert is over, and both pagers know: {}", alert.text));
        }
        // Also what the story does not speak of: an alert of an earlier run, or one caused by somebody who joined in.
        _ => {
            let whose = match holder {
                Holder::Nurse => "the nurse's pager",
                Holder::Charge => "the charge nurse's pager",
            };
            let state = match (alert.state, &alert.by) {
                (State::Acknowledged, Some(by)) => format!("accepted by {by}"),
                (state, _) => state.to_string(),
            };
            voice.say(Tone::Plain, &format!("{whose} shows {} in {}: {state}", alert.condition, alert.bed));
        }
    }
}

fn announce(voice: &Voice, args: &Args, running: &Running) -> BrokerUrl {
    let port = running.listening().first().map_or(args.port, |listening| listening.address.port());
    let broker = BrokerUrl { host: "localhost".to_owned(), port, tls: true };
    voice.print(&format!("Wardline demo. Everything it makes is in {}.\n", args.dir.display()));
    voice.say(Tone::Good, &format!("ready: {broker}, mutual TLS with a token bound to each certificate"));
    if broker.port != args.port {
        voice.say(Tone::Plain, &format!("port {} is taken, so it is {} this time", args.port, broker.port));
    }
    if let Some(http) = running.http()
        && http.port() != args.http_port
    {
        voice.say(
            Tone::Plain,
            &format!("port {} is taken, so metrics are on {}", args.http_port, http.port()),
        );
    }
    if args.seconds.is_some_and(|seconds| Duration::from_secs(seconds) < LENGTH) {
        let enough = LENGTH.as_secs();
        voice.say(
            Tone::Plain,
            &format!("the story takes about 20 s; on a slow machine --seconds {enough} sees its end"),
        );
    }
    broker
}

fn invite(voice: &Voice, site: &Site, token: &Path, broker: &BrokerUrl, running: &Running) {
    voice.say(
        Tone::Plain,
        &format!("{BEDS} monitors in {UNIT} are connected and measure twice a second; a nurse and a charge nurse carry pagers"),
    );
    let certs = site.dir().join("certs");
    let (certs, token) = (certs.display(), token.display());
    let mut text = format!(
        "\nJoin in from another terminal:\n  \
         mosquitto_sub -V 5 -h localhost -p {} --cafile {certs}/ca.pem --cert {certs}/service-guest.pem \\\n    \
         --key {certs}/service-guest.key -u guest -P \"$(cat {token})\" -q 1 -v -t 'alerts/#'",
        broker.port
    );
    if let Some(http) = running.http() {
        text.push_str(&format!("\n  curl http://{http}/metrics"));
    }
    text.push_str(&format!(
        "\nAfterwards:\n  wardline audit verify --config {0}\n  wardline serve --config {0}\n",
        site.config().display()
    ));
    voice.print(&text);
}

/// What each principal has published, for the comparison with the record; and what went wrong on the way.
fn count(tallies: BTreeMap<String, Tally>, faults: &mut Vec<String>) -> BTreeMap<String, u64> {
    let unanswered = tallies.iter().filter(|(_, tally)| tally.acknowledged != tally.published);
    faults.extend(unanswered.map(|(principal, tally)| {
        let reason = tally.trouble.as_deref().unwrap_or("no reason was given");
        format!("{principal}: {} of {} publishes acknowledged: {reason}", tally.acknowledged, tally.published)
    }));
    tallies.into_iter().map(|(principal, tally)| (principal, tally.published)).collect()
}

/// Verifies the record; what does not agree.
async fn prove(
    voice: &Voice,
    store: &Store,
    data: &Path,
    node: u16,
    since: Timestamp,
    sent: &BTreeMap<String, u64>,
) -> Vec<String> {
    let verdict = match record::examine(store, data, node, since, sent).await {
        Ok(verdict) => verdict,
        Err(reason) => return vec![format!("the audit record cannot be verified: {reason}")],
    };
    let published: u64 = sent.values().sum();
    let report = &verdict.report;
    let tone = if verdict.faults.is_empty() { Tone::Good } else { Tone::Alarm };
    voice.say(
        tone,
        &format!(
            "audit record: {} rows, {} missing or changed; {} signed batches and {} checkpoints agree with them\n\
             monitors and staff published {published} times in this run, and the record holds {} of them",
            report.rows, report.findings_count, report.batches, report.checkpoints, verdict.recorded
        ),
    );
    verdict.faults
}

fn conclude(voice: &Voice, dir: &Path, faults: &[String], finished: bool) -> Outcome {
    if faults.is_empty() && !finished {
        voice.say(Tone::Good, "stopped before the story was over; the record of what happened is proved");
        return Ok(());
    }
    if faults.is_empty() {
        voice.say(Tone::Good, "done: everything happened as told, and the record of it is proved");
        return Ok(());
    }
    let list: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    Err(Failure::failed(format!(
        "the demonstration did not go as it should; its files are in {}:{list}",
        dir.display()
    )))
}

/// `preferred` if nobody has it, else 0: then the system chooses.
fn free_port(preferred: u16) -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, preferred)).map_or(0, |_| preferred)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}

/// A short time as people say it.
fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds.abs() {
        0.0..0.01 => format!("{:.1} ms", seconds * 1e3),
        0.01..1.0 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

/// When the demonstration ends: after the seconds asked for, or at a signal.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    seconds: Option<u64>,
    at: Option<Instant>,
}

impl Stop {
    fn new(seconds: Option<u64>) -> Result<Self, Failure> {
        let handler =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot take signals: {error}")));
        let (interrupt, terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, seconds, at: None })
    }

    /// The seconds count from now.
    fn begin(&mut self) {
        self.at = self.seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    }

    fn is_timed(&self) -> bool {
        self.at.is_some()
    }

    /// Cancel-safe.
    async fn wait(&mut self) {
        let time_up = async {
            match self.at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = time_up => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_left_to_the_system() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(free_port(port), 0);
        drop(taken);
        assert_eq!(free_port(port), port);
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let spans = [800, 12_000, 2_340_000].map(|micros| span(SignedDuration::from_micros(micros)));
        assert_eq!(spans, ["0.8 ms", "12 ms", "2.3 s"]);
    }

    #[test]
    fn a_publish_that_nobody_answered_for_is_a_fault() {
        let tally = Tally { published: 5, acknowledged: 4, trouble: Some("gone".into()), ..Tally::default() };
        let mut faults = Vec::new();
        let sent = count(BTreeMap::from([("device:mon-1".to_owned(), tally)]), &mut faults);
        assert_eq!(sent.get("device:mon-1"), Some(&5));
        assert_eq!(faults, ["device:mon-1: 4 of 5 publishes acknowledged: gone"]);
    }
}
