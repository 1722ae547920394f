//! A child whose lines are collected and waited for.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::DEADLINE;

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Arc<Output>,
}

/// Lines of standard output and standard error as they came.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    streams_ended: usize,
}

/// Standard output and standard error.
const STREAMS: usize = 2;

impl Process {
    /// Starts `command` with nothing on its standard input.
    ///
    /// # Panics
    /// If it cannot be run, as when it is not installed.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run {:?}: {error}; tests/run installs what the tests need", command.get_program())
        });
        let output = Arc::<Output>::default();
        output.collect(child.stdout.take().expect("it is piped"));
        output.collect(child.stderr.take().expect("it is piped"));
        Self { child, output }
    }

    /// The first line, of those already there and those to come, that `wanted` takes.
    ///
    /// # Panics
    /// If the process ends or the deadline passes before; the message has all it said.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_for_within(DEADLINE, what, wanted)
    }

    /// [`Self::wait_for`] with a deadline of its own, for what takes long by nature.
    ///
    /// # Panics
    /// As [`Self::wait_for`] does.
    pub fn wait_for_within(&self, time: Duration, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        match self.output.wait(time, |state| state.lines.iter().find(|line| wanted(line)).cloned()) {
            Some(line) => line,
            None => panic!("{what} did not come; the process said:\n{}", self.said()),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything so far.
    pub fn said(&self) -> String {
        self.output.lock().lines.join("\n")
    }

    /// Whether it runs no more.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_some()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal)
            .expect("the process is ours and not reaped");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end by itself in time; the message has all it said.
    pub fn wait(&mut self) -> ExitStatus {
        // Its streams end with it, which is an event to wait for; a child cannot be waited for with a deadline.
        let ended = self.output.wait(DEADLINE, |_| None::<()>);
        assert!(
            ended.is_none() && self.output.lock().streams_ended == STREAMS,
            "no end in time:\n{}",
            self.said()
        );
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn collect(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let output = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                output.lock().lines.push(line);
                output.changed.notify_all();
            }
            output.lock().streams_ended += 1;
            output.changed.notify_all();
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `look` finds, or `None` when the streams have ended or the time is over.
    fn wait<T>(&self, time: Duration, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + time;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.streams_ended == STREAMS || left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
