//! The threads of the load and the clients on them: what they share, what they are told, what they tell.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::connection::{Connection, LEAVE, ignore};
use crate::dial::Dialer;
use crate::flow::Progress;
use crate::meter::{Measured, SharedMeter};
use crate::plan::Plan;
use crate::schedule::Clock;
use crate::timer::Timer;
use crate::track::Counts;
use crate::ward::Ward;

/// Events that are not taken yet; who has one more waits.
const EVENTS_MAX: usize = 1_024;

/// What all clients know.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) dialer: Dialer,
    pub(crate) clock: Clock,
    /// Who sends what, with [`Scenario::Ward`](crate::plan::Scenario::Ward).
    pub(crate) ward: Option<Ward>,
    /// By publisher.
    pub(crate) progress: Vec<Progress>,
}

/// How far the run is; each phase follows the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Clients connect and subscribe.
    Prepare,
    /// Publishers publish, from `begin_ns` to the end of `measured`.
    Run { begin_ns: u64, measured: Times },
    /// Publishers have ended.
    Drain,
    /// Everybody goes.
    Leave,
}

/// A [`Measured`] that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Times {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
}

impl Times {
    pub(crate) fn range(self) -> Measured {
        self.from_ns..self.to_ns
    }
}

/// What a client tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// Connected and subscribed.
    Ready,
    /// Could not be, and why.
    Failed(String),
    /// A publisher has ended.
    Published(Published),
    /// A subscriber has.
    Heard(Heard),
    /// A connection of many was tried.
    Attempted,
}

/// What a publisher did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Published {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    /// Were due, and not sent.
    pub(crate) unsent: u64,
    /// Deliveries due of what was sent and not refused, the slow subscriber's not counted.
    pub(crate) due: u64,
}

/// What a subscriber had.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) slow: bool,
    pub(crate) counts: Counts,
    /// Messages that are not of this run.
    pub(crate) foreign: u64,
}

/// What a client has to do with.
#[derive(Clone)]
pub(crate) struct Station {
    pub(crate) shared: Arc<Shared>,
    pub(crate) meter: SharedMeter,
    /// The thread's.
    pub(crate) timer: Timer,
    phase: watch::Receiver<Phase>,
    events: mpsc::Sender<Event>,
}

impl Station {
    /// Holds a connection on which nothing is counted, until all leave.
    pub(crate) async fn hold(&self, mut connection: Connection, client_id: &str) {
        let mut leave = std::pin::pin!(self.reached(Phase::Leave));
        loop {
            tokio::select! {
                () = &mut leave => break,
                read = connection.read(ignore) => {
                    if let Err(ended) = read {
                        return self.meter.lock().ended(client_id, &ended);
                    }
                }
            }
        }
        let _ = timeout(LEAVE, connection.leave()).await;
    }

    pub(crate) async fn tell(&self, event: Event) {
        // Nobody listens any more only when the run has failed.
        let _ = self.events.send(event).await;
    }

    /// Returns when publishers begin: when that is, and what is measured. `None` if there will be no run.
    pub(crate) async fn run_begins(&self) -> Option<(u64, Measured)> {
        let mut phase = self.phase.clone();
        match &*phase.wait_for(|phase| *phase > Phase::Prepare).await.ok()? {
            Phase::Run { begin_ns, measured } => Some((*begin_ns, measured.range())),
            _ => None,
        }
    }

    /// Returns in this phase, or a later one.
    pub(crate) async fn reached(&self, wanted: Phase) {
        // Without a run there is nothing to wait for.
        let _ = self.phase.clone().wait_for(|phase| *phase >= wanted).await;
    }
}

/// Threads at work.
pub(crate) struct Crew {
    threads: Vec<JoinHandle<()>>,
    phase: watch::Sender<Phase>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) meters: Vec<SharedMeter>,
}

impl Crew {
    /// Starts the plan's threads, each with `work`, which is given the thread's number from 0.
    ///
    /// # Errors
    /// What the system says when it has no more threads.
    pub(crate) fn start<W, F>(shared: &Arc<Shared>, work: W) -> io::Result<Self>
    where
        W: Fn(usize, Station) -> F + Clone + Send + 'static,
        F: Future<Output = ()>,
    {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let (phase, told) = watch::channel(Phase::Prepare);
        let meters: Vec<_> = (0..shared.plan.threads).map(|_| SharedMeter::default()).collect();
        let mut threads = Vec::new();
        for (number, meter) in meters.iter().enumerate() {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let pause = shared.plan.pause;
            if !pause.is_zero() {
                // While it sleeps the thread waits for no socket: who writes to one has nobody to wake.
                runtime.on_thread_park(move || std::thread::sleep(pause));
            }
            let runtime = runtime.enable_all().build()?;
            let timer = {
                let _within = runtime.enter();
                Timer::new(shared.clock)?
            };
            runtime.spawn(timer.clone().run());
            let station = Station {
                shared: Arc::clone(shared),
                meter: meter.clone(),
                timer,
                phase: told.clone(),
                events: events.clone(),
            };
            let work = work.clone();
            let thread = std::thread::Builder::new().name(format!("load-{number}"));
            threads.push(thread.spawn(move || runtime.block_on(work(number, station)))?);
        }
        Ok(Self { threads, phase, events: received, meters })
    }

    pub(crate) fn tell(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Waits for `clients` to be ready.
    ///
    /// # Errors
    /// The first one's reason that cannot be.
    pub(crate) async fn ready(&mut self, clients: u64) -> Result<(), String> {
        for _ in 0..clients {
            match self.events.recv().await {
                Some(Event::Failed(reason)) => return Err(reason),
                Some(_) => {}
                None => return Err("the load's threads have ended".to_owned()),
            }
        }
        Ok(())
    }

    /// Sends everybody home, and waits for it.
    pub(crate) fn leave(self) {
        self.phase.send_replace(Phase::Leave);
        drop(self.events);
        for thread in self.threads {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
