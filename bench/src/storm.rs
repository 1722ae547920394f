//! Connections: opened at a rate, or as fast as they come, and held.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::crew::{Crew, Event, Phase, Shared, Station, Times};
use crate::dial::{Access, DialError};
use crate::meter;
use crate::report::{Connections, Percentiles, Report};
use crate::run::{BenchError, Look, Watch, ns};
use crate::schedule::Schedule;

/// Longest between two connections: longer than any is waited for.
const SILENCE: Duration = Duration::from_secs(120);

/// Opens the plan's connections, holds them, and tells what it took.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    watch: &Watch,
    begins: impl FnOnce(),
) -> Result<Report, BenchError> {
    let plan = &shared.plan;
    let mut crew = Crew::start(shared, work).map_err(BenchError::Threads)?;
    if let Err(reason) = crew.ready(plan.threads as u64).await {
        crew.leave();
        return Err(BenchError::NotReady(reason));
    }
    begins();
    let before = watch.look();
    let begin_ns = shared.clock.now_ns();
    crew.tell(Phase::Run { begin_ns, measured: Times { from_ns: begin_ns, to_ns: u64::MAX } });
    let mut attempted = 0;
    while attempted < plan.connections {
        match timeout(SILENCE, crew.events.recv()).await {
            Ok(Some(Event::Attempted)) => attempted += 1,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let open_ns = shared.clock.now_ns() - begin_ns;
    let opened = watch.look();
    sleep(plan.measured).await;
    let held = watch.look();
    let meter = meter::sum(&crew.meters);
    crew.leave();

    let open_seconds = open_ns as f64 / 1e9;
    let count = meter.connect.count();
    let each = |sum: f64| (count > 0).then(|| sum / count as f64);
    let cpu_between =
        |from: &Look, to: &Look| Some(to.broker.as_ref()?.cpu.since(&from.broker.as_ref()?.cpu).seconds());
    let broker = watch.process(&before, &opened);
    let grown = held.broker.as_ref().zip(broker.as_ref()).and_then(|(held, broker)| {
        each(held.resident_bytes.saturating_sub(broker.resident_bytes_before) as f64)
    });
    let connections = Connections {
        wanted: plan.connections,
        opened: count,
        failed: meter.ended,
        open_seconds,
        opened_per_second: count as f64 / open_seconds,
        connect_us: Percentiles::of(&meter.connect).unwrap_or_default(),
        broker_cpu_ms_each: cpu_between(&before, &opened).and_then(|seconds| each(seconds * 1e3)),
        broker_cpu_seconds_held: cpu_between(&opened, &held),
        resident_bytes_each: grown,
    };
    let report = Report {
        connections: Some(connections),
        broker,
        load_cpu_seconds: Watch::own_cpu_seconds(&before, &opened),
        ..Report::default()
    };
    Ok(report.judged(plan, meter.ended, meter.trouble.as_deref()))
}

/// What a thread does: its share of the connections.
async fn work(thread: usize, station: Station) {
    let shared = &station.shared;
    let plan = &shared.plan;
    // Keys and tokens are read before: that is not what is measured.
    let numbers = (0..plan.connections).filter(|number| *number as usize % plan.threads == thread);
    let clients: Result<Vec<_>, _> = numbers
        .map(|number| {
            let client_id = format!("{}-con-{number}", plan.prefix);
            let access = shared.dialer.access("device", &client_id)?;
            Ok::<_, DialError>((number, client_id, access))
        })
        .collect();
    let clients = match clients {
        Ok(clients) => clients,
        Err(error) => return station.tell(Event::Failed(error.to_string())).await,
    };
    station.tell(Event::Ready).await;
    let Some((begin_ns, measured)) = station.run_begins().await else { return };
    let schedule = plan.rate_per_second.map(|rate| Schedule::new(rate, begin_ns, measured.end));
    let mut connections = JoinSet::new();
    for (number, client_id, access) in clients {
        let due_ns = schedule.map_or(begin_ns, |schedule| schedule.at(number.into()));
        station.timer.wait(due_ns).await;
        let due_ns = schedule.map(|_| due_ns);
        connections.spawn(hold(station.clone(), client_id, access, due_ns));
    }
    while connections.join_next().await.is_some() {}
}

/// Connects, and stays until everybody leaves. `due_ns` is when it was to connect; without, as soon as it is its turn.
async fn hold(station: Station, client_id: String, access: Access, due_ns: Option<u64>) {
    let shared = &station.shared;
    let connected = match shared.dialer.connect(&client_id, access).await {
        Ok(guest) => {
            let now_ns = shared.clock.now_ns();
            let turn_ns = now_ns.saturating_sub(ns(guest.began.elapsed()));
            station.meter.lock().connect.record(due_ns.unwrap_or(turn_ns), now_ns);
            Some(guest.enter())
        }
        Err(error) => {
            station.meter.lock().ended(&client_id, &error);
            None
        }
    };
    station.tell(Event::Attempted).await;
    let Some(connection) = connected else { return };
    station.hold(connection, &client_id).await;
}
