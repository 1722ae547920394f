//! `wardline audit`: read the record, prove the whole or one row, take a copy.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use wardline_audit::{
    Cell, Expectations, Filter, PUBLIC_KEY_FILE, Proof, PublicKey, Query, QueryError, Relation,
    SignedCheckpoint, Store,
};
use wardline_journal::Offset;

use super::{Failure, Outcome};
use crate::config::Config;

/// Rows that `query` shows unless asked for more.
const QUERY_LIMIT: u64 = 1_000;
/// Characters of a cell that a table shows; JSON shows all.
const CELL_CHARACTERS_MAX: usize = 60;

/// The events of `access`.
const EVENTS: [&str; 9] = [
    "connect",
    "refuse",
    "disconnect",
    "subscribe",
    "unsubscribe",
    "reauthenticate",
    "reload",
    "session-end",
    "lost",
];

/// Options of `wardline audit`.
#[derive(clap::Subcommand, Debug)]
pub enum Args {
    /// Read rows: publishes, access, deliveries, timeline or checkpoints
    #[command(after_help = "Examples:\n  \
            wardline audit query --store sqlite:audit.db --topic 'telemetry/icu-3/#' --newest\n  \
            wardline audit query timeline --config wardline.toml --alert n1-48213\n  \
            wardline audit query access --config wardline.toml --event refuse --format json")]
    Query(QueryArgs),
    /// Recompute the whole record and compare it with what was signed; exit 1 with one line for each finding
    #[command(after_help = "Example:\n  \
            wardline audit verify --store postgres://officer@db/wardline --key audit.pub\n\n\
            Keep a checkpoint elsewhere from time to time and bring it with --witness: only that shows\n\
            a record whose end was cut off.")]
    Verify(VerifyArgs),
    /// Prove one row to an outsider, or check such a proof offline
    #[command(
        after_help = "Examples:\n  wardline audit prove 1 48213 --store sqlite:audit.db > row.tlog-proof\n  \
                            wardline audit prove --check row.tlog-proof --key audit.pub"
    )]
    Prove(ProveArgs),
    /// Copy the record into a folder, as JSON lines with the signed checkpoints
    Export(ExportArgs),
}

/// Which store.
#[derive(clap::Args, Debug)]
pub struct Place {
    /// Address of the store: sqlite:FILE or postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "URL", required_unless_present = "config", conflicts_with = "config")]
    store: Option<String>,
    /// The broker's configuration, which names the store
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Conditions on rows.
#[derive(clap::Args, Debug)]
pub struct Conditions {
    /// Of this node
    #[arg(long)]
    node: Option<u16>,
    /// Of this MQTT client identifier
    #[arg(long)]
    client: Option<String>,
    /// Of this principal, as device:mon-12
    #[arg(long)]
    principal: Option<String>,
    /// On topics that match this MQTT topic filter
    #[arg(long)]
    topic: Option<String>,
    /// Not before this instant, as 2026-11-21T08:00:00Z
    #[arg(long)]
    from: Option<Timestamp>,
    /// Before this instant
    #[arg(long)]
    to: Option<Timestamp>,
    /// With this outcome
    #[arg(long, value_parser = ["accepted", "denied"])]
    outcome: Option<String>,
    /// Access events of this kind
    #[arg(long, value_parser = EVENTS)]
    event: Option<String>,
    /// Of this alert
    #[arg(long)]
    alert: Option<String>,
}

/// Options of `wardline audit query`.
#[derive(clap::Args, Debug)]
pub struct QueryArgs {
    /// What to read
    #[arg(value_enum, default_value = "publishes")]
    what: What,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    conditions: Conditions,
    /// At most so many rows
    #[arg(long, default_value_t = QUERY_LIMIT)]
    limit: u64,
    /// Newest first
    #[arg(long)]
    newest: bool,
    /// How to show it
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Options of `wardline audit verify`.
#[derive(clap::Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// Only this node's record
    #[arg(long)]
    node: Option<u16>,
    /// Public key that is trusted to have signed it; can be given several times
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// A checkpoint that was kept elsewhere; can be given several times
    #[arg(long, value_name = "FILE")]
    witness: Vec<PathBuf>,
    /// From this row on; extended to whole batches, which alone are signed
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Up to and without this row; extended likewise
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
}

/// Options of `wardline audit prove`.
#[derive(clap::Args, Debug)]
pub struct ProveArgs {
    /// Node of the row
    #[arg(required_unless_present = "check", requires = "seq")]
    node: Option<u16>,
    /// Its number within the node's record
    seq: Option<u64>,
    /// Address of the store
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "check"])]
    store: Option<String>,
    /// The broker's configuration, which names the store
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    config: Option<PathBuf>,
    /// Check this proof instead of making one
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "node")]
    check: Option<PathBuf>,
    /// Public key to check it with
    #[arg(long, value_name = "FILE", requires = "check")]
    key: Option<PathBuf>,
}

/// Options of `wardline audit export`.
#[derive(clap::Args, Debug)]
pub struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// Folder to write; made where it does not exist, files in it are not replaced
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Only this node's record
    #[arg(long)]
    node: Option<u16>,
    /// Not before this instant
    #[arg(long)]
    from: Option<Timestamp>,
    /// Before this instant
    #[arg(long)]
    to: Option<Timestamp>,
}

/// Tables and views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Each publish
    Publishes,
    /// Connections and subscriptions
    Access,
    /// Alerts handed to clients, and confirmed
    Deliveries,
    /// Each step of each alert
    Timeline,
    /// Signed tree heads
    Checkpoints,
}

impl What {
    fn relation(self) -> Relation {
        match self {
            Self::Publishes => Relation::Publishes,
            Self::Access => Relation::Access,
            Self::Deliveries => Relation::Deliveries,
            Self::Timeline => Relation::AlertTimeline,
            Self::Checkpoints => Relation::Checkpoints,
        }
    }
}

/// Shapes of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns side by side; long cells are cut
    Table,
    /// One JSON object a line, everything in it
    Json,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    match args {
        Args::Query(args) => runtime.block_on(query(args)),
        Args::Verify(args) => runtime.block_on(verify(args)),
        Args::Prove(args) => runtime.block_on(prove(args)),
        Args::Export(args) => runtime.block_on(export(args)),
    }
}

/// A store, and the data directory whose public key goes with it where a configuration names one.
fn locate(store: Option<&str>, config: Option<&Path>) -> Result<(Store, Option<PathBuf>), Failure> {
    match (store, config) {
        (Some(url), _) => Ok((Store::parse(url).map_err(usage)?, None)),
        (None, Some(path)) => {
            let config = Config::load(path, crate::config::environment()).map_err(usage)?;
            let store = config.audit.store.ok_or_else(|| {
                let path = path.display();
                Failure::usage(format!(
                    "{path}: [audit] store is \"none\": there is no record; name one with --store URL"
                ))
            })?;
            Ok((store, Some(config.node.data)))
        }
        (None, None) => Err(Failure::usage("name the store: --store URL or --config FILE")),
    }
}

async fn query(args: QueryArgs) -> Outcome {
    let (store, _) = locate(args.place.store.as_deref(), args.place.config.as_deref())?;
    let relation = args.what.relation();
    let Conditions { node, client, principal, topic, from, to, outcome, event, alert } = args.conditions;
    let (limit, newest_first) = (Some(args.limit), args.newest);
    let filter =
        Filter { node, client, principal, topic, from, to, outcome, event, alert, limit, newest_first };
    let mut query = Query::new(&store, relation, &filter).await.map_err(query_failure)?;
    let mut rows = query.rows();
    let mut out = io::BufWriter::new(io::stdout().lock());
    match args.format {
        Format::Json => {
            while let Some(row) = rows.try_next().await.map_err(failed)? {
                writeln!(out, "{}", wardline_audit::to_json(relation, &row)).or_else(closed_pipe)?;
            }
        }
        Format::Table => {
            let rows: Vec<_> = rows.try_collect().await.map_err(failed)?;
            write_table(&mut out, &relation.columns(), &rows).or_else(closed_pipe)?;
        }
    }
    out.flush().or_else(closed_pipe)
}

fn query_failure(error: QueryError) -> Failure {
    match error {
        QueryError::Store(error) => failed(error),
        QueryError::NotFilterable { .. } | QueryError::TopicFilter(_) => usage(error),
    }
}

fn write_table(out: &mut impl Write, columns: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
    let header: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let body = rows.iter().map(|row| {
        let cells = columns.iter().zip(row);
        cells.map(|(column, cell)| shorten(wardline_audit::to_text(column, cell))).collect::<Vec<_>>()
    });
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(body).collect();
    let mut widths = vec![0; columns.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in &lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())?;
    }
    Ok(())
}

fn shorten(cell: String) -> String {
    match cell.char_indices().nth(CELL_CHARACTERS_MAX) {
        None => cell,
        Some((end, _)) => format!("{}…", cell.get(..end).unwrap_or_default()),
    }
}

async fn verify(args: VerifyArgs) -> Outcome {
    let (store, data) = locate(args.place.store.as_deref(), args.place.config.as_deref())?;
    let given = read_keys(&args.key, data.as_deref())?;
    let witnessed = args.witness.iter().map(|path| read_checkpoint(path)).collect::<Result<Vec<_>, _>>()?;
    let range = (args.from.is_some() || args.to.is_some())
        .then(|| args.from.unwrap_or(0)..args.to.unwrap_or(i64::MAX.cast_unsigned()));
    let nodes = match args.node {
        Some(node) => vec![node],
        None => wardline_audit::nodes(&store).await.map_err(failed)?,
    };
    let mut is_clean = true;
    for node in nodes {
        let keys = if given.is_empty() {
            note(
                "the signatures are checked with the keys that the store itself names; --key FILE excludes a \
                 forged store",
            );
            wardline_audit::stored_keys(&store, node).await.map_err(failed)?
        } else {
            given.clone()
        };
        let expectations = Expectations { keys, witnessed: witnessed.clone(), range: range.clone() };
        let report = wardline_audit::verify(&store, node, &expectations).await.map_err(failed)?;
        is_clean &= report.is_clean();
        write_report(&report).or_else(closed_pipe)?;
    }
    if is_clean { Ok(()) } else { Err(Failure::failed("")) }
}

fn write_report(report: &wardline_audit::Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let node = report.node;
    for finding in &report.findings {
        writeln!(out, "node {node}: {finding}")?;
    }
    let untold = report.findings_count - report.findings.len() as u64;
    if untold > 0 {
        writeln!(out, "node {node}: and {untold} more findings")?;
    }
    let verdict = if report.is_clean() { "complete and unchanged" } else { "NOT PROVED" };
    writeln!(
        out,
        "node {node}: {verdict}: {} rows, {} batches, {} checkpoints, root {}",
        report.rows,
        report.batches,
        report.checkpoints,
        wardline_audit::hex(&report.root)
    )?;
    if report.payloads_absent > 0 {
        writeln!(
            out,
            "node {node}: {} payloads are not in the record, only their digests: so configured, or erased since",
            report.payloads_absent
        )?;
    }
    Ok(())
}

/// The keys that were named, or the one in the broker's data directory; none means that nothing was named.
fn read_keys(paths: &[PathBuf], data: Option<&Path>) -> Result<Vec<PublicKey>, Failure> {
    let beside = data.map(|data| data.join(PUBLIC_KEY_FILE)).filter(|path| path.exists());
    let paths = if paths.is_empty() { beside.as_slice() } else { paths };
    paths.iter().map(|path| PublicKey::read(path).map_err(usage)).collect()
}

fn read_checkpoint(path: &Path) -> Result<SignedCheckpoint, Failure> {
    SignedCheckpoint::parse(&read_text(path)?)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn read_text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}

async fn prove(args: ProveArgs) -> Outcome {
    if let (Some(file), Some(key)) = (&args.check, &args.key) {
        let key = PublicKey::read(key).map_err(usage)?;
        let proof: Proof = read_text(file)?.parse().map_err(failed)?;
        proof.check(&key).map_err(failed)?;
        let head = &proof.checkpoint.checkpoint;
        let line = format!(
            "row {} is in the record {} of {} rows, signed at {}; canonical bytes {}",
            proof.index,
            head.origin,
            head.size,
            head.at,
            wardline_audit::hex(&proof.entry)
        );
        return writeln!(io::stdout(), "{line}").or_else(closed_pipe);
    }
    let (Some(node), Some(seq)) = (args.node, args.seq) else {
        return Err(Failure::usage("name the row: wardline audit prove NODE SEQ"));
    };
    let (store, _) = locate(args.store.as_deref(), args.config.as_deref())?;
    let proof = wardline_audit::prove(&store, node, Offset(seq)).await.map_err(failed)?;
    write!(io::stdout(), "{proof}").or_else(closed_pipe)
}

async fn export(args: ExportArgs) -> Outcome {
    let (store, _) = locate(args.place.store.as_deref(), args.place.config.as_deref())?;
    let unwritten =
        |path: &Path, error: io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(&args.out).map_err(|error| unwritten(&args.out, error))?;
    for what in What::value_variants() {
        let relation = what.relation();
        let Some(name) = what.to_possible_value() else { continue };
        let path = args.out.join(format!("{}.jsonl", name.get_name()));
        let file = fs::File::create_new(&path).map_err(|error| unwritten(&path, error))?;
        let mut out = io::BufWriter::new(file);
        let filter = Filter { node: args.node, from: args.from, to: args.to, ..Filter::default() };
        let mut query = Query::new(&store, relation, &filter).await.map_err(query_failure)?;
        let mut rows = query.rows();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            writeln!(out, "{}", wardline_audit::to_json(relation, &row))
                .map_err(|error| unwritten(&path, error))?;
        }
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(|error| unwritten(&path, error))?;
    }
    Ok(())
}

fn usage(error: impl ToString) -> Failure {
    Failure::usage(error.to_string())
}

fn failed(error: impl ToString) -> Failure {
    Failure::failed(error.to_string())
}

/// Whoever reads the output may stop reading; that is no failure.
fn closed_pipe(error: io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::failed(format!("cannot write the output: {error}"))),
    }
}

#[expect(clippy::print_stderr, reason = "a remark to the person who typed the command, beside the result")]
fn note(text: &str) {
    eprintln!("wardline: {text}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use tokio::sync::watch;
    use wardline_audit::{JournalSource, Options, PayloadPolicy, Progress, SigningKey};
    use wardline_journal::{Access, AccessEvent, Journal, JournalOptions, Log, Origin, Record};

    use super::*;
    use crate::clock;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        args: Args,
    }

    /// The exit status of `wardline audit` with these words.
    fn status(words: &str) -> u8 {
        let words = std::iter::once("audit").chain(words.split_whitespace());
        match Line::try_parse_from(words) {
            Err(error) => u8::try_from(error.exit_code()).unwrap(),
            Ok(line) => run(line.args).map_or_else(|failure| failure.status, |()| 0),
        }
    }

    /// A data directory with `rows` refused connections in its record.
    fn record(rows: u64) -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        let options =
            JournalOptions { segment_bytes: 1 << 20, ..JournalOptions::new(data.path().join("journal"), 1) };
        let (mut journal, _) = Journal::open(options, |_| {}).unwrap();
        for _ in 0..rows {
            let origin = Origin { client: "mon-12", principal: "", peer: "127.0.0.1:9" };
            let (at, event) = (clock::now(), AccessEvent::Refuse);
            journal.append(&Record::Access(Access {
                at,
                event,
                origin,
                detail: "ward",
                reason: "no",
                state: &[],
            }));
        }
        assert_eq!(journal.wait_durable(Offset(rows - 1), Duration::from_secs(60)), Offset(rows));
        let key = SigningKey::open_or_create(data.path(), 1).unwrap();
        let payload = PayloadPolicy::default();
        let options = Options { node: 1, payload, key, clock: clock::now, drain: Duration::ZERO };
        let store = Store::sqlite(&data.path().join("audit.db"));
        let source = JournalSource::new(journal);
        let (_stop, stopped) = watch::channel(true);
        let (progress, _) = watch::channel(Progress::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(wardline_audit::run(source, store, options, stopped, progress)).unwrap();
        data
    }

    #[test]
    fn statuses_are_done_finding_and_usage() {
        let (data, other) = (record(20), record(1));
        let data = data.path().display().to_string();
        let other = other.path().display().to_string();
        let store = format!("--store sqlite:{data}/audit.db");
        for (words, expected) in [
            (format!("query {store}"), 0),
            (format!("query access {store} --event refuse --client mon-12 --format json --limit 2"), 0),
            (format!("query timeline {store} --alert n1-1"), 0),
            (format!("query access {store} --topic #"), 2),
            (format!("query {store} --topic a#b"), 2),
            (format!("query {store} --outcome perhaps"), 2),
            ("query".to_owned(), 2),
            ("query --store mysql://db".to_owned(), 2),
            (format!("query --store sqlite:{data}/other.db"), 1),
            (format!("query --config {data}/none.toml"), 2),
            (format!("verify {store}"), 0),
            (format!("verify {store} --key {data}/audit.pub"), 0),
            (format!("verify {store} --key {data}/audit.pub --from 3 --to 9"), 0),
            (format!("verify {store} --key {other}/audit.pub"), 1),
            (format!("verify {store} --key {data}/audit.key"), 2),
            (format!("prove 1 7 {store}"), 0),
            (format!("prove 1 20 {store}"), 1),
            (format!("prove {store}"), 2),
            (format!("export {store} --out {data}/export"), 0),
            (format!("export {store} --out {data}/export"), 1),
        ] {
            assert_eq!(status(&words), expected, "{words}");
        }
        let exported = fs::read_to_string(format!("{data}/export/access.jsonl")).unwrap();
        assert_eq!(exported.lines().count(), 20);
        let first: serde_json::Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
        assert_eq!((&first["seq"], &first["event"]), (&0.into(), &"refuse".into()));
    }

    #[test]
    fn a_proof_is_checked_offline() {
        let data = record(20);
        let place = data.path().display().to_string();
        let store = Store::sqlite(&data.path().join("audit.db"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let proof = runtime.block_on(wardline_audit::prove(&store, 1, Offset(7))).unwrap();
        let file = data.path().join("row.tlog-proof");
        fs::write(&file, proof.to_string()).unwrap();
        let check = format!("prove --check {place}/row.tlog-proof --key {place}/audit.pub");
        assert_eq!(status(&check), 0);
        fs::write(&file, proof.to_string().replace("index 7", "index 8")).unwrap();
        assert_eq!(status(&check), 1);
        assert_eq!(status(&format!("prove --check {place}/row.tlog-proof")), 2);
    }

    #[test]
    fn a_table_is_aligned_cut_and_cannot_steer_the_terminal() {
        let mut out = Vec::new();
        let rows = [
            vec![Cell::Int(1), Cell::Text("a\x1b[2Jb".to_owned())],
            vec![Cell::Int(1_000), Cell::Text("é".repeat(CELL_CHARACTERS_MAX + 1))],
        ];
        write_table(&mut out, &["seq", "reason"], &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected =
            format!("seq   reason\n1     a\u{FFFD}[2Jb\n1000  {}…\n", "é".repeat(CELL_CHARACTERS_MAX));
        assert_eq!(text, expected);
    }
}
