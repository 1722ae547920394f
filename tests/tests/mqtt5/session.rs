//! Clean start and session state (sections 3.1.2.4, 3.1.2.11.2 and 4.1). Expiry: `broker/core/tests/`.

use wardline_wire::{Connect, Packet, QoS, ReasonCode};

use crate::support::*;

/// A clean start discards what there was and begins anew: [MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT-3.2.2-2].
#[test]
fn a_clean_start_discards_the_session() {
    let lab = Lab::new();
    let (mut pager, _) = lab.connected(resume("pager"));
    subscribe(&mut pager, "t", QoS::AtLeastOnce);
    drop(pager);
    let (pager, answer) = lab.connected(Connect { clean_start: true, ..resume("pager") });
    assert!(!answer.session_present);
    let mut pager = Listener::new(pager);
    let mut device = lab.client("device");
    device.deliver("t", "x", 1);
    assert_eq!(payloads(&mut pager), [""; 0]);
}

/// Without a clean start a session is continued, or begun where there is none: [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23]
/// [MQTT-3.1.4-4] [MQTT-3.2.2-3] [MQTT-4.5.0-1].
#[test]
fn a_session_is_continued_where_there_is_one() {
    let lab = Lab::new();
    let (mut pager, answer) = lab.connected(resume("pager"));
    assert!(!answer.session_present, "a new session");
    subscribe(&mut pager, "t", QoS::AtLeastOnce);
    pager.send(&disconnect(ReasonCode::Success));
    assert_eq!(pager.until_closed(), []);
    let mut device = lab.client("device");
    device.deliver("t", "while away", 1);
    let (mut pager, answer) = lab.connected(resume("pager"));
    assert!(answer.session_present);
    let publish = next_publish(&mut pager);
    assert_eq!(text(&publish), "while away");
    pager.send(&Packet::PubAck(ack(id_of(&publish))));
    device.deliver("t", "still subscribed", 2);
    assert_eq!(text(&next_publish(&mut pager)), "still subscribed");
}

/// A session without an expiry ends with its connection: [MQTT-3.1.2-6] [MQTT-4.1.0-2].
#[test]
fn a_session_that_is_not_to_be_kept_is_not() {
    let lab = Lab::new();
    for expiry in [None, Some(0)] {
        let mut connect = resume("pager");
        connect.properties.session_expiry = expiry;
        let (mut pager, answer) = lab.connected(connect.clone());
        assert!(!answer.session_present);
        pager.send(&disconnect(ReasonCode::Success));
        assert_eq!(pager.until_closed(), []);
        assert!(!lab.connected(connect).1.session_present);
    }
}
