//! A connection that publishes: as fast as its window lets it, or as its schedule says.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use wardline_wire::{PacketType, QoS};

use crate::connection::{Connection, Ended, answer};
use crate::crew::{Event, Published, Shared, Station};
use crate::dial::{DialError, Guest};
use crate::flow::Credit;
use crate::message::Message;
use crate::meter::{Measured, SharedMeter};
use crate::plan::Scenario;
use crate::scan::{Scanned, Scanner};
use crate::schedule::Schedule;
use crate::timer::Timer;
use crate::ward::Readings;
use crate::window::Window;

/// Written at once: large enough that a system call costs little for each message, small enough that the first of a
/// batch does not wait for the last.
const BATCH_BYTES: usize = 16 << 10;
/// How often it is looked whether anything moves.
const LOOK: Duration = Duration::from_secs(1);
/// When nothing has moved for so long, it is over.
const PATIENCE: Duration = Duration::from_secs(30);
/// From here on a reason code of MQTT 5 is a refusal.
const REFUSED: u8 = 0x80;

/// Connects, publishes when it is told to, and tells what it did.
pub(crate) async fn publish(station: Station, number: u32) {
    let client_id = station.shared.plan.publisher_id(number);
    let prepared = prepare(&station.shared, &client_id, number).await;
    let (guest, content) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return station.tell(Event::Failed(format!("{client_id}: {error}"))).await,
    };
    station.tell(Event::Ready).await;
    let plan = &station.shared.plan;
    let window = if plan.qos == QoS::AtMostOnce { 0 } else { plan.window.min(guest.receive_maximum) };
    let mut connection = guest.enter();
    let begin = connection.stall_until(station.run_begins()).await;
    let Some((begin_ns, measured)) = begin else { return };
    let schedule = plan
        .rate_per_second
        .map(|rate| Schedule::shared(rate, begin_ns, measured.end, number, plan.publishers));
    let mut publisher = Publisher {
        shared: &station.shared,
        number,
        content,
        schedule,
        credit: Credit::new(if plan.qos == QoS::AtMostOnce { plan.window } else { 0 }, plan.receivers()),
        sent: 0,
        answers: Answers {
            window: Window::new(window),
            measured,
            meter: &station.meter,
            acknowledged: 0,
            refused: 0,
        },
    };
    if let Err(ended) = publisher.run(&mut connection, &station.timer).await {
        station.meter.lock().ended(&client_id, &ended);
    }
    let published = publisher.published();
    station.tell(Event::Published(published)).await;
    station.reached(crate::crew::Phase::Leave).await;
    // What was to be answered is; a connection that is over already cannot be left.
    let _ = timeout(LOOK, connection.leave()).await;
}

async fn prepare(shared: &Shared, client_id: &str, number: u32) -> Result<(Guest, Content), DialError> {
    let plan = &shared.plan;
    let content = match &shared.ward {
        None => {
            Content::Stamped(Message::new(&plan.prefix, plan.version, plan.qos, plan.payload_bytes, number)?)
        }
        Some(ward) => Content::Readings(Readings::new(ward.clone(), number, plan.version, plan.qos)?),
    };
    let guest = shared.dialer.connect(client_id, shared.dialer.access("device", client_id)?).await?;
    Ok((guest, content))
}

/// What is sent.
enum Content {
    Stamped(Message),
    Readings(Readings),
}

impl Content {
    /// Bytes of a packet.
    fn len(&self) -> usize {
        match self {
            Self::Stamped(message) => message.len(),
            Self::Readings(readings) => readings.len(),
        }
    }
}

struct Publisher<'a> {
    shared: &'a Shared,
    number: u32,
    content: Content,
    /// `None`: as fast as may be.
    schedule: Option<Schedule>,
    credit: Credit,
    sent: u64,
    answers: Answers<'a>,
}

impl Publisher<'_> {
    async fn run(&mut self, connection: &mut Connection, timer: &Timer) -> Result<(), Ended> {
        let shared = self.shared;
        let acknowledged = shared.plan.qos != QoS::AtMostOnce;
        let progress = &shared.progress[self.number as usize];
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last_look, mut still) = (self.moved(), Duration::ZERO);
        loop {
            let now_ns = shared.clock.now_ns();
            let due = self.due(now_ns);
            let room = self.room();
            let batch = due.min(room).min(self.batch_max());
            if batch > 0 {
                self.append(connection.output(), batch, now_ns);
                let written = connection
                    .write(|packets: &mut _, output: &mut _| self.answers.take(packets, output, shared));
                timeout(PATIENCE, written).await.map_err(|_| Ended::Silent(PATIENCE))??;
                // Nothing else makes one that never waits give way to the others of its thread.
                tokio::task::yield_now().await;
                continue;
            }
            let over = self.is_over(now_ns);
            if over && self.answers.window.is_empty() {
                return Ok(());
            }
            let next_ns = match &self.schedule {
                Some(schedule) if !over && room > 0 => Some(schedule.at(self.sent)),
                _ => None,
            };
            let waits_for_subscribers = !acknowledged && room == 0;
            tokio::select! {
                read = connection.read(|packets: &mut _, output: &mut _| self.answers.take(packets, output, shared)) => read?,
                () = progress.reached(self.credit.worth_waking(self.sent)), if waits_for_subscribers => {}
                () = timer.wait(next_ns.unwrap_or_default()), if next_ns.is_some() => {}
                _ = look.tick() => {
                    let moved = self.moved();
                    still = if moved == last_look { still + LOOK } else { Duration::ZERO };
                    last_look = moved;
                    if waits_for_subscribers && still > Duration::ZERO {
                        self.credit.forgive(self.sent, progress.delivered());
                    }
                    if acknowledged && still >= PATIENCE && next_ns.is_none() {
                        return Err(Ended::Silent(PATIENCE));
                    }
                }
            }
        }
    }

    /// Messages that should be sent now.
    fn due(&self, now_ns: u64) -> u64 {
        match &self.schedule {
            Some(schedule) => schedule.due(now_ns).saturating_sub(self.sent),
            None if now_ns < self.answers.measured.end => u64::MAX,
            None => 0,
        }
    }

    fn is_over(&self, now_ns: u64) -> bool {
        match &self.schedule {
            Some(schedule) => self.sent >= schedule.count(),
            None => now_ns >= self.answers.measured.end,
        }
    }

    /// Messages that may be sent now.
    fn room(&self) -> u64 {
        match self.shared.plan.qos {
            QoS::AtMostOnce => {
                let progress = &self.shared.progress[self.number as usize];
                self.credit.room(self.sent, progress.delivered())
            }
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.answers.window.room() as u64,
        }
    }

    fn batch_max(&self) -> u64 {
        (BATCH_BYTES / self.content.len()).max(1) as u64
    }

    /// Appends the next messages, which are due or, without a schedule, sent now.
    fn append(&mut self, output: &mut Vec<u8>, batch: u64, now_ns: u64) {
        let mut meter = self.answers.meter.lock();
        for number in self.sent..self.sent + batch {
            let sent_ns = self.schedule.as_ref().map_or(now_ns, |schedule| schedule.at(number));
            let packet_id = self.answers.window.begin(sent_ns).unwrap_or_default();
            match &self.content {
                Content::Stamped(message) => {
                    let sequence = (number & u64::from(u32::MAX)) as u32;
                    message.append(output, self.topic(number), packet_id, sent_ns, sequence);
                }
                Content::Readings(readings) => readings.append(output, number, self.count(), packet_id),
            }
            if self.answers.measured.contains(&sent_ns) {
                meter.sent_measured += 1;
                if self.schedule.is_some() {
                    meter.sent_late.record(sent_ns, now_ns);
                }
            }
        }
        drop(meter);
        self.sent += batch;
    }

    /// Publishers take the topics in turn, each beginning with another.
    fn topic(&self, number: u64) -> u32 {
        let plan = &self.shared.plan;
        match plan.scenario {
            Scenario::Pairs => self.number,
            _ => ((u64::from(self.number) + number) % u64::from(plan.topics)) as u32,
        }
    }

    /// Changes whenever anything has moved.
    fn moved(&self) -> (u64, u64, u64) {
        let delivered = self.shared.progress[self.number as usize].delivered();
        (self.sent, self.answers.acknowledged + self.answers.refused, delivered)
    }

    /// Messages at a fixed rate in all.
    fn count(&self) -> u64 {
        self.schedule.as_ref().map_or(0, Schedule::count)
    }

    fn published(&self) -> Published {
        let Answers { acknowledged, refused, .. } = self.answers;
        let due = match &self.shared.ward {
            None => (self.sent - refused) * u64::from(self.shared.plan.receivers()),
            Some(ward) => ward.alerts(self.number, self.sent, self.count()),
        };
        let unsent = self.schedule.as_ref().map_or(0, |schedule| schedule.count() - self.sent);
        Published { sent: self.sent, acknowledged, refused, unsent, due }
    }
}

/// What the broker answers.
struct Answers<'a> {
    window: Window,
    measured: Measured,
    meter: &'a SharedMeter,
    acknowledged: u64,
    refused: u64,
}

impl Answers<'_> {
    fn take(
        &mut self,
        packets: &mut Scanner<'_>,
        output: &mut Vec<u8>,
        shared: &Shared,
    ) -> Result<(), Ended> {
        let now_ns = shared.clock.now_ns();
        let last = if shared.plan.qos == QoS::ExactlyOnce { PacketType::PubComp } else { PacketType::PubAck };
        let mut meter = self.meter.lock();
        for packet in packets {
            let (packet, packet_id, reason) = match packet? {
                Scanned::Ack { packet, packet_id, reason } => (packet, packet_id, reason),
                Scanned::Disconnect { reason } => return Err(Ended::ByBroker(reason)),
                _ => continue,
            };
            let unexpected = Ended::Unexpected { packet, packet_id };
            if packet == PacketType::PubRec && reason < REFUSED && self.window.has(packet_id) {
                answer(output, PacketType::PubRel, packet_id);
            } else if packet == last || packet == PacketType::PubRec {
                let sent_ns = self.window.end(packet_id).ok_or(unexpected)?;
                if reason < REFUSED {
                    self.acknowledged += 1;
                } else {
                    self.refused += 1;
                }
                if self.measured.contains(&sent_ns) {
                    meter.acknowledgement.record(sent_ns, now_ns);
                }
            } else {
                return Err(unexpected);
            }
        }
        Ok(())
    }
}
