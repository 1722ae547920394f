//! A changed, missing or added row is found, and named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts by panicking")]

mod support;

use support::{Intruder, NODE, Node, load};
use wardline_audit::{
    Expectations, Finding, Proof, Report, SignedCheckpoint, SigningKey, Store, Table, nodes, prove,
    stored_keys, verify,
};
use wardline_journal::Offset;
use wardline_test_postgres::Postgres;

/// A record of 100 rows in 5 batches, verified clean.
async fn written(node: &Node, store: &Store) {
    for round in 0..5 {
        load(node, round * 20, round * 20 + 20);
        node.project_all(store).await;
    }
    let report = node.verify(store).await;
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.rows, report.batches, report.checkpoints), (100, 5, 5));
}

/// Does `sql` with the triggers out of the way, and verifies.
async fn after(sql: &str) -> Report {
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    Intruder::sqlite(&node).run(sql).await;
    node.verify(&store).await
}

fn changed(report: &Report) -> Vec<i64> {
    let seq = |finding: &Finding| match finding {
        Finding::Changed { seq, .. } => Some(*seq),
        _ => None,
    };
    report.findings.iter().filter_map(seq).collect()
}

const COLUMNS: &str = "node, seq, received_at, client_id, principal, peer, topic, qos, retain, packet_id, \
                       properties, payload, payload_bytes, payload_digest, outcome, reason, digest";

#[tokio::test]
async fn every_column_of_every_table_is_covered() {
    let edits = [
        ("publishes", "received_at = '2026-11-21T07:00:00.000000Z'"),
        ("publishes", "client_id = 'x'"),
        ("publishes", "principal = 'device:x'"),
        ("publishes", "peer = ''"),
        ("publishes", "topic = topic || '/x'"),
        ("publishes", "qos = (qos + 1) % 3"),
        ("publishes", "retain = 1 - retain"),
        ("publishes", "packet_id = packet_id + 1"),
        ("publishes", "properties = x'00'"),
        ("publishes", "payload = x'3938'"),
        ("publishes", "payload_bytes = 3"),
        ("publishes", "payload_digest = randomblob(32)"),
        ("publishes", "outcome = CASE outcome WHEN 'denied' THEN 'accepted' ELSE 'denied' END"),
        ("publishes", "reason = 'x'"),
        ("publishes", "digest = randomblob(32)"),
        ("publishes", "topic = CAST(x'ff' AS TEXT)"),
        ("publishes", "received_at = 'yesterday'"),
        ("publishes", "outcome = 'maybe'"),
        ("access", "at = '2026-11-21T07:00:00.000000Z'"),
        ("access", "event = 'reload'"),
        ("access", "client_id = 'x'"),
        ("access", "detail = 'x'"),
        ("access", "reason = 'x'"),
        ("access", "state = x'00'"),
        ("delivery_steps", "step = 'unreachable'"),
        ("delivery_steps", "principal = 'staff:x'"),
        ("delivery_steps", "publish_seq = 1"),
        ("delivery_steps", "alert = 'n1-2'"),
        ("delivery_steps", "topic = 'x'"),
    ];
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    let mut intruder = Intruder::sqlite(&node);
    for (table, edit) in edits {
        let seq = match table {
            "publishes" => 41,
            "access" => 48,
            _ => 49,
        };
        intruder.run(&format!("CREATE TEMP TABLE kept AS SELECT * FROM {table} WHERE seq = {seq}")).await;
        intruder.run(&format!("UPDATE {table} SET {edit} WHERE seq = {seq}")).await;
        let report = node.verify(&store).await;
        assert_eq!(changed(&report), [seq], "{table}: {edit}: {:?}", report.findings);
        intruder.run(&format!("DELETE FROM {table} WHERE seq = {seq}")).await;
        intruder.run(&format!("INSERT INTO {table} SELECT * FROM kept; DROP TABLE temp.kept")).await;
    }
    assert!(node.verify(&store).await.is_clean(), "restored");
}

#[tokio::test]
async fn a_row_changed_together_with_its_digests_contradicts_the_signed_root() {
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    // What an intruder with this program could compute: another node's rows are consistent in themselves.
    let other = Node::new();
    other.append((0..100).map(|n| support::nth(n, "other")));
    other.project_all(&other.sqlite()).await;
    let path = other.directory.path().join("audit.db").display().to_string();
    let mut intruder = Intruder::sqlite(&node);
    intruder.run(&format!("ATTACH '{path}' AS other")).await;
    intruder.run("DELETE FROM publishes WHERE seq = 41").await;
    intruder.run("INSERT INTO publishes SELECT * FROM other.publishes WHERE seq = 41").await;
    let report = node.verify(&store).await;
    assert_eq!(changed(&report), [0_i64; 0], "the row itself is consistent");
    let batch = Finding::Batch { end: 60, why: "its rows do not give its root".to_owned() };
    assert!(report.findings.contains(&batch), "{:?}", report.findings);
    assert!(report.findings_count <= 2, "the rest of the record is still proved: {:?}", report.findings);
}

#[tokio::test]
async fn a_deleted_row_is_a_missing_number() {
    let report = after("DELETE FROM access WHERE seq = 48").await;
    assert_eq!(report.findings, [Finding::Missing { seqs: 48..49 }]);
}

#[tokio::test]
async fn deleted_rows_across_batches_are_named_as_one_range() {
    let sql =
        "DELETE FROM publishes WHERE seq BETWEEN 35 AND 64; DELETE FROM access WHERE seq BETWEEN 35 AND 64;
               DELETE FROM delivery_steps WHERE seq BETWEEN 35 AND 64";
    assert_eq!(after(sql).await.findings, [Finding::Missing { seqs: 35..65 }]);
}

#[tokio::test]
async fn deleted_rows_at_the_end_are_found() {
    let report = after("DELETE FROM delivery_steps WHERE seq = 99; DELETE FROM access WHERE seq = 98").await;
    assert_eq!(report.findings, [Finding::Missing { seqs: 98..100 }]);
}

#[tokio::test]
async fn an_added_row_is_found_wherever_it_is_put() {
    for place in [48, 100, -1, 5_000] {
        let columns = COLUMNS.replacen("node, seq", &format!("node, {place}"), 1);
        let sql = format!("INSERT INTO publishes ({COLUMNS}) SELECT {columns} FROM publishes WHERE seq = 41");
        let report = after(&sql).await;
        let is_named = report.findings.iter().any(|finding| match finding {
            // Of two rows for one number, nothing but the digest says which is the true one.
            Finding::Duplicate { seq, .. } => place == 48 && *seq == 48,
            Finding::Added { seq, table } => *seq == place && *table == Table::Publishes,
            _ => false,
        });
        assert!(is_named, "{place}: {:?}", report.findings);
    }
}

#[tokio::test]
async fn a_row_under_another_node_is_found() {
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    let rest = COLUMNS.replacen("node, seq", "9, seq", 1);
    let sql = format!("INSERT INTO publishes ({COLUMNS}) SELECT {rest} FROM publishes WHERE seq = 41");
    Intruder::sqlite(&node).run(&sql).await;
    assert_eq!(nodes(&store).await.unwrap(), [1, 9]);
    let report = verify(&store, 9, &Expectations::default()).await.unwrap();
    assert!(
        report.findings.contains(&Finding::Added { seq: 41, table: Table::Publishes }),
        "{:?}",
        report.findings
    );
}

#[tokio::test]
async fn swapped_payloads_are_found() {
    let sql = "CREATE TEMP TABLE kept AS SELECT seq, payload FROM publishes WHERE seq IN (41, 42);
               UPDATE publishes SET payload = (SELECT payload FROM kept WHERE kept.seq = 83 - publishes.seq)
               WHERE seq IN (41, 42)";
    assert_eq!(changed(&after(sql).await), [41, 42]);
}

#[tokio::test]
async fn an_edited_checkpoint_is_found() {
    for edit in
        ["note = replace(note, 'at 2026', 'at 2025')", "root = randomblob(32)", "size = 61", "size = 1000000"]
    {
        let report = after(&format!("UPDATE checkpoints SET {edit} WHERE size = 60")).await;
        let found = |finding: &Finding| matches!(finding, Finding::Checkpoint { .. });
        assert!(report.findings.iter().any(found), "{edit}: {:?}", report.findings);
    }
}

#[tokio::test]
async fn an_edited_or_missing_batch_is_found() {
    for sql in [
        "UPDATE batches SET root = randomblob(32) WHERE tree_size = 60",
        "UPDATE batches SET signature = randomblob(64) WHERE tree_size = 60",
        "UPDATE batches SET count = 19 WHERE tree_size = 60",
        "UPDATE batches SET first_seq = 41, count = 19 WHERE tree_size = 60",
        "DELETE FROM batches WHERE tree_size = 60",
        "DELETE FROM batches WHERE tree_size = 100",
        "UPDATE cursor SET next_seq = 101",
        "UPDATE cursor SET next_seq = 80",
        "DELETE FROM cursor",
    ] {
        let report = after(sql).await;
        assert!(!report.is_clean(), "{sql}");
    }
}

#[tokio::test]
async fn another_key_does_not_pass() {
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    assert_eq!(stored_keys(&store, NODE).await.unwrap(), [node.key().public().clone()]);
    let stranger = SigningKey::generate(NODE).unwrap().public().clone();
    let expectations = Expectations { keys: vec![stranger], ..Expectations::default() };
    let report = verify(&store, NODE, &expectations).await.unwrap();
    assert_eq!(report.findings_count, 10, "each batch and each checkpoint: {:?}", report.findings);
}

/// The last rows removed together with every trace of them: only a checkpoint kept elsewhere tells.
#[tokio::test]
async fn a_record_cut_off_cleanly_is_found_with_a_checkpoint_kept_elsewhere() {
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    let witnessed = prove(&store, NODE, Offset(99)).await.unwrap().checkpoint;
    let mut intruder = Intruder::sqlite(&node);
    for table in ["publishes", "access", "delivery_steps"] {
        intruder.run(&format!("DELETE FROM {table} WHERE seq >= 80")).await;
    }
    intruder.run("DELETE FROM batches WHERE tree_size > 80; DELETE FROM checkpoints WHERE size > 80").await;
    intruder.run("UPDATE cursor SET next_seq = 80").await;
    assert!(node.verify(&store).await.is_clean());
    let keys = vec![node.key().public().clone()];
    let expectations = Expectations { keys, witnessed: vec![witnessed], range: None };
    let report = verify(&store, NODE, &expectations).await.unwrap();
    assert!(matches!(report.findings[..], [Finding::Checkpoint { size: 100, .. }]), "{:?}", report.findings);
    // And the broker, which still has the journal, puts the rows back.
    node.project_all(&store).await;
    let report = verify(&store, NODE, &expectations).await.unwrap();
    assert!(report.is_clean() && report.rows == 100, "{:?}", report.findings);
}

#[tokio::test]
async fn a_record_rewritten_with_another_key_is_found_by_its_witness() {
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    let forger = SigningKey::generate(NODE).unwrap();
    let at = support::at(0);
    let forged = wardline_audit::Checkpoint::new(NODE, 60, [9; 32], at).sign(&forger).unwrap();
    let keys = vec![node.key().public().clone(), forger.public().clone()];
    let expectations = Expectations { keys, witnessed: vec![forged], range: None };
    assert!(!verify(&store, NODE, &expectations).await.unwrap().is_clean());
}

#[tokio::test]
async fn each_row_can_be_proved_alone_and_no_other_passes_for_it() {
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    let key = node.key().public().clone();
    for seq in [0, 1, 19, 20, 48, 49, 77, 99] {
        let proof = prove(&store, NODE, Offset(seq)).await.unwrap();
        let read: Proof = proof.to_string().parse().unwrap();
        assert_eq!(read, proof);
        read.check(&key).unwrap();
        let mut other = read.clone();
        *other.entry.last_mut().unwrap() ^= 1;
        other.check(&key).unwrap_err();
        let elsewhere = Proof { index: seq + 1, ..read.clone() };
        elsewhere.check(&key).unwrap_err();
        read.check(SigningKey::generate(NODE).unwrap().public()).unwrap_err();
    }
    assert!(prove(&store, NODE, Offset(100)).await.is_err());
    let note = prove(&store, NODE, Offset(0)).await.unwrap().checkpoint.note();
    assert_eq!(SignedCheckpoint::parse(&note).unwrap().checkpoint.size, 20);
}

#[tokio::test]
async fn triggers_stand_in_the_way_of_changes() {
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    let path = node.directory.path().join("audit.db");
    let raw = rusqlite::Connection::open(path).unwrap();
    for table in ["publishes", "access", "delivery_steps", "batches", "checkpoints", "keys"] {
        for sql in [format!("UPDATE {table} SET node = 2"), format!("DELETE FROM {table}")] {
            let refused = raw.execute(&sql, []).unwrap_err();
            assert!(refused.to_string().contains("append-only"), "{sql}: {refused}");
        }
    }
    raw.execute("UPDATE cursor SET next_seq = 0", []).unwrap_err();
    assert!(node.verify(&store).await.is_clean());
}

#[tokio::test]
async fn postgres_tampering_is_found_and_roles_stand_in_its_way() {
    let Some(server) = Postgres::start_unless_skipped() else { return };
    let node = Node::new();
    let store = Store::open(&server.url()).await.unwrap();
    let mut owner = Intruder::postgres(&server.url()).await;
    owner.run(include_str!("../sql/postgres-roles.sql")).await;
    owner.run("CREATE ROLE broker LOGIN IN ROLE wardline_audit_writer").await;
    owner.run("CREATE ROLE officer LOGIN IN ROLE wardline_audit_reader").await;

    // The broker needs no more than the writer's role.
    let broker = Store::parse(&server.url_as("broker")).unwrap();
    written_by(&node, &broker, &store).await;
    let mut raw = <sqlx::PgConnection as sqlx::Connection>::connect(&server.url_as("broker")).await.unwrap();
    for sql in ["UPDATE audit.publishes SET qos = 2", "DELETE FROM audit.access", "TRUNCATE audit.publishes"]
    {
        assert!(sqlx::raw_sql(sql).execute(&mut raw).await.is_err(), "{sql}");
    }

    // The officer reads and verifies, and does nothing else.
    let officer = Store::parse(&server.url_as("officer")).unwrap();
    assert!(node.verify(&officer).await.is_clean());
    assert!(prove(&officer, NODE, Offset(48)).await.is_ok());
    let mut raw = <sqlx::PgConnection as sqlx::Connection>::connect(&server.url_as("officer")).await.unwrap();
    for sql in [
        "INSERT INTO audit.cursor VALUES (7, 0, 0)",
        "DELETE FROM audit.access",
        "UPDATE audit.cursor SET next_seq = 0",
    ] {
        assert!(sqlx::raw_sql(sql).execute(&mut raw).await.is_err(), "{sql}");
    }

    // Even the owner meets the triggers.
    let mut raw = <sqlx::PgConnection as sqlx::Connection>::connect(&server.url()).await.unwrap();
    for sql in ["UPDATE audit.publishes SET qos = 2", "DELETE FROM audit.access", "TRUNCATE audit.publishes"]
    {
        let refused = sqlx::raw_sql(sql).execute(&mut raw).await.unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{sql}: {refused}");
    }

    // With triggers off: each is found.
    owner.run("UPDATE publishes SET payload = 'x' WHERE seq = 41").await;
    owner
        .run("UPDATE publishes SET received_at = received_at + interval '1 microsecond' WHERE seq = 42")
        .await;
    owner.run("UPDATE access SET reason = 'x' WHERE seq = 48").await;
    owner.run("DELETE FROM delivery_steps WHERE seq = 49").await;
    let report = node.verify(&store).await;
    assert_eq!(changed(&report), [41, 42, 48]);
    assert!(report.findings.contains(&Finding::Missing { seqs: 49..50 }), "{:?}", report.findings);
}

async fn written_by(node: &Node, broker: &Store, reader: &Store) {
    for round in 0..5 {
        load(node, round * 20, round * 20 + 20);
        node.project_all(broker).await;
    }
    let report = node.verify(reader).await;
    assert!(report.is_clean() && report.rows == 100, "{:?}", report.findings);
}

#[tokio::test]
async fn a_part_is_verified_against_a_signature_too() {
    let node = Node::new();
    let store = node.sqlite();
    written(&node, &store).await;
    let other = Node::new();
    other.append((0..100).map(|n| support::nth(n, "other")));
    other.project_all(&other.sqlite()).await;
    let path = other.directory.path().join("audit.db").display().to_string();
    let mut intruder = Intruder::sqlite(&node);
    intruder.run(&format!("ATTACH '{path}' AS other")).await;
    intruder.run("DELETE FROM publishes WHERE seq = 41").await;
    intruder.run("INSERT INTO publishes SELECT * FROM other.publishes WHERE seq = 41").await;
    let keys = vec![node.key().public().clone()];
    for (range, is_clean) in
        [(41..42, false), (45..46, false), (0..100, false), (20..40, true), (60..61, true)]
    {
        let expectations =
            Expectations { keys: keys.clone(), range: Some(range.clone()), ..Expectations::default() };
        let report = verify(&store, NODE, &expectations).await.unwrap();
        assert_eq!(report.is_clean(), is_clean, "{range:?}: {:?}", report.findings);
    }
}
