//! No row is lost and none comes twice, whoever dies when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use support::{Intruder, NODE, Node, load};
use wardline_audit::{
    Expectations, PayloadKept, PayloadPolicy, Progress, ProjectorError, Store, StoreError, verify,
};
use wardline_journal::Offset;
use wardline_test_postgres::Postgres;

/// Projects, kills at a different instant each time, starts again, while records keep coming.
async fn survives_kills(node: &Node, store: &Store, seed: u64) {
    const ROUND: u64 = 700;
    let mut written = 0;
    let mut random = seed;
    for _ in 0..12 {
        load(node, written, written + ROUND);
        written += ROUND;
        let projection = node.project(store);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_micros(random >> 47)).await;
        projection.kill().await;
    }
    node.project_all(store).await;
    let report = node.verify(store).await;
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.rows, written);
    assert!(report.checkpoints > 0 && report.batches > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projector_killed_at_any_instant_sqlite() {
    let node = Node::new();
    survives_kills(&node, &node.sqlite(), 17).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projector_killed_at_any_instant_postgres() {
    let Some(server) = Postgres::start_unless_skipped() else { return };
    let node = Node::new();
    survives_kills(&node, &Store::parse(&server.url()).unwrap(), 18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_crashing_in_the_middle_of_the_load() {
    let Some(mut server) = Postgres::start_unless_skipped() else { return };
    let node = Node::new();
    let store = Store::parse(&server.url()).unwrap();
    let mut projection = node.project(&store);
    let mut written = 0;
    for round in 0..3_u64 {
        load(&node, written, written + 12_000);
        written += 12_000;
        projection.reach(written - 11_000 + round * 1_500).await;
        server.stop_immediate();
        load(&node, written, written + 500);
        written += 500;
        let failing = projection.progress.wait_for(|progress| progress.last_error.is_some());
        tokio::time::timeout(support::PATIENCE, failing).await.unwrap().unwrap();
        server.start_again();
    }
    projection.reach(written).await;
    assert_eq!(projection.progress.borrow().last_error, None);
    projection.finish().await.unwrap();
    let report = node.verify(&store).await;
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.rows, written);
}

#[tokio::test]
async fn a_store_that_is_not_there_yet_is_waited_for_and_shutdown_does_not_hang() {
    let node = Node::new();
    load(&node, 0, 10);
    let store = Store::sqlite(&node.directory.path().join("missing/audit.db"));
    let mut projection = node.project(&store);
    let failing = projection.progress.wait_for(|progress| progress.last_error.is_some());
    tokio::time::timeout(support::PATIENCE, failing).await.unwrap().unwrap();
    projection.finish().await.unwrap();
    let projection = node.project(&store);
    std::fs::create_dir(node.directory.path().join("missing")).unwrap();
    let mut projection = projection;
    projection.reach(10).await;
    projection.finish().await.unwrap();
    assert!(node.verify(&store).await.is_clean());
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_missed_and_nothing_counts_as_recorded() {
    let node = Node::new();
    let store = node.sqlite();
    load(&node, 0, 10);
    let mut projection = node.project(&store);
    projection.reach(10).await;
    let (place, away) = (node.directory.path().join("audit.db"), node.directory.path().join("away.db"));
    std::fs::rename(&place, &away).unwrap();
    load(&node, 10, 20);
    let says = |what: &'static str| {
        move |progress: &Progress| progress.last_error.as_ref().is_some_and(|error| error.contains(what))
    };
    for what in ["was removed, renamed or replaced", "unable to open"] {
        let failing = projection.progress.wait_for(says(what));
        tokio::time::timeout(support::PATIENCE, failing).await.unwrap().unwrap();
    }
    assert_eq!(projection.progress.borrow().audited_up_to, Some(Offset(10)));
    assert!(!place.exists(), "another file would take its place");
    std::fs::rename(&away, &place).unwrap();
    projection.reach(20).await;
    projection.finish().await.unwrap();
    let report = node.verify(&store).await;
    assert!(report.is_clean() && report.rows == 20, "{:?}", report.findings);
}

#[tokio::test]
async fn the_embedded_store_is_for_its_owner_only() {
    let node = Node::new();
    load(&node, 0, 10);
    let mut projection = node.project(&node.sqlite());
    projection.reach(10).await;
    for file in ["audit.db", "audit.db-wal", "audit.db-shm"] {
        let mode = std::fs::metadata(node.directory.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
    projection.finish().await.unwrap();
}

#[tokio::test]
async fn a_second_writer_shuts_out_the_first() {
    let node = Node::new();
    let store = node.sqlite();
    load(&node, 0, 10);
    let mut first = node.project(&store);
    first.reach(10).await;
    let mut second = node.project(&store);
    second.reach(10).await;
    load(&node, 10, 20);
    second.reach(20).await;
    let fenced = tokio::time::timeout(support::PATIENCE, first.task).await.unwrap().unwrap();
    assert!(matches!(fenced, Err(ProjectorError::Store(StoreError::Fenced { .. }))), "{fenced:?}");
    second.finish().await.unwrap();
    assert!(node.verify(&store).await.is_clean());
}

#[tokio::test]
async fn a_journal_that_lost_its_past_is_refused() {
    let node = Node::new();
    let store = node.sqlite();
    load(&node, 0, 30);
    node.project_all(&store).await;
    let young = Node::new();
    load(&young, 0, 5);
    let refused = young.project(&store).finish().await;
    assert!(matches!(refused, Err(ProjectorError::AheadOfJournal { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let node = Node::new();
    let store = node.sqlite();
    node.project_all(&store).await;
    Intruder::sqlite(&node).run("INSERT INTO schema_version VALUES (99)").await;
    let refused = node.project(&store).finish().await;
    assert!(
        matches!(refused, Err(ProjectorError::Store(StoreError::NewerSchema { found: 99, .. }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_payload_kept_as_digest_is_still_proved() {
    let node = Node::new();
    let store = node.sqlite();
    load(&node, 0, 50);
    let policy = PayloadPolicy {
        default: PayloadKept::Digest,
        overrides: vec![("admissions/#".to_owned(), PayloadKept::Full)],
    };
    node.project_with(&store, policy).finish().await.unwrap();
    assert!(node.verify(&store).await.is_clean());
    let mut intruder = Intruder::sqlite(&node);
    let kept = intruder
        .run("DELETE FROM publishes WHERE payload IS NOT NULL AND topic NOT LIKE 'admissions/%'")
        .await;
    assert_eq!(kept, 0);
    assert_ne!(intruder.run("UPDATE publishes SET retain = retain WHERE payload IS NULL").await, 0);
    intruder.run("UPDATE publishes SET payload_digest = randomblob(32) WHERE seq = 0").await;
    assert!(!node.verify(&store).await.is_clean());
}

#[tokio::test]
async fn every_batch_is_signed_so_the_end_can_be_verified_alone() {
    let node = Node::new();
    let store = node.sqlite();
    for round in 0..5 {
        load(&node, round * 20, round * 20 + 20);
        node.project_all(&store).await;
    }
    let keys = vec![node.key().public().clone()];
    let expectations = Expectations { keys, range: Some(70..90), ..Expectations::default() };
    let report = verify(&store, NODE, &expectations).await.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.rows, report.batches), (40, 2), "whole batches, from 60 to 100");
}
