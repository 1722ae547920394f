//! The run: who takes part, and when the broker is killed.

use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wardline_test_postgres::Postgres;
use wardline_wire::{QoS, Version};

use super::audit::Record;
use super::faults::{Fault, Faults};
use super::ledger::{Content, Ledger, Stream};
use super::publisher::Publisher;
use super::retained;
use super::stage::{Act, Stage};
use super::subscriber::{Got, Manner, Part, Subscriber};
use super::{Plan, Report, Store, verdict};
use crate::{Broker, Dice, Site};

/// Small enough that a run fills many segments, and that snapshots are taken and segments released on the way.
const JOURNAL: [(&str, &str); 2] =
    [("WARDLINE__JOURNAL__SEGMENT", "256KiB"), ("WARDLINE__JOURNAL__SNAPSHOT", "1MiB")];
/// Of a line of the log: what went because the journal's room was short.
const SHED: &str = "telemetry that waited longest";

/// The longest that the broker lives under load, as a rule.
const LIFE_MAX: Duration = Duration::from_millis(600);
/// The longest that it lives now and then, so that what is done once a second is under way as well.
const LONG_LIFE_MAX: Duration = Duration::from_millis(2_500);
/// What is killed so soon after it is ready meets clients that have just come back.
const SHORT_LIFE_MAX: Duration = Duration::from_millis(40);
/// So many publishes are acknowledged at least, so that there is something to lose.
const ACKNOWLEDGED_MIN: usize = 300;
/// How long subscribers may take for what is left when nobody kills any more.
const SETTLE_MAX: Duration = Duration::from_secs(120);
const SETTLE_POLL: Duration = Duration::from_millis(50);

/// Of a hundred kills, those while the broker starts.
const STARTING_PERCENT: u64 = 30;
/// Of a hundred lives under load, the short ones, and the long ones.
const SHORT_PERCENT: u64 = 25;
const LONG_PERCENT: u64 = 15;
/// Of a hundred lives, those that end with SIGTERM, upon which the next start is killed.
const CLEAN_PERCENT: u64 = 10;
/// Of a hundred starts, those after which the retained messages are looked at before a publisher is back.
const INSPECTED_PERCENT: u64 = 25;
/// Of a hundred lives, those in which the database is killed.
const DATABASE_PERCENT: u64 = 35;

/// Publishers: identifier, version, and how many of [`streams`] each has, in their order.
const PUBLISHERS: [(&str, Version, usize); 7] = [
    ("mon-1", Version::V311, 2),
    ("mon-2", Version::V5, 2),
    ("pump-1", Version::V311, 2),
    ("pump-2", Version::V5, 2),
    ("adt", Version::V5, 3),
    ("kitchen", Version::V311, 2),
    ("mon-12", Version::V5, 1),
];

fn streams() -> Vec<Stream> {
    let stream = |topic: &str, qos, content| Stream { topic: topic.to_owned(), qos, content };
    let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    vec![
        stream("crash/mon-1/hr", one, Content::Notes),
        stream("crash/shared/mon-1", one, Content::Notes),
        stream("crash/mon-2/hr", one, Content::Notes),
        stream("crash/mon-2/rr", one, Content::Notes),
        stream("crash/pump-1/dose", two, Content::Notes),
        stream("crash/shared/pump-1", two, Content::Notes),
        stream("crash/pump-2/dose", two, Content::Notes),
        stream("crash/shared/pump-2", two, Content::Notes),
        stream("crash/retained/b1", one, Content::Retained),
        stream("crash/retained/b2", one, Content::Retained),
        stream("crash/retained/b3", one, Content::Retained),
        stream("crash/retained/diet-1", two, Content::Retained),
        stream("crash/retained/diet-2", two, Content::Retained),
        stream("mon-12", one, Content::Episodes),
    ]
}

fn parts() -> Vec<Part> {
    let part = |id, version, filter, qos, manner| Part {
        id,
        version,
        filter,
        qos,
        manner,
        is_alone: !filter.starts_with("$share"),
    };
    let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    vec![
        part("board", Version::V5, "crash/#", two, Manner::Prompt),
        part("station", Version::V311, "crash/#", two, Manner::Wandering),
        part("archive", Version::V5, "crash/#", one, Manner::Slow),
        part("history", Version::V311, "crash/+/+", one, Manner::Wandering),
        part("team-1", Version::V5, "$share/team/crash/shared/#", two, Manner::Wandering),
        part("team-2", Version::V311, "$share/team/crash/shared/#", two, Manner::Slow),
        part("pager", Version::V5, "alerts/#", one, Manner::Wandering),
    ]
}

/// Runs a plan to its end.
///
/// # Panics
/// If somebody cannot go on: the broker ends by itself or does not start, a client is refused or not answered. The data stay,
/// and the message says where.
pub fn run(plan: Plan) -> Report {
    let began = Instant::now();
    let mut scene = Scene::new(plan);
    let cast = Cast::assemble(&mut scene);
    for _ in 0..plan.kills {
        scene.life();
    }
    let got = scene.settle(cast);
    let mut report = scene.close(got);
    report.took = began.elapsed();
    report
}

/// Everything around the clients.
struct Scene {
    house: House,
    environment: Vec<(&'static str, String)>,
    ledger: Arc<Ledger>,
    stage: Arc<Stage>,
    seed: u64,
    dice: Dice,
    ready_last: Duration,
    report: Report,
}

/// What is on disk. It stays for inspection unless it is given up.
struct House {
    site: Site,
    postgres: Option<Postgres>,
    keep: bool,
}

/// The clients that run, each in its thread.
struct Cast {
    publishers: Vec<JoinHandle<Faults>>,
    subscribers: Vec<JoinHandle<Got>>,
}

impl Cast {
    /// Everybody has subscribed before the first publish and before the first kill.
    fn assemble(scene: &mut Scene) -> Self {
        let broker = scene.start();
        let parts = parts();
        let publishers_from = parts.len();
        let subscribers: Vec<Subscriber> = parts
            .into_iter()
            .enumerate()
            .map(|(player, part)| {
                let shared = (Arc::clone(&scene.ledger), Arc::clone(&scene.stage));
                Subscriber::subscribed(
                    part,
                    broker.address("lab"),
                    shared,
                    Dice::for_player(scene.seed, player),
                )
            })
            .collect();
        let mut streams = 0;
        let publishers = PUBLISHERS.iter().enumerate().map(|(player, &(id, version, count))| {
            let of_this: Range<usize> = streams..streams + count;
            streams += count;
            Publisher {
                id: id.to_owned(),
                version,
                streams: of_this,
                ledger: Arc::clone(&scene.ledger),
                stage: Arc::clone(&scene.stage),
                dice: Dice::for_player(scene.seed, publishers_from + player),
                open: std::collections::VecDeque::new(),
                is_known: false,
                faults: Faults::default(),
            }
        });
        let publishers = publishers.map(|publisher| thread::spawn(|| publisher.run())).collect();
        let subscribers = subscribers.into_iter().map(|s| thread::spawn(|| s.run())).collect();
        scene.kill(broker);
        Self { publishers, subscribers }
    }
}

impl Scene {
    fn new(plan: Plan) -> Self {
        let postgres = (plan.store == Store::Postgres).then(Postgres::start);
        let url = postgres.as_ref().map(|postgres| ("WARDLINE__AUDIT__STORE", postgres.url()));
        let quota = plan.journal_quota_mib.map(|quota| ("WARDLINE__JOURNAL__QUOTA", format!("{quota}MiB")));
        let journal = JOURNAL.map(|(name, value)| (name, value.to_owned()));
        Self {
            house: House { site: Site::new(), postgres, keep: true },
            environment: journal.into_iter().chain(quota).chain(url).collect(),
            ledger: Arc::new(Ledger::new(streams())),
            stage: Arc::new(Stage::new()),
            seed: plan.seed,
            dice: Dice::new(plan.seed),
            ready_last: Duration::ZERO,
            report: Report::default(),
        }
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Starts the broker, and waits until it is ready.
    fn start(&mut self) -> Broker {
        let began = Instant::now();
        let broker = Broker::recover(&self.house.site, &self.environment());
        self.ready_last = began.elapsed();
        self.report.ready_longest = self.report.ready_longest.max(self.ready_last);
        broker
    }

    /// The broker from a start to a kill.
    fn life(&mut self) {
        if self.dice.chance(STARTING_PERCENT) {
            self.kill_while_starting();
            return;
        }
        // At times the broker starts without its database.
        if self.dice.chance(50) {
            self.start_database();
        }
        let broker = self.start();
        if self.dice.chance(INSPECTED_PERCENT) {
            self.report.faults.extend(retained::inspect(broker.address("lab"), &self.ledger));
        }
        self.stage.set_broker(Some(broker.address("lab")));
        self.start_database();
        let longest = match self.dice.within(0..100) {
            throw if throw < SHORT_PERCENT => SHORT_LIFE_MAX,
            throw if throw < SHORT_PERCENT + LONG_PERCENT => LONG_LIFE_MAX,
            _ => LIFE_MAX,
        };
        let life = self.dice.up_to(longest);
        let before = self.dice.up_to(life);
        thread::sleep(before);
        let mut left = life - before;
        if self.dice.chance(DATABASE_PERCENT) {
            self.kill_database();
            // At times it comes back while this broker lives.
            if self.dice.chance(50) {
                let away = self.dice.up_to(left);
                thread::sleep(away);
                left -= away;
                self.start_database();
            }
        }
        thread::sleep(left);
        self.stage.set_broker(None);
        // Now and then a clean end before the next crash. Without its database it would wait for it.
        if self.database_is_there() && self.dice.chance(CLEAN_PERCENT) {
            self.stop(broker);
            self.kill_while_starting();
        } else {
            self.kill(broker);
            self.report.killed.serving += 1;
        }
    }

    fn kill(&mut self, broker: Broker) {
        self.report.shed += shed(&broker.kill());
    }

    fn stop(&mut self, broker: Broker) {
        let end = broker.terminate();
        assert_eq!(end.status, Some(0), "{}", end.said);
        self.report.shed += shed(&end.said);
    }

    fn kill_while_starting(&mut self) {
        // Beyond the time that it took last, so that it may also be just ready.
        let instant = self.dice.up_to(self.ready_last * 5 / 4);
        let said = Broker::start_and_kill(&self.house.site, &self.environment(), instant);
        self.report.shed += shed(&said);
        self.report.killed.starting += 1;
    }

    fn database_is_there(&self) -> bool {
        self.house.postgres.as_ref().is_none_or(Postgres::is_running)
    }

    fn kill_database(&mut self) {
        if let Some(postgres) = &mut self.house.postgres {
            postgres.kill();
            self.report.killed.database += 1;
        }
    }

    fn start_database(&mut self) {
        if let Some(postgres) = self.house.postgres.as_mut().filter(|postgres| !postgres.is_running()) {
            postgres.start_again();
        }
    }

    /// Nobody kills any more: what is under way comes to its end. Then once again, to see that it has.
    fn settle(&mut self, cast: Cast) -> Vec<Got> {
        self.start_database();
        let broker = self.start();
        self.stage.set_broker(Some(broker.address("lab")));
        // On a machine that is busy with other things the lives before may have been too short for anything to happen.
        while self.ledger.acknowledged() < ACKNOWLEDGED_MIN {
            thread::sleep(SETTLE_POLL);
        }
        self.stage.set_act(Act::Settle);
        for publisher in cast.publishers {
            self.report.faults.extend(publisher.join().expect("a publisher goes on to the end"));
        }
        wait_until_delivered(&broker);
        self.stage.set_broker(None);
        self.kill(broker);
        self.report.killed.serving += 1;

        let broker = self.start();
        self.report.faults.extend(retained::inspect(broker.address("lab"), &self.ledger));
        self.stage.set_broker(Some(broker.address("lab")));
        wait_until_delivered(&broker);
        self.stage.set_act(Act::Over);
        let got = cast.subscribers.into_iter();
        let got = got.map(|subscriber| subscriber.join().expect("a subscriber goes on to the end")).collect();
        // A clean end waits until the store has everything.
        self.stop(broker);
        got
    }

    /// Adds up.
    fn close(mut self, got: Vec<Got>) -> Report {
        let record = Record::read(&self.house.site, self.house.postgres.as_ref());
        let mut report = self.report;
        report.acknowledged = self.ledger.acknowledged();
        report.rows = record.rows();
        verdict::judge(&self.ledger, got, &record, &mut report);
        report.faults.excuse(&[Fault::Lost1, Fault::Lost2], report.shed);
        self.house.keep = !report.faults.is_empty();
        report
    }
}

/// How many publishes a broker has told of that it let go.
fn shed(said: &str) -> usize {
    let lines = said.lines().filter(|line| line.contains(SHED));
    let logged = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    logged.filter_map(|line| line.get("publishes")?.as_u64()).map(|publishes| publishes as usize).sum()
}

/// Waits until the broker owes nobody anything.
fn wait_until_delivered(broker: &Broker) {
    let deadline = Instant::now() + SETTLE_MAX;
    while broker.metric::<u64>("wardline_queued_messages") > 0
        || broker.metric::<u64>("wardline_publishes_in_flight") > 0
    {
        assert!(Instant::now() < deadline, "not everything is delivered:\n{}", broker.http("/metrics").1);
        thread::sleep(SETTLE_POLL);
    }
}

impl Drop for House {
    #[expect(clippy::print_stderr, reason = "whoever is to inspect it must know where it is")]
    fn drop(&mut self) {
        if !self.keep {
            return;
        }
        eprintln!("the data are kept in {}", self.site.keep().display());
        if let Some(postgres) = &mut self.postgres {
            eprintln!("those of PostgreSQL in {}", postgres.keep().display());
        }
    }
}
