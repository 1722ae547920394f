//! A connection that subscribes, and counts; and one that only holds subscriptions.

use tokio::time::timeout;
use wardline_wire::{PacketType, QoS};

use crate::connection::{Connection, Ended, LEAVE, answer};
use crate::crew::{Event, Heard, Phase, Shared, Station};
use crate::dial::DialError;
use crate::message::{Stamp, topic};
use crate::meter::{Measured, Meter};
use crate::plan::Scenario;
use crate::scan::{Scanned, Scanner};
use crate::track::{Arrival, Counts, Track};
use crate::ward::{Heard as HeardAlert, unit};

/// Which subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads what comes.
    Ready,
    /// Does not read until the publishers have ended.
    Slow,
}

/// Connects, subscribes, counts what comes, and tells it at the end.
pub(crate) async fn subscribe(station: Station, number: u32, kind: Kind) {
    let plan = &station.shared.plan;
    let client_id = match kind {
        Kind::Ready => plan.subscriber_id(number),
        Kind::Slow => format!("{}-slow", plan.prefix),
    };
    let (role, filter) = match plan.scenario {
        Scenario::Pairs => ("device", topic(&plan.prefix, number)),
        Scenario::Ward => {
            ("staff", format!("alerts/{}/nurse/#", unit(&plan.prefix, plan.subscribers, number)))
        }
        _ => ("device", format!("{}/+", plan.prefix)),
    };
    let Some(mut connection) = enter(&station, role, &client_id, std::iter::once(filter)).await else {
        return;
    };
    let begin = connection.stall_until(station.run_begins()).await;
    let Some((begin_ns, measured)) = begin else { return };
    let (publishers, apart) = match plan.scenario {
        Scenario::Pairs => (number..number + 1, 1),
        Scenario::Ward => (number..plan.publishers, plan.subscribers),
        _ => (0..plan.publishers, 1),
    };
    let mut count = Count {
        shared: &station.shared,
        begin_ns,
        measured,
        slow: kind == Kind::Slow,
        first: publishers.start,
        apart,
        tracks: publishers.step_by(apart as usize).map(|_| Track::default()).collect(),
        foreign: 0,
    };
    let ended = listen(&station, &mut connection, &mut count).await;
    match ended {
        Ok(()) => {
            let _ = timeout(LEAVE, connection.leave()).await;
        }
        Err(ended) => {
            station.meter.lock().ended(&client_id, &ended);
            station.reached(Phase::Leave).await;
        }
    }
    station.tell(Event::Heard(count.heard())).await;
}

/// Holds subscriptions that no message matches: `from` to `to` of them.
pub(crate) async fn hold(station: Station, number: u32, subscriptions: std::ops::Range<u32>) {
    let prefix = &station.shared.plan.prefix;
    let client_id = format!("{prefix}-hold-{number}");
    // Matches the levels of a topic, so that each publish is led to it, and one more that no topic has.
    let filters = subscriptions.map(|number| format!("+/{number:07}/{prefix}"));
    let Some(connection) = enter(&station, "device", &client_id, filters).await else { return };
    station.hold(connection, &client_id).await;
}

async fn enter(
    station: &Station,
    role: &str,
    client_id: &str,
    filters: impl Iterator<Item = String>,
) -> Option<Connection> {
    match connect(&station.shared, role, client_id, filters).await {
        Ok(connection) => {
            station.tell(Event::Ready).await;
            Some(connection)
        }
        Err(error) => {
            station.tell(Event::Failed(format!("{client_id}: {error}"))).await;
            None
        }
    }
}

async fn connect(
    shared: &Shared,
    role: &str,
    client_id: &str,
    filters: impl Iterator<Item = String>,
) -> Result<Connection, DialError> {
    let mut guest = shared.dialer.connect(client_id, shared.dialer.access(role, client_id)?).await?;
    guest.subscribe(filters, shared.plan.qos).await?;
    Ok(guest.enter())
}

async fn listen(station: &Station, connection: &mut Connection, count: &mut Count<'_>) -> Result<(), Ended> {
    if count.slow {
        connection.stall_until(station.reached(Phase::Drain)).await;
    }
    let mut leave = std::pin::pin!(station.reached(Phase::Leave));
    loop {
        tokio::select! {
            () = &mut leave => return Ok(()),
            read = connection.read(|packets: &mut Scanner<'_>, output: &mut Vec<u8>| {
                count.take(packets, output, &mut station.meter.lock())
            }) => read?,
        }
    }
}

/// What came.
struct Count<'a> {
    shared: &'a Shared,
    begin_ns: u64,
    measured: Measured,
    slow: bool,
    /// The publisher of the first of `tracks`; those of the others are each so far from the one before.
    first: u32,
    apart: u32,
    tracks: Vec<Track>,
    foreign: u64,
}

impl Count<'_> {
    fn take(
        &mut self,
        packets: &mut Scanner<'_>,
        output: &mut Vec<u8>,
        meter: &mut Meter,
    ) -> Result<(), Ended> {
        let now_ns = self.shared.clock.now_ns();
        let mut batch = Batch { publisher: self.first, new: 0 };
        let taken = packets.try_for_each(|packet| {
            match packet? {
                Scanned::Publish { qos, packet_id, payload } => {
                    match qos {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => answer(output, PacketType::PubAck, packet_id),
                        QoS::ExactlyOnce => answer(output, PacketType::PubRec, packet_id),
                    }
                    self.message(payload, now_ns, &mut batch, meter);
                }
                Scanned::Ack { packet: PacketType::PubRel, packet_id, .. } => {
                    answer(output, PacketType::PubComp, packet_id);
                }
                Scanned::Disconnect { reason } => return Err(Ended::ByBroker(reason)),
                Scanned::Ack { .. } | Scanned::Other(_) => {}
            }
            Ok(())
        });
        self.end(batch, now_ns, meter);
        taken
    }

    fn message(&mut self, payload: &[u8], now_ns: u64, batch: &mut Batch, meter: &mut Meter) {
        let stamp = match &self.shared.ward {
            None => Stamp::read(payload),
            Some(ward) => match ward.hear(payload, self.begin_ns, self.measured.end) {
                HeardAlert::Alert(stamp) => Some(stamp),
                HeardAlert::Later => return,
                HeardAlert::Foreign => None,
            },
        };
        let found = stamp.and_then(|stamp| {
            let from_first = stamp.publisher.checked_sub(self.first)?;
            let place = (from_first / self.apart) as usize;
            let track = self.tracks.get_mut(place).filter(|_| from_first.is_multiple_of(self.apart))?;
            Some((stamp, track))
        });
        let Some((stamp, track)) = found else {
            self.foreign += 1;
            return;
        };
        if track.arrived(stamp.sequence) == Arrival::Again {
            return;
        }
        if !self.slow && self.measured.contains(&stamp.sent_ns) {
            meter.latency.record(stamp.sent_ns, now_ns);
        }
        // Messages of one publisher mostly follow each other, and are counted together.
        if batch.publisher != stamp.publisher {
            let before = std::mem::replace(batch, Batch { publisher: stamp.publisher, new: 0 });
            self.end(before, now_ns, meter);
        }
        batch.new += 1;
    }

    fn end(&self, batch: Batch, now_ns: u64, meter: &mut Meter) {
        if batch.new == 0 {
            return;
        }
        if self.slow {
            meter.delivered_slow += batch.new;
            return;
        }
        meter.delivered += batch.new;
        if self.measured.contains(&now_ns) {
            meter.delivered_measured += batch.new;
        }
        self.shared.progress[batch.publisher as usize].add(batch.new);
    }

    fn heard(&self) -> Heard {
        let counts = self.tracks.iter().map(Track::counts).fold(Counts::default(), |sum, one| Counts {
            received: sum.received + one.received,
            duplicated: sum.duplicated + one.duplicated,
            out_of_order: sum.out_of_order + one.out_of_order,
        });
        Heard { slow: self.slow, counts, foreign: self.foreign }
    }
}

/// Messages of one publisher that came at once.
struct Batch {
    publisher: u32,
    new: u64,
}
