//! How fast rows go in and are verified: `cargo bench -p wardline-audit`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark asserts by panicking"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use support::{Node, load};
use wardline_audit::Store;
use wardline_test_postgres::Postgres;

const ROWS: u64 = 200_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let node = Node::new();
    load(&node, 0, ROWS);
    let server = Postgres::start_unless_skipped();
    let postgres = server.as_ref().map(|server| Store::parse(&server.url()).unwrap());
    for store in [Some(node.sqlite()), postgres].into_iter().flatten() {
        let begun = Instant::now();
        node.project_all(&store).await;
        let written = begun.elapsed();
        let begun = Instant::now();
        let report = node.verify(&store).await;
        assert!(report.is_clean() && report.rows == ROWS, "{:?}", report.findings);
        let rate = |elapsed: std::time::Duration| ROWS as f64 / elapsed.as_secs_f64();
        let kind = if store.file().is_some() { "SQLite" } else { "PostgreSQL" };
        println!("{kind}: {:.0} rows/s written, {:.0} rows/s verified", rate(written), rate(begun.elapsed()));
    }
}
