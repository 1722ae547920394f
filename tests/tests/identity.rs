//! Nobody unknown gets in, and the record says who was turned away and why.

use jiff::{SignedDuration, Timestamp};
use rumqttc::Transport;
use rumqttc::v5::mqttbytes::v5::Packet;
use wardline_tests::rumqtt::{V4, V5, tls};
use wardline_tests::{Broker, Site, record};

/// The sentences of the `refuse` rows.
fn refusals(site: &Site) -> Vec<String> {
    let rows =
        record::sqlite(&site.audit_db(), "SELECT reason FROM access WHERE event = 'refuse' ORDER BY seq");
    rows.into_iter().flatten().collect()
}

#[test]
fn certificate_and_token_that_agree_are_let_in() {
    let site = Site::new();
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    for token in [site.token("device:mon-12"), site.token_bound_to("device:mon-12", &device)] {
        let transport = || tls(&site.ca(), Some(&device));
        V5::connect("mon-12", broker.port("ward"), transport(), Some(&token)).unwrap();
        V4::connect("mon-12", broker.port("ward"), transport(), Some(&token)).unwrap();
    }
}

#[test]
fn a_token_that_is_not_good_is_refused_and_the_record_says_why() {
    let site = Site::new();
    let stranger = Site::new();
    let (device, other) = (site.device("mon-12"), site.device("mon-13"));
    let broker = Broker::start(&site);
    #[expect(clippy::disallowed_methods, reason = "the broker under test is another process")]
    let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
    let cases = [
        ("expired", Some(site.token_at("device:mon-12", yesterday))),
        ("issuer", Some(site.token_of("https://elsewhere.example", "device:mon-12"))),
        ("key", Some(stranger.token("device:mon-12"))),
        ("mon-13", Some(site.token("device:mon-13"))),
        ("another certificate", Some(site.token_bound_to("device:mon-12", &other))),
        ("token", Some("not.a.token".to_owned())),
        ("token", None),
    ];
    for (what, token) in &cases {
        let transport = tls(&site.ca(), Some(&device));
        let refused = V5::connect("mon-12", broker.port("ward"), transport, token.as_deref());
        assert!(refused.is_err(), "{what}: let in");
    }
    // Somebody else's trouble is not ours.
    let token = site.token("device:mon-12");
    V5::connect("mon-12", broker.port("ward"), tls(&site.ca(), Some(&device)), Some(&token)).unwrap();
    assert_eq!(broker.terminate().status, Some(0));
    let refusals = refusals(&site);
    assert_eq!(refusals.len(), cases.len(), "{refusals:?}");
    for (reason, (what, token)) in refusals.iter().zip(&cases) {
        assert!(reason.contains(what), "{reason:?} does not tell: {what}");
        let shown =
            token.as_deref().filter(|token| token.len() > 20).is_some_and(|token| reason.contains(token));
        assert!(!shown, "the record shows a token");
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (site, stranger) = (Site::new(), Site::new());
    let (good, forged) = (site.device("mon-12"), stranger.device("mon-12"));
    let broker = Broker::start(&site);
    assert!(V5::connect("mon-12", broker.port("bedside"), tls(&site.ca(), Some(&forged)), None).is_err());
    assert!(V5::connect("mon-12", broker.port("bedside"), tls(&site.ca(), None), None).is_err());
    V5::connect("mon-12", broker.port("bedside"), tls(&site.ca(), Some(&good)), None).unwrap();
    assert_eq!(broker.terminate().status, Some(0));
    assert_eq!(refusals(&site).len(), 2);
}

#[test]
fn a_principal_that_the_policy_does_not_name_is_refused() {
    let site = Site::new();
    let visitor = site.device("mon-99");
    let broker = Broker::start(&site);
    assert!(V5::connect("mon-99", broker.port("bedside"), tls(&site.ca(), Some(&visitor)), None).is_err());
    assert_eq!(broker.terminate().status, Some(0));
    let refusals = refusals(&site);
    assert!(matches!(refusals.as_slice(), [reason] if reason.contains("device:mon-99")), "{refusals:?}");
}

#[test]
fn a_broker_that_the_client_does_not_trust_learns_nothing() {
    let (site, stranger) = (Site::new(), Site::new());
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    assert!(V5::connect("mon-12", broker.port("bedside"), tls(&stranger.ca(), Some(&device)), None).is_err());
}

#[test]
fn a_revoked_certificate_is_disconnected_by_a_reload_and_others_stay() {
    let site = Site::new();
    let (device, nurse) = (site.device("mon-12"), site.staff("n.ito"));
    let broker = Broker::start(&site);
    let port = broker.port("bedside");
    let mut monitor = V5::connect("mon-12", port, tls(&site.ca(), Some(&device)), None).unwrap();
    let mut pager = V5::connect("pager", port, tls(&site.ca(), Some(&nurse)), None).unwrap();
    site.revoke_device("mon-12");
    broker.reload();
    let farewell = monitor.wait(|_| None::<()>).unwrap_err();
    assert!(farewell.contains("NotAuthorized"), "{farewell}");
    drop(monitor);
    assert!(V5::connect("mon-12", port, tls(&site.ca(), Some(&device)), None).is_err());
    pager.client.subscribe("alerts/icu-3/nurse/#", rumqttc::v5::mqttbytes::QoS::AtLeastOnce).unwrap();
    pager.wait(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).unwrap();
}

#[test]
fn a_reload_that_cannot_be_used_changes_nothing() {
    let site = Site::new();
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    site.write("policy.toml", "[roles.monitor\n");
    broker.reload();
    broker.wait_for_log("the refusal of the policy", |line| line.contains("policy.toml"));
    V5::connect("mon-12", broker.port("bedside"), tls(&site.ca(), Some(&device)), None).unwrap();
}

#[test]
fn a_gateway_with_a_token_over_loopback_is_let_in() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let token = site.token("service:lab");
    V5::connect("gateway", broker.port("gateway"), Transport::Tcp, Some(&token)).unwrap();
    V4::connect("gateway", broker.port("gateway"), Transport::Tcp, Some(&token)).unwrap();
    assert!(V5::connect("gateway", broker.port("gateway"), Transport::Tcp, None).is_err());
}
