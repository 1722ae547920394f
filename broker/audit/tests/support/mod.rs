//! What the tests of this crate share: a journal with a story in it, and both kinds of store.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wardline_audit::{
    Expectations, JournalSource, Options, PayloadPolicy, Progress, ProjectorError, Report, SigningKey, Store,
};
use wardline_journal::{
    Access, AccessEvent, Delivery, DeliveryStep, Journal, JournalOptions, Log, Offset, Origin, Outcome,
    Publish, Record,
};

/// The node of all tests.
pub(crate) const NODE: u16 = 1;
/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// 2026-11-21 08:00 UTC, and so many milliseconds.
pub(crate) fn at(ms: i64) -> Timestamp {
    let start: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
    start + SignedDuration::from_millis(ms)
}

/// A data directory: journal, key, and a SQLite store.
pub(crate) struct Node {
    pub(crate) directory: TempDir,
    pub(crate) journal: Journal,
}

impl Node {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let journal = open_journal(directory.path());
        Self { directory, journal }
    }

    pub(crate) fn sqlite(&self) -> Store {
        Store::sqlite(&self.directory.path().join("audit.db"))
    }

    pub(crate) fn key(&self) -> SigningKey {
        SigningKey::open_or_create(self.directory.path(), NODE).unwrap()
    }

    /// Appends and waits until all is durable.
    pub(crate) fn append<'a>(&self, records: impl IntoIterator<Item = Record<'a>>) {
        let mut journal = self.journal.clone();
        for record in records {
            journal.append(&record);
        }
        self.settle();
    }

    pub(crate) fn settle(&self) {
        let end = self.journal.next_offset();
        if end.0 > 0 {
            assert_eq!(self.journal.wait_durable(Offset(end.0 - 1), PATIENCE), end);
        }
    }

    pub(crate) fn project(&self, store: &Store) -> Projection {
        self.project_with(store, PayloadPolicy::default())
    }

    pub(crate) fn project_with(&self, store: &Store, payload: PayloadPolicy) -> Projection {
        let options = Options {
            node: NODE,
            payload,
            key: self.key(),
            clock: || at(0),
            drain: Duration::from_millis(200),
        };
        let (stop, shutdown) = watch::channel(false);
        let (sender, progress) = watch::channel(Progress::default());
        let source = JournalSource::new(self.journal.clone());
        let task = tokio::spawn(wardline_audit::run(source, store.clone(), options, shutdown, sender));
        Projection { stop, progress, task }
    }

    /// Projects everything and stops.
    pub(crate) async fn project_all(&self, store: &Store) {
        self.project(store).finish().await.unwrap();
    }

    pub(crate) async fn verify(&self, store: &Store) -> Report {
        let expectations =
            Expectations { keys: vec![self.key().public().clone()], ..Expectations::default() };
        wardline_audit::verify(store, NODE, &expectations).await.unwrap()
    }
}

fn open_journal(directory: &Path) -> Journal {
    let options =
        JournalOptions { segment_bytes: 1 << 20, ..JournalOptions::new(directory.join("journal"), NODE) };
    Journal::open(options, |_| {}).unwrap().0
}

/// A running projector.
pub(crate) struct Projection {
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) task: JoinHandle<Result<(), ProjectorError>>,
}

impl Projection {
    /// Stops it cleanly.
    pub(crate) async fn finish(self) -> Result<(), ProjectorError> {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until the store has every record before `offset`.
    pub(crate) async fn reach(&mut self, offset: u64) {
        let reached = self.progress.wait_for(|progress| progress.audited_up_to >= Some(Offset(offset)));
        tokio::time::timeout(PATIENCE, reached).await.unwrap().unwrap();
    }
}

/// The `n`th record of a mixed load.
pub(crate) fn nth<'a>(n: u64, payload: &'a str) -> Record<'a> {
    let origin = match n % 3 {
        0 => Origin { client: "mon-12", principal: "device:mon-12", peer: "10.0.0.12:4711" },
        1 => Origin { client: "pager-7", principal: "staff:n.ito", peer: "10.0.0.7:991" },
        _ => Origin { client: "vent-3", principal: "device:vent-3", peer: "10.0.0.3:4242" },
    };
    let now = at(n as i64);
    match n % 10 {
        8 => {
            let event =
                [AccessEvent::Connect, AccessEvent::Subscribe, AccessEvent::Refuse][(n / 10 % 3) as usize];
            Record::Access(Access { at: now, event, origin, detail: "ward", reason: "", state: &[1, 2, 3] })
        }
        9 => {
            let step = if n % 20 == 9 { DeliveryStep::Sent } else { DeliveryStep::Confirmed };
            let publish = Offset(n.saturating_sub(1));
            Record::Delivery(Delivery {
                at: now,
                step,
                origin,
                publish,
                alert: "n1-1",
                topic: "alerts/icu-3/nurse",
            })
        }
        _ => {
            let denied = n % 7 == 3;
            Record::Publish(Publish {
                received_at: now,
                origin,
                topic: [
                    "telemetry/icu-3/b12/mon-12/hr",
                    "telemetry/icu-4/b1/vent-3/rr",
                    "admissions/icu-3/b12",
                ][(n % 3) as usize],
                qos: (n % 3) as u8,
                retain: n.is_multiple_of(5),
                packet_id: n as u16,
                properties: &[3, 0, 1, b'x'],
                payload: payload.as_bytes(),
                outcome: if denied { Outcome::Denied } else { Outcome::Accepted },
                reason: if denied { "not authorized" } else { "" },
            })
        }
    }
}

/// Appends the records `from..to` of the mixed load.
pub(crate) fn load(node: &Node, from: u64, to: u64) {
    let payloads: Vec<String> = (from..to).map(|n| format!("{{\"value\":{n}}}")).collect();
    node.append((from..to).zip(&payloads).map(|(n, payload)| nth(n, payload)));
}

/// A second connection to the store, as an intruder with every right has it.
pub(crate) enum Intruder {
    Sqlite(rusqlite::Connection),
    Postgres(sqlx::PgConnection),
}

impl Intruder {
    pub(crate) fn sqlite(node: &Node) -> Self {
        let path = node.directory.path().join("audit.db");
        let raw = rusqlite::Connection::open(path).unwrap();
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'trigger'";
        let triggers: Result<Vec<String>, _> =
            raw.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().collect();
        for name in triggers.unwrap() {
            raw.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
        }
        Self::Sqlite(raw)
    }

    pub(crate) async fn postgres(url: &str) -> Self {
        let mut raw = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql("SET session_replication_role = replica; SET search_path = audit")
            .execute(&mut raw)
            .await
            .unwrap();
        Self::Postgres(raw)
    }

    pub(crate) async fn run(&mut self, sql: &str) -> u64 {
        match self {
            Self::Sqlite(raw) => {
                raw.execute_batch(sql).unwrap();
                raw.changes()
            }
            Self::Postgres(raw) => {
                let sql = sqlx::AssertSqlSafe(sql.to_owned());
                sqlx::raw_sql(sql).execute(raw).await.unwrap().rows_affected()
            }
        }
    }
}
