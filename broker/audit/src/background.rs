//! Threads for work that an alert must not wait for.
//!
//! A kernel lets a thread that computes go on for milliseconds before one that was woken gets its processor. So these
//! threads have a low priority, and offer the processor at each end of a piece.

use std::{io, sync::mpsc, thread};

use tokio::sync::oneshot;

/// Rows after which the processor is offered to others: a fraction of a millisecond's work.
pub(crate) const PIECE_ROWS: usize = 32;

/// How much nicer than the process a thread is: gets ten times less of a contested processor, and all of one that nobody
/// wants.
#[cfg(target_os = "linux")]
const NICER_BY: i32 = 10;

/// Does `work`, which may block, on a thread of its own. The receiver fails if `work` panics.
///
/// # Errors
/// The system has no thread left.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (tell, done) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        lower_priority();
        // Where nobody waits any more, nobody wants to know.
        let _ = tell.send(work());
    })?;
    Ok(done)
}

/// A thread for one piece of work after another; it ends when this is dropped.
pub(crate) struct Worker {
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// As [`spawn`].
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let (work, pieces) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        spawn(name, move || pieces.into_iter().for_each(|piece| piece()))?;
        Ok(Self { work })
    }

    /// Does `work`, which may block, when what came before is done. The receiver fails if that or `work` panics.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (tell, done) = oneshot::channel();
        // A thread that has ended drops `tell`.
        let _ = self.work.send(Box::new(move || {
            let _ = tell.send(work());
        }));
        done
    }
}

/// Lets another thread have the processor, if one waits for it.
pub(crate) fn give_way() {
    thread::yield_now();
}

/// Linux takes the calling process to be the calling thread; other systems would slow down the whole broker.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICER_BY) {
        tracing::debug!(%error, "the audit record is written at full priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn work_goes_on_behind_everybody_else_who_stays_as_quick() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let behind = spawn("behind", priority).unwrap().await.unwrap();
        assert_eq!(behind, (before + NICER_BY).min(19));
        assert_eq!(priority(), before);
    }

    #[tokio::test]
    async fn whoever_waits_for_work_that_panics_is_told() {
        assert!(spawn::<()>("panics", || panic!("as the test wants")).unwrap().await.is_err());
    }

    #[tokio::test]
    async fn a_worker_keeps_its_thread_and_the_order_and_after_a_panic_everybody_is_told() {
        let worker = Worker::start("works").unwrap();
        let thread = || thread::current().id();
        let (first, second) = (worker.call(thread), worker.call(thread));
        assert_eq!(first.await.unwrap(), second.await.unwrap());
        assert!(worker.call::<()>(|| panic!("as the test wants")).await.is_err());
        assert!(worker.call(thread).await.is_err());
    }
}
