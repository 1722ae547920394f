//! Sections 3.1.4 and 3.2: what follows from a CONNECT.

use crate::bytes::{
    ACCEPTED, CLEAN, PASSWORD, PINGREQ, PINGRESP, PUBLISH, QOS_1, RESUMED, USER_NAME, WILL, connect, publish,
    refused,
};
use crate::lab::Lab;
use crate::peer::{Peer, texts};

#[test]
fn connack_comes_first_and_says_whether_there_is_a_session() {
    let lab = Lab::start();
    // [MQTT3-3.2.2-3] [MQTT3-3.1.4-4]
    let mut reader = lab.keeper("reader", ACCEPTED);
    reader.subscribe("t", 1);
    reader.disconnect();
    let mut writer = lab.client("writer");
    writer.put("t", "waits");
    // [MQTT3-3.2.0-1] [MQTT3-3.2.2-2]: before what waited, although that was there first.
    let mut reader = lab.keeper("reader", RESUMED);
    assert_eq!(reader.publish().text(), "waits");
    reader.disconnect();
    // [MQTT3-3.2.2-1] [MQTT3-3.1.4-3]: and the clean session took the other one away.
    lab.client("reader").disconnect();
    let mut reader = lab.keeper("reader", ACCEPTED);
    writer.put("t", "for nobody");
    assert!(reader.heard().is_empty());
}

/// [MQTT3-3.2.2-4] [MQTT3-3.2.2-5]
#[test]
fn a_refusal_has_its_return_code_no_session_and_the_end_of_the_connection() {
    let lab = Lab::start();
    let mut watcher = lab.subscriber("watcher", "#", 0);
    let stranger = lab.site.token("staff:nobody");
    let gateway = lab.broker.address("gateway");
    let with_password = USER_NAME | PASSWORD;
    // A session under this name is present, but not to those who are refused.
    lab.keeper("known", ACCEPTED).disconnect();
    let cases: &[(&str, u8, std::net::SocketAddr, Vec<u8>)] = &[
        ("no token", 4, gateway, connect(CLEAN, &[b"known"])),
        ("a token that is none", 4, gateway, connect(with_password, &[b"known", b"u", b"letmein"])),
        (
            "a principal that the policy does not name",
            5,
            gateway,
            connect(with_password, &[b"known", b"u", stranger.as_bytes()]),
        ),
        (
            "a will that may not be published",
            5,
            lab.broker.address("lab"),
            connect(WILL, &[b"known", b"secret/will", b"x"]),
        ),
    ];
    for (what, code, address, hello) in cases {
        let mut peer = Peer::open(*address);
        // [MQTT3-3.1.4-5]: what comes with the CONNECT is not for anybody.
        peer.send(&[&hello[..], &publish(PUBLISH, "t", None, *what), &PINGREQ].concat());
        let frame = peer.frame();
        assert_eq!(frame, refused(*code), "{what}");
        peer.expect_closed(what);
    }
    assert!(watcher.heard().is_empty());
}

/// [MQTT3-3.1.4-2]
#[test]
fn a_client_that_connects_again_takes_over() {
    let lab = Lab::start();
    let mut writer = lab.client("writer");
    let mut old = lab.keeper("reader", ACCEPTED);
    old.subscribe("t", 1);
    let mut new = lab.keeper("reader", RESUMED);
    old.expect_closed("taken over");
    writer.put("t", "for the new one");
    assert_eq!(texts(&new.heard()), ["for the new one"]);
    // The same with clean sessions, of which nothing is left.
    let mut clean = lab.client("reader");
    new.expect_closed("taken over by a clean session");
    writer.put("t", "for nobody");
    assert!(clean.heard().is_empty());
    // And as often as it likes.
    for _ in 0..20 {
        let mut next = lab.client("reader");
        clean.expect_closed("taken over again");
        next.ask(&PINGREQ, &PINGRESP);
        clean = next;
    }
}

/// [MQTT3-3.2.0-1]
#[test]
fn what_comes_with_connect_is_answered_after_connack() {
    let lab = Lab::start();
    let mut peer = lab.open();
    let publish = publish(PUBLISH | QOS_1, "t", Some(1), "x");
    peer.send(&[&connect(CLEAN, &[b"hasty"])[..], &publish, &PINGREQ].concat());
    peer.expect(&ACCEPTED);
    // A ping is answered at once, a publish when it is on disk.
    let mut answers = [peer.frame(), peer.frame()];
    answers.sort();
    assert_eq!(answers, [vec![0x40, 2, 0, 1], PINGRESP.to_vec()]);
}
