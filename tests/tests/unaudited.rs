//! With `[audit] store = "none"` publishes are journaled and delivered as ever, no record is kept, and nobody overlooks it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests assert as tests do")]

use std::time::{Duration, Instant};

use wardline_tests::{
    Broker, DEADLINE, RawClient, Site,
    load::{self, Publisher},
    wardline,
};
use wardline_wire::{Packet, Publish, Version};

/// Of each publish.
const PAYLOAD_BYTES: usize = 1_000;
/// Twice what the journal may hold.
const PUBLISHES: u64 = 16_000;
/// Publishes under way at a time.
const WINDOW: u16 = 200;
const STORE: &str = "[audit]\nstore = \"sqlite:audit.db\"";

fn unaudited() -> Site {
    let site = Site::new();
    site.edit("wardline.toml", STORE, "[audit]\nstore = \"none\"\n\n[journal]\nquota = \"8MiB\"");
    site
}

fn publish_much(broker: &Broker) {
    let address = broker.address("lab");
    let next = |number: u64| {
        let payload = vec![b'.'; PAYLOAD_BYTES].into();
        (number < PUBLISHES).then(|| Publish { topic: "ward/1".into(), payload, ..Publish::default() })
    };
    load::block_on(async {
        let mut publisher = Publisher::connect(address, "monitor").await.unwrap();
        assert_eq!(publisher.publish(WINDOW, next).await.unwrap().len() as u64, PUBLISHES);
    });
}

fn status(broker: &Broker) -> serde_json::Value {
    serde_json::from_str(&broker.http("/status").1).unwrap()
}

#[test]
fn a_broker_without_a_record_delivers_keeps_what_it_acknowledged_and_lets_segments_go() {
    let site = unaudited();
    let broker = Broker::start(&site);
    let mut pager = RawClient::connected(broker.address("lab"), Version::V5, "pager");
    pager.subscribe("calls/#");
    let mut lab = RawClient::connected(broker.address("lab"), Version::V5, "lab");
    lab.retain("state/b12", "stable", 1);
    publish_much(&broker);
    lab.deliver("calls/b12", "come", 2);
    let Packet::Publish(call) = pager.receive() else { panic!("a call is due") };
    assert_eq!(&*call.payload, b"come");

    let begun = Instant::now();
    while status(&broker)["journal"]["first_offset"].as_u64().unwrap() < PUBLISHES / 2 {
        assert!(begun.elapsed() < DEADLINE, "{:#}", status(&broker));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(broker.metric::<u64>("wardline_audit_lag_records"), 0);
    broker.kill();

    let broker = Broker::recover(&site, &[]);
    let mut late = RawClient::connected(broker.address("lab"), Version::V5, "late");
    late.subscribe("state/#");
    let Packet::Publish(state) = late.receive() else { panic!("what was acknowledged is kept") };
    assert_eq!(&*state.payload, b"stable");
    assert_eq!(broker.terminate().status, Some(0));
    let data = site.path().join("data");
    for file in [site.audit_db(), data.join("audit.db"), data.join("audit.key")] {
        assert!(!file.exists(), "{}", file.display());
    }
}

#[test]
fn that_no_record_is_kept_is_said_wherever_somebody_looks() {
    let site = unaudited();
    let check = wardline().args(["check", "--config"]).arg(site.config()).output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(check.status.success(), "{said}");
    assert!(said.contains("warning: no audit record is kept"), "{said}");

    let broker = Broker::start(&site);
    broker.wait_for_log("the warning", |line| line.contains("no audit record is kept"));
    assert_eq!(broker.metric::<u64>("wardline_audit_kept"), 0);
    assert!(broker.http("/readyz").1.contains("no audit record is kept"));
    let audit = &status(&broker)["audit"];
    assert_eq!(
        (&audit["kept"], &audit["up_to"], &audit["lag_records"]),
        (&false.into(), &().into(), &0.into())
    );
    let url = format!("http://{}", broker.address("http"));
    let said = wardline().args(["status", "--url", &url]).output().unwrap();
    assert!(String::from_utf8(said.stdout).unwrap().contains("audit     no record is kept"));

    let query = wardline().args(["audit", "query", "--config"]).arg(site.config()).output().unwrap();
    assert_eq!(query.status.code(), Some(2));
    let said = String::from_utf8(query.stderr).unwrap();
    assert!(said.contains("there is no record"), "{said}");
}

#[test]
fn a_broker_with_a_record_says_so() {
    let site = Site::new();
    let check = wardline().args(["check", "--config"]).arg(site.config()).output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(!said.contains("no audit record") && said.contains("audit record in sqlite:"), "{said}");
    let broker = Broker::start(&site);
    assert_eq!(broker.metric::<u64>("wardline_audit_kept"), 1);
    assert_eq!(status(&broker)["audit"]["kept"], true);
}
