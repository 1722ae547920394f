//! The consumer: inserts what it hears into PostgreSQL, many rows at a time, and acknowledges it when that is committed.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, Packet, Publish, QoS};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{CONSUMER, Link, REQUESTS_MAX};

/// Rows of one INSERT, and how long the first of them waits for the others.
const ROWS_MAX: usize = 500;
const WAIT: Duration = Duration::from_millis(100);
const INSERT: &str = "INSERT INTO today.publishes (received_at, topic, payload) \
     SELECT to_timestamp(at), topic, payload FROM UNNEST($1::float8[], $2::text[], $3::bytea[]) AS row (at, topic, payload)";

/// Runs until it is killed; tells how many rows it has inserted.
pub(crate) fn run(words: &[String]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime can be made").block_on(consume(words));
}

async fn consume(words: &[String]) {
    let mut link = Link::of(CONSUMER, words);
    link.options.set_manual_acks(true);
    let pool = PgPool::connect(&link.store).await.expect("PostgreSQL runs");
    let (client, mut events) = AsyncClient::new(link.options, REQUESTS_MAX);
    for filter in ["telemetry/#", "alerts/#"] {
        client.subscribe(filter, QoS::AtLeastOnce).await.expect("the client runs");
    }
    let (heard, rows) = mpsc::channel(REQUESTS_MAX);
    tokio::spawn(insert(pool, client, rows));
    let mut subscribed = 0;
    loop {
        match events.poll().await.expect("the broker runs") {
            Event::Incoming(Packet::SubAck(_)) => {
                subscribed += 1;
                if subscribed == 2 {
                    println!("subscribed");
                }
            }
            Event::Incoming(Packet::Publish(publish)) => {
                heard.send((now_seconds(), publish)).await.expect("rows are inserted");
            }
            _ => {}
        }
    }
}

async fn insert(pool: PgPool, client: AsyncClient, mut heard: mpsc::Receiver<(f64, Publish)>) {
    let mut inserted = 0;
    while let Some(first) = heard.recv().await {
        let full_by = Instant::now() + WAIT;
        let mut rows = vec![first];
        while rows.len() < ROWS_MAX
            && let Ok(Some(row)) = timeout_at(full_by, heard.recv()).await
        {
            rows.push(row);
        }
        let at: Vec<f64> = rows.iter().map(|(at, _)| *at).collect();
        let topics: Vec<&str> = rows.iter().map(|(_, publish)| publish.topic.as_str()).collect();
        let payloads: Vec<&[u8]> = rows.iter().map(|(_, publish)| &*publish.payload).collect();
        let statement = sqlx::query(INSERT).bind(at).bind(topics).bind(payloads);
        let result = statement.execute(&pool).await.expect("the rows can be inserted");
        inserted += result.rows_affected();
        for (_, publish) in &rows {
            client.ack(publish).await.expect("the client runs");
        }
        println!("rows {inserted}");
    }
}

/// Since 1970.
fn now_seconds() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "when it came is what it records")]
    let now = jiff::Timestamp::now();
    now.as_duration().as_secs_f64()
}
