//! One node: the core, the plugins and the journal's memory side, together under one lock.
//!
//! Whoever has something for the core (a connection's task with a batch of packets, the journal's writer with its progress,
//! the timer) takes the lock once for the batch, and leaves with everything done that follows from it: plugins have seen each
//! publish, their alerts are in the lanes, and the tasks that have something to write are woken.
//!
//! Invariants
//! - never held across I/O or an await;
//! - time does not run backwards inside, whatever the wall clock does;
//! - a due deadline is served before anything that came later, so that reading the journal again tells the same story.

mod health;
mod permission;
mod plugins;
mod recover;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use jiff::Timestamp;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use wardline_acl::Grants;
use wardline_core::{
    Broker, ConnectRequest, ConnectionId, Counters, Denial, Event, Limits, SnapshotError, Stored, Transmit,
};
use wardline_journal::{Journal, Log, Offset, Origin, Space};
use wardline_plugin_api::{NotASnapshot, Output, Plugin};
use wardline_wire::{Auth, ConnAck, Packet, Publish, QoS, ReasonCode};

use crate::{
    alarms::{Alarms, Condition},
    clock,
    disk::SyncTimes,
    host::Host,
    metrics::{Metrics, Observed},
    queues::Watch,
    refill::Fetcher,
    restraint::Restraint,
    signal::Signal,
    snapshots::{Place, Taken},
    turns::Turns,
};

use permission::Permission;
pub use recover::RecoverError;

/// One node. Shared by all tasks.
#[derive(Debug)]
pub struct Node {
    id: u16,
    inner: Mutex<Inner>,
    /// The same as in the core, to be asked without the lock.
    journal: Journal,
    fetcher: Fetcher,
    metrics: Arc<Metrics>,
    /// The same as in the core.
    limits: Limits,
    alarms: Mutex<Alarms>,
    sync_times: Mutex<SyncTimes>,
    queue_watch: Mutex<Watch>,
    turns: Arc<Turns>,
    /// Woken when the earliest deadline may have moved.
    deadline: Notify,
    /// The text of the failure after which nothing more is acknowledged.
    failure: watch::Sender<Option<String>>,
    stopping: AtomicBool,
    snapshot: Option<Place>,
}

#[derive(Debug)]
struct Inner {
    broker: Broker<Journal>,
    host: Host,
    last: Timestamp,
    /// By connection slot: whom to wake.
    waiters: Vec<Option<Arc<Signal>>>,
    /// How many entries there were after each batch, and when it was received: for the time until it is durable.
    unsynced: VecDeque<(u64, Timestamp)>,
    events: Vec<Event>,
    woken: Vec<ConnectionId>,
    wakes: Wakes,
    outputs: Vec<(usize, Output)>,
    principals: Vec<Arc<str>>,
    scheduled: Option<Timestamp>,
}

/// Those to be woken once the lock is free, so that nobody wakes to wait for it.
type Wakes = SmallVec<[Arc<Signal>; 16]>;

/// Where what a client may be sent is put; see [`Broker::transmit`].
#[derive(Debug)]
pub struct Outlet<'a> {
    /// Encoded packets, behind those that are there.
    pub bytes: &'a mut BytesMut,
    /// So much is to be in there, about at most.
    pub bytes_max: usize,
    /// When what led to the alerts among the packets was received.
    pub alerts: &'a mut Vec<Timestamp>,
    /// What is to be read and handed to [`Node::supply`] before more can be sent; `None` while something is read.
    pub wanted: Option<&'a mut Vec<Offset>>,
}

impl Node {
    /// A node that begins where `journal` ends, with `host`'s plugins.
    ///
    /// # Errors
    /// A journal that cannot be read to its end, in words for an engineer.
    pub fn recover(
        id: u16,
        limits: Limits,
        journal: Journal,
        host: Host,
        metrics: Arc<Metrics>,
    ) -> Result<Self, RecoverError> {
        let principals = host.names().map(|name| Arc::from(format!("plugin:{name}"))).collect();
        let mut inner = Inner {
            broker: Broker::new(id, limits.clone(), journal.clone()),
            host,
            last: Timestamp::MIN,
            waiters: Vec::new(),
            unsynced: VecDeque::new(),
            events: Vec::new(),
            woken: Vec::new(),
            wakes: Wakes::new(),
            outputs: Vec::new(),
            principals,
            scheduled: None,
        };
        let snapshot = inner.recover(id, &journal)?;
        let (failure, _) = watch::channel(None);
        let alarms =
            Alarms::new(id, |topic| inner.broker.retained(topic).next().map(|payload| payload.to_vec()));
        let queues = inner.broker.queues();
        let queue_watch = Watch::new(alarms.priority(Condition::Queues), &queues, Instant::now());
        Ok(Self {
            id,
            limits,
            alarms: Mutex::new(alarms),
            sync_times: Mutex::default(),
            queue_watch: Mutex::new(queue_watch),
            inner: Mutex::new(inner),
            fetcher: Fetcher::new(journal.clone()),
            journal,
            metrics,
            turns: Arc::default(),
            deadline: Notify::new(),
            failure,
            stopping: AtomicBool::new(false),
            snapshot,
        })
    }

    /// The snapshot that it began with.
    pub fn began_with(&self) -> Option<Place> {
        self.snapshot
    }

    /// As [`Broker::to_carry`].
    pub fn to_carry(&self, until: Offset, bytes_max: usize) -> Option<Vec<Offset>> {
        self.inner.lock().broker.to_carry(until, bytes_max)
    }

    /// As [`Broker::shed_below`].
    pub fn shed_below(&self, until: Offset) -> u64 {
        self.inner.lock().broker.shed_below(until)
    }

    /// Takes a snapshot. Under the lock happens only what must: see [`Taken::encode`].
    ///
    /// # Errors
    /// What no memory can hold.
    pub fn snapshot(&self, number: u64, carried: Vec<Arc<Stored>>) -> Result<Taken, SnapshotError> {
        self.with(clock::now(), |inner, now| {
            let begun = std::time::Instant::now();
            let core = inner.broker.snapshot(number, carried)?;
            let log = inner.broker.log();
            let (offset, entries) = (log.next_offset(), log.entries());
            let plugins = inner.host.snapshot();
            Ok(Taken { number, offset, entries, at: now, core, plugins, pause: begun.elapsed() })
        })
    }

    /// This node's number.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Its measurements.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// In which its sockets are read.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Whether somebody is connected with this client id.
    pub fn is_connected(&self, client: &str) -> bool {
        self.inner.lock().broker.is_connected(client)
    }

    /// Lets in a client that is known. `signal` is raised whenever there is something to transmit.
    ///
    /// # Errors
    /// The CONNACK to send before closing.
    pub fn connect(
        &self,
        request: ConnectRequest,
        grants: &Grants,
        signal: &Arc<Signal>,
        read_at: Timestamp,
    ) -> Result<ConnectionId, Box<ConnAck>> {
        let connected = self.with(read_at, |inner, now| {
            let mut gate = Permission { grants, host: &inner.host };
            let id = inner.broker.connect(request, &mut gate, now)?;
            if inner.waiters.len() <= id.slot() {
                inner.waiters.resize(id.slot() + 1, None);
            }
            inner.waiters[id.slot()] = Some(Arc::clone(signal));
            Ok(id)
        });
        connected.inspect_err(|_| {
            self.metrics.refused.inc();
        })
    }

    /// Records and counts that somebody was not let in, and gives the CONNACK that says so.
    pub fn refuse(&self, origin: Origin<'_>, reason: ReasonCode, text: &str) -> Box<ConnAck> {
        self.metrics.refused.inc();
        self.with(clock::now(), |inner, now| inner.broker.refuse(origin, reason, text, now))
    }

    /// Records and counts a client that was turned away before its CONNECT.
    pub fn refused_early(&self, peer: &str, listener: &str, text: &str) {
        self.metrics.refused.inc();
        self.with(clock::now(), |inner, now| inner.broker.refused_early(peer, listener, text, now));
    }

    /// What a connected client may do has changed: subscriptions it may not have any more end.
    pub fn regrant(&self, id: ConnectionId, grants: &Grants) {
        self.with(clock::now(), |inner, now| {
            let mut gate = Permission { grants, host: &inner.host };
            inner.broker.regrant(id, withheld(grants), &mut gate, now);
        });
    }

    /// Sends a client an AUTH packet.
    pub fn authenticate(&self, id: ConnectionId, auth: Auth) {
        self.with(clock::now(), |inner, now| inner.broker.authenticate(id, auth, now));
    }

    /// A client has proved again who it is, as `detail` says: from now on `grants` are its own, and `auth` tells it.
    pub fn reauthenticated(&self, id: ConnectionId, grants: &Grants, auth: Auth, detail: &str) {
        self.with(clock::now(), |inner, now| {
            let mut gate = Permission { grants, host: &inner.host };
            inner.broker.reauthenticated(id, detail, withheld(grants), &mut gate, now);
            inner.broker.authenticate(id, auth, now);
        });
    }

    /// A client has not proved again who it is, and is disconnected.
    pub fn reauthentication_failed(&self, id: ConnectionId, denial: &Denial) {
        self.with(clock::now(), |inner, now| inner.broker.reauthentication_failed(id, denial, now));
    }

    /// Takes a batch of packets that was read at `read_at`, and gives what their sender may be sent then.
    pub fn receive(
        &self,
        id: ConnectionId,
        packets: impl Iterator<Item = Packet>,
        grants: &Grants,
        read_at: Timestamp,
        outlet: Outlet<'_>,
    ) -> Transmit {
        self.with(read_at, |inner, now| {
            for packet in packets {
                let mut gate = Permission { grants, host: &inner.host };
                inner.broker.receive(id, packet, &mut gate, now);
                // Before the next packet, which may answer what this one raised.
                inner.settle(self.id, now);
            }
            let transmit = inner.transmit(id, outlet, now);
            // What it would be woken for it has.
            inner.gather_woken(Some(id));
            transmit
        })
    }

    /// A packet that cannot be read ends its connection.
    pub fn malformed(&self, id: ConnectionId, reason: ReasonCode, text: &str) {
        self.with(clock::now(), |inner, now| inner.broker.malformed(id, reason, text, now));
    }

    /// Ends a connection for a reason that MQTT 5 clients are told.
    pub fn disconnect(&self, id: ConnectionId, reason: ReasonCode, text: &str) {
        self.with(clock::now(), |inner, _| inner.broker.disconnect_with(id, reason, text));
    }

    /// Gives what the client may be sent now.
    pub fn transmit(&self, id: ConnectionId, outlet: Outlet<'_>) -> Transmit {
        let mut inner = self.inner.lock();
        let now = inner.advance(clock::now());
        inner.transmit(id, outlet, now)
    }

    /// Reads what is wanted.
    pub(crate) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// Takes what was wanted; the client's own task is to transmit next.
    pub fn supply(&self, id: ConnectionId, publishes: &[Arc<Stored>]) {
        self.inner.lock().broker.supply(id, publishes);
    }

    /// What a client is owed cannot be read: it is told so and disconnected.
    pub fn unreadable(&self, id: ConnectionId, text: &str) {
        tracing::error!(error = text, "a publish that a client is owed cannot be read back");
        self.with(clock::now(), |inner, _| inner.broker.unreadable(id));
    }

    /// The last call about a connection.
    pub fn end(&self, id: ConnectionId, reason: &str) {
        self.with(clock::now(), |inner, now| {
            if let Some(waiter) = inner.waiters.get_mut(id.slot()) {
                *waiter = None;
            }
            inner.broker.end(id, reason, now);
        });
    }

    /// The journal's first `entries` entries since it was opened are durable.
    pub fn durable(&self, entries: u64) {
        self.with(clock::now(), |inner, now| {
            while let Some(&(after, received_at)) = inner.unsynced.front() {
                if after > entries {
                    break;
                }
                inner.unsynced.pop_front();
                self.metrics.received_to_durable.observe(seconds(now, received_at));
            }
            inner.broker.durable(entries);
        });
    }

    /// The journal has failed: nothing more is acknowledged, and the process is to end, every connection with it
    /// [MQTT3-4.8.0-2].
    pub fn fail(&self, text: &str) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| text.to_owned());
            first
        });
    }

    /// Tells of [`Node::fail`].
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// Publishes for the node itself, recorded and routed like any other publish.
    pub fn publish(&self, topic: &str, payload: Vec<u8>, retain: bool) {
        let publish = own_publish(topic, payload, retain, QoS::AtLeastOnce);
        self.with(clock::now(), |inner, now| {
            inner.broker.publish(Arc::from(OWN_PRINCIPAL), &publish, now);
        });
    }

    /// Publishes the node's counters: retained, not recorded.
    pub fn publish_unrecorded(&self, values: impl IntoIterator<Item = (String, String)>) {
        self.with(clock::now(), |inner, now| {
            for (topic, value) in values {
                let publish = own_publish(&topic, value.into_bytes(), true, QoS::AtMostOnce);
                inner.broker.publish_unrecorded(Arc::from(OWN_PRINCIPAL), publish, now);
            }
        });
    }

    /// Puts the plugins under new rules; what they know stays.
    ///
    /// # Errors
    /// A plugin that cannot take over what it knew; then nothing has changed.
    pub fn replace_plugins(&self, plugins: Vec<Box<dyn Plugin>>) -> Result<(), NotASnapshot> {
        self.with(clock::now(), |inner, _| inner.host.replace(plugins))
    }

    /// Records that the configuration was read anew.
    pub fn reloaded(&self, detail: &str, reason: &str) {
        self.with(clock::now(), |inner, now| inner.broker.reloaded(detail, reason, now));
    }

    /// A client that is sending is not heard, because it or the disk is to be slower: that is not its silence.
    pub fn unheard(&self, id: ConnectionId) {
        let mut inner = self.inner.lock();
        let now = inner.advance(clock::now());
        inner.broker.unheard(id, now);
    }

    /// What the core has counted.
    pub fn counters(&self) -> Counters {
        self.inner.lock().broker.counters()
    }

    /// All that the metrics tell of the node, but for how far behind the audit store is.
    pub fn observed(&self, audit_lag: u64) -> Observed {
        let alarms = self.alarms().len();
        let inner = self.inner.lock();
        let limits_reached = inner.broker.limits_reached();
        Observed {
            counters: inner.broker.counters(),
            limits_reached: limits_reached
                .map(|(name, limit, count)| (Arc::clone(name), limit, count))
                .collect(),
            next_offset: self.journal.next_offset().0,
            space: self.journal.space(),
            alarms,
            audit_lag,
        }
    }

    /// The offset that the next record will get.
    pub fn next_offset(&self) -> Offset {
        self.journal.next_offset()
    }

    /// Whether reading from clients is to pause until the disk has caught up.
    pub fn is_congested(&self) -> bool {
        self.journal.is_congested()
    }

    /// How many retained messages `filter` matches.
    pub fn retained_count(&self, filter: &str) -> usize {
        self.inner.lock().broker.retained(filter).count()
    }

    /// The journal, to be asked and read; only the core appends.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What the journal has of the disk, and may have.
    pub fn space(&self) -> Space {
        self.journal.space()
    }

    /// How telemetry is to be taken just now.
    pub fn restraint(&self) -> Restraint {
        Restraint::of(&self.journal.space())
    }

    /// What the node keeps for its sessions.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Serves deadlines until the node stops. Run once, as a task.
    pub async fn run_timers(&self) {
        loop {
            let next = self.with(clock::now(), |inner, _| {
                inner.scheduled = inner.next_deadline();
                inner.scheduled
            });
            let moved = self.deadline.notified();
            match next {
                None => moved.await,
                Some(at) => {
                    let wait = Duration::try_from(at.duration_since(clock::now())).unwrap_or_default();
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = moved => {}
                    }
                }
            }
        }
    }

    /// Tells every client that the server stops, and lets nobody else in.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.with(clock::now(), |inner, _| {
            for id in inner.broker.connection_ids() {
                inner.broker.disconnect_with(id, ReasonCode::ServerShuttingDown, "server shutting down");
            }
        });
    }

    /// Wakes every connection, to look at what has changed outside the node.
    pub fn wake_all(&self) {
        let signals: Vec<_> = self.inner.lock().waiters.iter().flatten().cloned().collect();
        signals.iter().for_each(|signal| signal.raise());
    }

    /// Whether the node is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Does one thing to the core and all that follows from it.
    fn with<R>(&self, at: Timestamp, act: impl FnOnce(&mut Inner, Timestamp) -> R) -> R {
        let mut inner = self.inner.lock();
        let now = inner.advance(at);
        inner.serve_deadlines(self.id, now);
        let before = inner.broker.log().entries();
        let result = act(&mut inner, now);
        inner.settle(self.id, now);
        let after = inner.broker.log().entries();
        if after > before {
            inner.unsynced.push_back((after, now));
        }
        inner.gather_woken(None);
        let wakes = std::mem::take(&mut inner.wakes);
        // The timer's task sleeps until the deadline it last saw; an earlier one has to wake it.
        let next = inner.next_deadline();
        let sooner = next.is_some_and(|next| inner.scheduled.is_none_or(|scheduled| next < scheduled));
        if sooner {
            inner.scheduled = next;
        }
        drop(inner);
        for signal in wakes {
            signal.raise();
        }
        if sooner {
            self.deadline.notify_one();
        }
        result
    }
}

impl Inner {
    fn advance(&mut self, at: Timestamp) -> Timestamp {
        self.last = self.last.max(at);
        self.last
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        [self.host.next_deadline(), self.broker.next_deadline()].into_iter().flatten().min()
    }

    /// Serves what is due up to `now`, each deadline at its own time.
    fn serve_deadlines(&mut self, node: u16, now: Timestamp) {
        while let Some(due) = self.host.next_deadline().filter(|due| *due <= now) {
            self.host.tick(due, &mut self.outputs);
            self.settle(node, now);
        }
        if self.broker.next_deadline().is_some_and(|due| due <= now) {
            self.broker.tick(now);
            self.settle(node, now);
        }
    }

    fn transmit(&mut self, id: ConnectionId, outlet: Outlet<'_>, now: Timestamp) -> Transmit {
        let transmit = self.broker.transmit(id, outlet.bytes, outlet.bytes_max, now);
        self.broker.take_alerts_sent(outlet.alerts);
        if let Some(wanted) = outlet.wanted {
            self.broker.wanted(id, wanted);
        }
        transmit
    }

    /// Notes who is to be woken, `but` one.
    fn gather_woken(&mut self, but: Option<ConnectionId>) {
        let mut woken = std::mem::take(&mut self.woken);
        self.broker.take_woken(&mut woken);
        let others = woken.drain(..).filter(|id| Some(*id) != but);
        self.wakes.extend(others.filter_map(|id| self.waiters.get(id.slot())?.clone()));
        self.woken = woken;
    }
}

/// The principal of what the node itself publishes.
pub const OWN_PRINCIPAL: &str = "service:wardline";

/// What a client is never sent.
pub fn withheld(grants: &Grants) -> Arc<[Box<str>]> {
    grants.withheld().map(Box::from).collect()
}

fn own_publish(topic: &str, payload: Vec<u8>, retain: bool, qos: QoS) -> Publish {
    Publish {
        qos,
        retain,
        topic: ByteString::from(topic),
        payload: Bytes::from(payload),
        ..Publish::default()
    }
}

/// Seconds from `earlier` to `later`, never negative.
pub(crate) fn seconds(later: Timestamp, earlier: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64().max(0.0)
}
