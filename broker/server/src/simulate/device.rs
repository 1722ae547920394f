//! A monitor: sends what it is given, over as many connections as it takes, and accounts for each publish.
//!
//! At QoS 1 what was not acknowledged when a connection was lost is sent again on the next, in its order: at least once, as MQTT
//! has it. The tally says how many were, so that an audit record with as many rows more can be understood.

use std::{collections::VecDeque, time::Duration};

use rumqttc::v5::mqttbytes::QoS;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::{
    identity::Identity,
    link::{Link, LinkError, LinkEvent, Session, WINDOW},
    reading::Outgoing,
};

/// Between two attempts to reach a broker that was lost.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(250);

/// For this long a lost broker is waited for; then what is not acknowledged counts as lost.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// For this long an acknowledgement is waited for before the connection counts as dead.
const ACKNOWLEDGEMENT_PATIENCE: Duration = Duration::from_secs(30);

/// What became of a device's publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Different publishes handed to the network.
    pub published: u64,
    /// Acknowledged with success; at QoS 0, written.
    pub acknowledged: u64,
    /// Acknowledged with a reason code that says no.
    pub refused: u64,
    /// Sent another time because the connection was lost before the acknowledgement.
    pub repeated: u64,
    /// The first refusal's reason, or why the broker was given up.
    pub trouble: Option<String>,
}

impl Tally {
    /// Publishes that nobody answered for.
    pub fn lost(&self) -> u64 {
        self.published - self.acknowledged - self.refused
    }

    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.published += other.published;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.repeated += other.repeated;
        self.trouble = self.trouble.take().or(other.trouble);
    }
}

/// A connected device.
#[derive(Debug)]
pub struct Device {
    identity: Identity,
    qos: QoS,
    link: Link,
    outbox: Outbox,
}

impl Device {
    /// Connects, once.
    pub async fn connect(identity: Identity, qos: QoS) -> Result<Self, LinkError> {
        let link = Link::open(&identity, Session::Transient).await?;
        Ok(Self { identity, qos, link, outbox: Outbox::default() })
    }

    /// Publishes what comes in, until the sender has gone and everything is answered for; then disconnects. Takes no more
    /// than a window at a time.
    pub async fn run(mut self, mut publishes: mpsc::Receiver<Outgoing>) -> Tally {
        let mut more = true;
        while more || !self.outbox.is_empty() {
            let room = more && self.outbox.len() < WINDOW;
            let silent = sleep(ACKNOWLEDGEMENT_PATIENCE);
            let lost = tokio::select! {
                event = self.link.next() => self.take(event),
                publish = publishes.recv(), if room => {
                    match publish {
                        Some(publish) => self.submit(publish),
                        None => more = false,
                    }
                    None
                }
                () = silent, if !self.outbox.is_empty() => Some("acknowledgements stopped coming".to_owned()),
            };
            if let Some(reason) = lost
                && let Err(error) = self.reconnect(&reason).await
            {
                self.outbox.tally.trouble = Some(error);
                return self.outbox.tally;
            }
        }
        self.link.close().await;
        self.outbox.tally
    }

    fn submit(&mut self, publish: Outgoing) {
        // One that the connection does not take any more is sent on the next.
        self.link.publish(&publish, self.qos);
        self.outbox.submit(publish);
    }

    /// The reason, if the connection is lost.
    fn take(&mut self, event: Option<LinkEvent>) -> Option<String> {
        match event {
            Some(LinkEvent::Sent(packet_id)) => self.outbox.sent(packet_id),
            Some(LinkEvent::Acknowledged { packet_id, refusal }) => {
                self.outbox.acknowledged(packet_id, refusal);
            }
            Some(LinkEvent::Subscribed { .. } | LinkEvent::Message { .. }) => {}
            Some(LinkEvent::Lost(reason)) => return Some(reason),
            None => return Some("the connection ended".to_owned()),
        }
        None
    }

    async fn reconnect(&mut self, reason: &str) -> Result<(), String> {
        let client = &self.identity.client_id;
        tracing::warn!(client, reason, "connection lost");
        let deadline = Instant::now() + RECONNECT_PATIENCE;
        loop {
            match timeout_at(deadline, Link::open(&self.identity, Session::Transient)).await {
                Ok(Ok(link)) => {
                    self.link = link;
                    break;
                }
                Ok(Err(error @ LinkError::Refused { .. })) => return Err(error.to_string()),
                Ok(Err(error)) if Instant::now() + RECONNECT_INTERVAL >= deadline => {
                    return Err(error.to_string());
                }
                Ok(Err(_)) => sleep(RECONNECT_INTERVAL).await,
                Err(_) => {
                    return Err(format!("{client} lost the broker ({reason}) and could not reach it again"));
                }
            }
        }
        for publish in self.outbox.repeat() {
            self.link.publish(publish, self.qos);
        }
        Ok(())
    }
}

/// Publishes under way: which of them the broker has answered for.
#[derive(Debug, Default)]
struct Outbox {
    /// In the order of submission; the first `sent` of them have a packet identifier.
    waiting: VecDeque<Waiting>,
    sent: usize,
    tally: Tally,
}

#[derive(Debug)]
struct Waiting {
    publish: Outgoing,
    packet_id: u16,
}

impl Outbox {
    fn len(&self) -> usize {
        self.waiting.len()
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn submit(&mut self, publish: Outgoing) {
        self.tally.published += 1;
        self.waiting.push_back(Waiting { publish, packet_id: 0 });
    }

    /// The oldest publish without packet identifier was written with this one; 0 is QoS 0, and needs no answer.
    fn sent(&mut self, packet_id: u16) {
        if packet_id == 0 {
            if self.waiting.remove(self.sent).is_some() {
                self.tally.acknowledged += 1;
            }
        } else if let Some(waiting) = self.waiting.get_mut(self.sent) {
            waiting.packet_id = packet_id;
            self.sent += 1;
        }
    }

    fn acknowledged(&mut self, packet_id: u16, refusal: Option<String>) {
        // Brokers answer in order, so this looks at the first.
        let Some(place) =
            self.waiting.iter().take(self.sent).position(|waiting| waiting.packet_id == packet_id)
        else {
            return;
        };
        self.waiting.remove(place);
        self.sent -= 1;
        match refusal {
            None => self.tally.acknowledged += 1,
            Some(reason) => {
                self.tally.refused += 1;
                self.tally.trouble.get_or_insert(reason);
            }
        }
    }

    /// On a new connection: all that waits, to be sent in its order. Counts those that had been sent before.
    fn repeat(&mut self) -> impl Iterator<Item = &Outgoing> {
        self.tally.repeated += self.sent as u64;
        self.sent = 0;
        self.waiting.iter().map(|waiting| &waiting.publish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(publishes: usize) -> Outbox {
        let mut outbox = Outbox::default();
        for n in 0..publishes {
            outbox.submit(Outgoing { topic: format!("t/{n}"), payload: Vec::new() });
        }
        outbox
    }

    #[test]
    fn acknowledgements_in_any_order_empty_the_outbox() {
        let mut outbox = outbox(3);
        (1..=3).for_each(|packet_id| outbox.sent(packet_id));
        outbox.acknowledged(2, None);
        outbox.acknowledged(2, None);
        outbox.acknowledged(3, Some("not authorized".into()));
        assert_eq!(outbox.tally.lost(), 1);
        outbox.acknowledged(1, None);
        assert!(outbox.is_empty());
        let expected = Tally {
            published: 3,
            acknowledged: 2,
            refused: 1,
            repeated: 0,
            trouble: Some("not authorized".into()),
        };
        assert_eq!(outbox.tally, expected);
        assert_eq!(outbox.tally.lost(), 0);
    }

    #[test]
    fn a_packet_identifier_used_again_belongs_to_the_later_publish() {
        let mut outbox = outbox(2);
        outbox.sent(1);
        outbox.acknowledged(1, None);
        outbox.acknowledged(1, None);
        assert_eq!((outbox.tally.acknowledged, outbox.len()), (1, 1), "the second was not sent yet");
        outbox.sent(1);
        outbox.acknowledged(1, None);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_lost_connection_repeats_what_waits_in_its_order() {
        let mut outbox = outbox(4);
        (1..=3).for_each(|packet_id| outbox.sent(packet_id));
        outbox.acknowledged(1, None);
        let repeated: Vec<_> = outbox.repeat().map(|publish| publish.topic.clone()).collect();
        assert_eq!(repeated, ["t/1", "t/2", "t/3"]);
        assert_eq!(outbox.tally.repeated, 2, "the fourth had not been sent");
        (1..=3).for_each(|packet_id| outbox.sent(packet_id));
        (1..=3).for_each(|packet_id| outbox.acknowledged(packet_id, None));
        assert_eq!((outbox.tally.acknowledged, outbox.tally.lost()), (4, 0));
    }

    #[test]
    fn at_qos_0_written_is_done() {
        let mut outbox = outbox(2);
        outbox.sent(0);
        assert_eq!((outbox.len(), outbox.tally.acknowledged), (1, 1));
        outbox.sent(0);
        assert_eq!(outbox.tally.lost(), 0);
    }

    #[test]
    fn tallies_add_up_and_keep_the_first_trouble() {
        let mut sum =
            Tally { published: 2, acknowledged: 1, refused: 1, repeated: 0, trouble: Some("a".into()) };
        sum.add(Tally { published: 3, acknowledged: 2, refused: 0, repeated: 1, trouble: Some("b".into()) });
        assert_eq!((sum.published, sum.lost(), sum.repeated, sum.trouble.as_deref()), (5, 1, 1, Some("a")));
    }
}
