//! A run, from the first connection to the report.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use wardline_wire::QoS;

use crate::crew::{Crew, Event, Heard, Phase, Published, Shared, Station, Times};
use crate::dial::{Accesses, Broker, Dialer};
use crate::flow::Progress;
use crate::meter::{self, Meter, SharedMeter};
use crate::plan::{Plan, PlanError, Scenario};
use crate::proc::{self, Usage};
use crate::report::{Load, Measurement, Messages, Percentiles, Process, Report, Slow};
use crate::schedule::Clock;
use crate::ward::Ward;
use crate::{publisher, storm, subscriber};

/// From the word to the first message, so that all publishers have heard it.
const LEAD: Duration = Duration::from_millis(20);
/// How often it is looked whether everything has come.
const LOOK: Duration = Duration::from_millis(20);
/// When nothing has come for so long, nothing more will: at QoS 0, and where the broker may still have to send again.
const QUIET_QOS_0: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(5);
/// For so long after its end a publisher may be at it: longer than it waits itself for anything.
const OVERTIME: Duration = Duration::from_secs(300);
/// For so long clients may take to go.
const LEAVE: Duration = Duration::from_secs(10);
/// Subscriptions that one connection holds beside those of the load: as many as a broker may be expected to allow.
const HELD_MAX: u32 = 1_000;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// It makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The broker's name has no address.
    #[error("{host} cannot be found: {source}")]
    Host {
        /// As it was given.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// There is no such process.
    #[error("there is no process {0} that could be looked at")]
    NoProcess(u32),
    /// The machine has no more threads.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// A client could not connect or subscribe.
    #[error("{0}")]
    NotReady(String),
}

/// Runs a plan to its end. `begins` is called when all clients are ready and the load begins.
///
/// # Errors
/// [`BenchError`] where nothing could be measured; what went wrong after that is in the report.
pub fn run(
    plan: &Plan,
    broker: &Broker,
    accesses: Arc<Accesses>,
    begins: impl FnOnce(),
) -> Result<Report, BenchError> {
    plan.check()?;
    let dialer = Dialer::new(plan, broker, accesses)
        .map_err(|source| BenchError::Host { host: broker.host.clone(), source })?;
    let watch = Watch::new(plan.pid, dialer.address())?;
    let publishers = if plan.scenario == Scenario::Connect { 0 } else { plan.publishers };
    let shared = Arc::new(Shared {
        plan: plan.clone(),
        dialer,
        clock: Clock::start(),
        ward: (plan.scenario == Scenario::Ward).then(|| Ward::of(plan)),
        progress: (0..publishers).map(|_| Progress::default()).collect(),
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(BenchError::Threads)?;
    let report = match plan.scenario {
        Scenario::Connect => runtime.block_on(storm::run(&shared, &watch, begins))?,
        _ => runtime.block_on(messages(&shared, &watch, begins))?,
    };
    Ok(Report { load: Load::of(plan, &broker.url), ..report })
}

/// Both processes, looked at from outside.
pub(crate) struct Watch {
    /// The broker's process, and what it was before anybody connected.
    broker: Option<(u32, Usage)>,
}

/// One look at both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) broker: Option<Usage>,
    own: Option<Usage>,
}

impl Watch {
    fn new(pid: Option<u32>, address: SocketAddr) -> Result<Self, BenchError> {
        let broker = match pid {
            Some(pid) => Some((pid, Usage::of(pid).ok_or(BenchError::NoProcess(pid))?)),
            None if is_here(address) => proc::listener(address).and_then(|pid| Some((pid, Usage::of(pid)?))),
            None => None,
        };
        Ok(Self { broker })
    }

    pub(crate) fn look(&self) -> Look {
        let broker = self.broker.as_ref().and_then(|(pid, _)| Usage::of(*pid));
        Look { broker, own: Usage::of(std::process::id()) }
    }

    /// The broker's process between two looks; `None` too if it has ended.
    pub(crate) fn process(&self, begin: &Look, end: &Look) -> Option<Process> {
        let (pid, before) = self.broker.as_ref()?;
        let name = proc::name(*pid)?;
        Some(Process::of(*pid, name, before, begin.broker.as_ref()?, end.broker.as_ref()?))
    }

    pub(crate) fn own_cpu_seconds(begin: &Look, end: &Look) -> f64 {
        let cpu = |look: &Look| look.own.as_ref().map(|usage| usage.cpu).unwrap_or_default();
        cpu(end).since(&cpu(begin)).seconds()
    }
}

/// Whether an address is one of this machine's: then what is sent there comes from it too.
fn is_here(address: SocketAddr) -> bool {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let local = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    local.is_ok_and(|local| local.ip() == address.ip())
}

async fn messages(shared: &Arc<Shared>, watch: &Watch, begins: impl FnOnce()) -> Result<Report, BenchError> {
    let plan = &shared.plan;
    let slow = plan.scenario == Scenario::Slow;
    let mut crew = Crew::start(shared, work).map_err(BenchError::Threads)?;
    let clients = plan.publishers + plan.subscribers + u32::from(slow) + holders(plan);
    if let Err(reason) = crew.ready(clients.into()).await {
        crew.leave();
        return Err(BenchError::NotReady(reason));
    }

    begins();
    let begin_ns = shared.clock.now_ns() + ns(LEAD);
    let times =
        Times { from_ns: begin_ns + ns(plan.warmup), to_ns: begin_ns + ns(plan.warmup + plan.measured) };
    crew.tell(Phase::Run { begin_ns, measured: times });
    let until = |ns| sleep_until(shared.clock.instant(ns).into());
    until(times.from_ns).await;
    let begin = watch.look();
    until(times.to_ns).await;
    let end = watch.look();

    let mut published = Published::default();
    let mut publishers = plan.publishers;
    while publishers > 0 {
        let Ok(Some(event)) = timeout(OVERTIME, crew.events.recv()).await else { break };
        if let Event::Published(one) = event {
            published.sent += one.sent;
            published.acknowledged += one.acknowledged;
            published.refused += one.refused;
            published.unsent += one.unsent;
            published.due += one.due;
            publishers -= 1;
        }
    }
    crew.tell(Phase::Drain);
    let due = published.due;
    let due_slow = if slow { published.sent - published.refused } else { 0 };
    let drain_seconds = drain(plan, &crew.meters, due, due_slow).await;
    crew.tell(Phase::Leave);
    let (heard, heard_slow) = hear(&mut crew, plan.subscribers + u32::from(slow)).await;
    let meter = meter::sum(&crew.meters);
    crew.leave();

    let measured =
        Measurement::of(plan.measured.as_secs_f64(), meter.sent_measured, meter.delivered_measured);
    let report = Report {
        messages: Some(Messages {
            sent: published.sent,
            unsent: published.unsent,
            acknowledged: published.acknowledged,
            refused: published.refused,
            due,
            delivered: heard.counts.received,
            lost: due.saturating_sub(heard.counts.received),
            duplicated: heard.counts.duplicated,
            out_of_order: heard.counts.out_of_order,
            foreign: heard.foreign,
        }),
        slow: slow.then(|| Slow {
            due: due_slow,
            delivered: heard_slow.counts.received,
            lost: due_slow.saturating_sub(heard_slow.counts.received),
            duplicated: heard_slow.counts.duplicated,
            drain_seconds,
        }),
        measured: Some(measured),
        latency_us: Percentiles::of(&meter.latency),
        sent_late_us: Percentiles::of(&meter.sent_late),
        acknowledgement_us: Percentiles::of(&meter.acknowledgement),
        broker: watch.process(&begin, &end).map(|process| process.for_messages(&measured, plan.scenario)),
        load_cpu_seconds: Watch::own_cpu_seconds(&begin, &end),
        ..Report::default()
    };
    let Meter { ended, trouble, .. } = meter;
    Ok(report.judged(plan, ended, trouble.as_deref()))
}

/// What a thread does: its share of the clients.
async fn work(thread: usize, station: Station) {
    let plan = &station.shared.plan;
    let mine = |count: u32| (0..count).filter(move |number| *number as usize % plan.threads == thread);
    let mut clients = JoinSet::new();
    for number in mine(plan.subscribers) {
        clients.spawn(subscriber::subscribe(station.clone(), number, subscriber::Kind::Ready));
    }
    for number in mine(u32::from(plan.scenario == Scenario::Slow)) {
        clients.spawn(subscriber::subscribe(station.clone(), number, subscriber::Kind::Slow));
    }
    for number in mine(holders(plan)) {
        let first = number * HELD_MAX;
        let subscriptions = first..plan.subscriptions.min(first + HELD_MAX);
        clients.spawn(subscriber::hold(station.clone(), number, subscriptions));
    }
    for number in mine(plan.publishers) {
        clients.spawn(publisher::publish(station.clone(), number));
    }
    while clients.join_next().await.is_some() {}
}

/// Connections that hold subscriptions.
fn holders(plan: &Plan) -> u32 {
    plan.subscriptions.div_ceil(HELD_MAX)
}

/// Waits until everything has come or nothing comes any more, and returns how many seconds it was until the last came.
async fn drain(plan: &Plan, meters: &[SharedMeter], due: u64, due_slow: u64) -> f64 {
    let quiet = if plan.qos == QoS::AtMostOnce { QUIET_QOS_0 } else { QUIET };
    let began = Instant::now();
    let (mut last, mut last_at) = ((0, 0), began);
    loop {
        let delivered = meters
            .iter()
            .map(SharedMeter::lock)
            .fold((0, 0), |sum, meter| (sum.0 + meter.delivered, sum.1 + meter.delivered_slow));
        if delivered != last {
            (last, last_at) = (delivered, Instant::now());
        }
        if (delivered.0 >= due && delivered.1 >= due_slow) || last_at.elapsed() > quiet {
            return (last_at - began).as_secs_f64();
        }
        sleep(LOOK).await;
    }
}

/// What the subscribers had, and what the slow one had.
async fn hear(crew: &mut Crew, subscribers: u32) -> (Heard, Heard) {
    let (mut all, mut slow) = (Heard::default(), Heard::default());
    let mut left = subscribers;
    while left > 0 {
        let Ok(Some(event)) = timeout(LEAVE, crew.events.recv()).await else { break };
        if let Event::Heard(one) = event {
            let sum = if one.slow { &mut slow } else { &mut all };
            sum.counts.received += one.counts.received;
            sum.counts.duplicated += one.counts.duplicated;
            sum.counts.out_of_order += one.counts.out_of_order;
            sum.foreign += one.foreign;
            left -= 1;
        }
    }
    (all, slow)
}

pub(crate) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
