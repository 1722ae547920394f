//! Clients that hospitals already have talk to the broker and hear each other.

use std::process::Command;

use rumqttc::Transport;
use rumqttc::v5::mqttbytes::v5 as packet5;
use wardline_tests::rumqtt::{V4, V5, tls};
use wardline_tests::{Broker, Process, Site, paho_round_trip};

/// Runs a subscriber and a publisher of the Mosquitto clients with the same options.
fn mosquitto_round_trip(options: &[String]) {
    // Its standard output is a pipe, and so would be held back.
    let mut subscribe = Command::new("stdbuf");
    subscribe.args([
        "-oL",
        "mosquitto_sub",
        "-d",
        "-q",
        "1",
        "-t",
        "ward/+/note",
        "-C",
        "1",
        "-F",
        "received %t %p",
    ]);
    let mut subscriber = Process::start(subscribe.args(options));
    subscriber.wait_for("the subscription", |line| line.contains("SUBACK"));
    let mut publish = Command::new("mosquitto_pub");
    publish.args(["-q", "1", "-t", "ward/b12/note", "-m", "good morning"]);
    let mut publisher = Process::start(publish.args(options));
    let status = publisher.wait();
    assert!(status.success(), "{}", publisher.said());
    subscriber.wait_for("the message", |line| line == "received ward/b12/note good morning");
    assert!(subscriber.wait().success(), "{}", subscriber.said());
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// [MQTT3-7.0.0-2] [MQTT3-7.1.1-1]
#[test]
fn mosquitto_clients_speak_mqtt_3_1_1() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let port = broker.port("lab").to_string();
    mosquitto_round_trip(&strings(&["-h", "127.0.0.1", "-p", &port, "-V", "mqttv311"]));
}

#[test]
fn mosquitto_clients_speak_mqtt_5() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let port = broker.port("lab").to_string();
    mosquitto_round_trip(&strings(&["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5"]));
}

#[test]
fn mosquitto_clients_come_with_a_certificate() {
    let site = Site::new();
    site.allow_round_trip();
    let credentials = site.device("mon-12");
    let broker = Broker::start(&site);
    let port = broker.port("bedside").to_string();
    let (ca, certificate, key) = (site.ca(), credentials.certificate, credentials.key);
    let file = |path: &std::path::Path| path.display().to_string();
    let files = ["--cafile", &file(&ca), "--cert", &file(&certificate), "--key", &file(&key)];
    let mut options = strings(&["-h", "localhost", "-p", &port, "-V", "mqttv5"]);
    options.extend(strings(&files));
    mosquitto_round_trip(&options);
}

fn paho(version: &str, listener: &str, transport: &str) {
    let site = Site::new();
    let broker = Broker::start(&site);
    paho_round_trip(["127.0.0.1", &broker.port(listener).to_string(), version, transport]);
}

#[test]
fn paho_speaks_mqtt_3_1_1() {
    paho("3.1.1", "lab", "tcp");
}

#[test]
fn paho_speaks_mqtt_5() {
    paho("5", "lab", "tcp");
}

/// [MQTT3-7.0.0-2] [MQTT3-7.1.1-1]
#[test]
fn paho_speaks_mqtt_over_websockets() {
    paho("3.1.1", "web", "websockets");
    paho("5", "web", "websockets");
}

#[test]
fn rumqttc_speaks_mqtt_3_1_1() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = V4::connect("round", broker.port("lab"), Transport::Tcp, None).unwrap();
    client.client.subscribe("ward/#", rumqttc::QoS::ExactlyOnce).unwrap();
    client.wait(|packet| matches!(packet, rumqttc::Packet::SubAck(_)).then_some(())).unwrap();
    client.client.publish("ward/b12", rumqttc::QoS::ExactlyOnce, false, "exactly once").unwrap();
    let received = client.wait(|packet| match packet {
        rumqttc::Packet::Publish(publish) => Some((publish.topic.clone(), publish.payload.clone())),
        _ => None,
    });
    assert_eq!(received, Ok(("ward/b12".to_owned(), "exactly once".into())));
}

#[test]
fn rumqttc_speaks_mqtt_5() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = V5::connect("round", broker.port("lab"), Transport::Tcp, None).unwrap();
    client.client.subscribe("ward/#", rumqttc::v5::mqttbytes::QoS::ExactlyOnce).unwrap();
    client.wait(|packet| matches!(packet, packet5::Packet::SubAck(_)).then_some(())).unwrap();
    let properties = packet5::PublishProperties {
        content_type: Some("text/plain".to_owned()),
        user_properties: vec![("shift".to_owned(), "night".to_owned())],
        ..packet5::PublishProperties::default()
    };
    let qos = rumqttc::v5::mqttbytes::QoS::ExactlyOnce;
    client
        .client
        .publish_with_properties("ward/b12", qos, false, "exactly once", properties.clone())
        .unwrap();
    let received = client.wait(|packet| match packet {
        packet5::Packet::Publish(publish) => Some((publish.payload.clone(), publish.properties.clone())),
        _ => None,
    });
    let (payload, received) = received.unwrap();
    let received = received.expect("the properties arrive");
    assert_eq!(payload, "exactly once");
    assert_eq!(received.content_type, properties.content_type);
    assert_eq!(received.user_properties, properties.user_properties);
}

#[test]
fn an_alert_reaches_the_nurse_over_mutual_tls_with_tokens() {
    let site = Site::new();
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    let port = broker.port("ward");
    let mut pager = V5::pager(&site, &broker);

    let token = site.token_bound_to("device:mon-12", &device);
    let mut monitor = V4::connect("mon-12", port, tls(&site.ca(), Some(&device)), Some(&token)).unwrap();
    let topic = "telemetry/icu-3/b12/mon-12/spo2";
    monitor.client.publish(topic, rumqttc::QoS::AtLeastOnce, false, "84").unwrap();
    monitor.wait(|packet| matches!(packet, rumqttc::Packet::PubAck(_)).then_some(())).unwrap();

    let (topic, payload) = pager
        .wait(|packet| match packet {
            packet5::Packet::Publish(publish) => Some((publish.topic.clone(), publish.payload.clone())),
            _ => None,
        })
        .unwrap();
    assert_eq!(topic, "alerts/icu-3/nurse/high/b12/spo2-low");
    let alert: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(alert["value"], 84.0);
    assert_eq!(
        (&alert["phase"], &alert["tier"], &alert["to"]),
        (&"start".into(), &1.into(), &"nurse".into())
    );
}
