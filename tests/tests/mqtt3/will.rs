//! Section 3.1.2.5 and 3.14: wills, and the DISCONNECT that takes them back.

use crate::bytes::{
    ACCEPTED, CLEAN, DISCONNECT, PINGREQ, PUBLISH, QOS_1, QOS_2, RESUMED, RETAIN, WILL, WILL_QOS_1,
    WILL_QOS_2, WILL_RETAIN, connect, publish,
};
use crate::lab::Lab;
use crate::peer::{Heard, Peer, texts};

impl Lab {
    /// A client with a clean session whose will says who it was.
    fn mortal(&self, id: &str, flags: u8) -> Peer {
        let mut peer = self.open();
        let topic = format!("gone/{id}");
        peer.ask(&connect(WILL | flags, &[id.as_bytes(), topic.as_bytes(), id.as_bytes()]), &ACCEPTED);
        peer
    }
}

/// [MQTT3-3.1.2-8]
#[test]
fn a_will_is_published_however_the_connection_ends() {
    let lab = Lab::start();
    let mut watcher = lab.subscriber("watcher", "gone/#", 0);
    let mut hears = |id: &str| watcher.expect(&publish(PUBLISH, format!("gone/{id}"), None, id));
    drop(lab.mortal("cut", CLEAN));
    hears("cut");
    let ends: &[(&str, &[u8])] = &[
        ("protocol-violation", &ACCEPTED),
        ("malformed-packet", &[0x36, 0]),
        ("not-mqtt", b"GET / HTTP/1.1\r\n\r\n"),
        // [MQTT3-3.14.1-1]: a DISCONNECT that is none.
        ("wrong-disconnect", &[0xE1, 0]),
        ("long-disconnect", &[0xE0, 1, 0]),
    ];
    for (id, bytes) in ends {
        let mut mortal = lab.mortal(id, CLEAN);
        mortal.send(bytes);
        mortal.expect_closed(id);
        hears(id);
    }
    let mut old = lab.mortal("taken-over", CLEAN);
    let new = lab.client("taken-over");
    old.expect_closed("taken over");
    hears("taken-over");
    // Once: it went with the connection that it belonged to.
    new.disconnect();
    assert!(watcher.heard().is_empty());
}

#[test]
fn a_will_has_the_qos_and_the_retain_flag_of_its_connect() {
    let lab = Lab::start();
    let mut watcher = lab.subscriber("watcher", "gone/#", 2);
    let qos = [(0, 0, "qos-0"), (WILL_QOS_1, QOS_1, "qos-1"), (WILL_QOS_2, QOS_2, "qos-2")];
    for (will_qos, qos, id) in qos {
        // [MQTT3-3.1.2-9]
        drop(lab.mortal(id, CLEAN | will_qos));
        let heard = watcher.publish();
        assert_eq!((heard.first, heard.text()), (PUBLISH | qos, id));
        drop(lab.mortal(&format!("{id}-kept"), CLEAN | will_qos | WILL_RETAIN));
        let heard = watcher.publish();
        assert_eq!(heard.first, PUBLISH | qos, "{heard:?}");
    }
    // [MQTT3-3.1.2-16] [MQTT3-3.1.2-17]
    let heard = lab.subscriber("later", "gone/#", 2).heard();
    let first: Vec<_> = heard.iter().map(|heard| (heard.first, heard.text())).collect();
    let retained = |qos| PUBLISH | qos | RETAIN;
    assert_eq!(
        first,
        [(retained(0), "qos-0-kept"), (retained(QOS_1), "qos-1-kept"), (retained(QOS_2), "qos-2-kept")]
    );
}

#[test]
fn a_will_without_payload_is_a_publish_without_payload() {
    let lab = Lab::start();
    let mut watcher = lab.subscriber("watcher", "gone", 0);
    lab.client("writer").ask(&publish(PUBLISH | QOS_1 | RETAIN, "gone", Some(1), "here"), &[0x40, 2, 0, 1]);
    watcher.expect(&publish(PUBLISH, "gone", None, "here"));
    let mut mortal = lab.open();
    mortal.ask(&connect(CLEAN | WILL | WILL_RETAIN, &[b"mortal", b"gone", b""]), &ACCEPTED);
    drop(mortal);
    watcher.expect(&publish(PUBLISH, "gone", None, ""));
    // Retained and empty: it clears the topic.
    assert_eq!(lab.subscriber("later", "gone", 0).heard(), []);
}

#[test]
fn disconnect_takes_the_will_back() {
    let lab = Lab::start();
    let mut watcher = lab.subscriber("watcher", "gone/#", 0);
    // [MQTT3-3.14.4-3] [MQTT3-3.1.2-10]
    lab.mortal("polite", CLEAN).disconnect();
    lab.mortal("polite-keeper", 0).disconnect();
    // [MQTT3-3.1.2-10]: published once, it is not there for the next connection of the same session.
    drop(lab.mortal("keeper", 0));
    assert_eq!(watcher.publish().text(), "keeper");
    drop(lab.keeper("keeper", RESUMED));
    // [MQTT3-3.1.2-12]; the next connection of a client ends the one before it, if that is still there.
    drop(lab.client("no-will"));
    lab.client("no-will").disconnect();
    lab.keeper("keeper", RESUMED).disconnect();
    // [MQTT3-3.14.4-1] [MQTT3-3.14.4-2]: the server closes, and hears nothing that follows.
    let mut talker = lab.mortal("talker", CLEAN);
    talker.send(&[&DISCONNECT[..], &publish(PUBLISH, "gone/talker", None, "not yet"), &PINGREQ].concat());
    talker.expect_closed("DISCONNECT");
    // Any other will would have come before this one.
    drop(lab.mortal("last", CLEAN));
    let heard: Vec<Heard> =
        std::iter::from_fn(|| Some(watcher.publish())).take_while(|heard| heard.text() != "last").collect();
    assert!(texts(&heard).is_empty(), "{heard:?}");
}
