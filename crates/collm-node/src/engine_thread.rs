//! One thread that owns an engine. Engines are synchronous and may not leave their thread, so the engine is made there too.
//!
//! Work goes in through a queue and is performed in order; results leave through whatever the performer holds. The engine can be told
//! that nobody wants what it works on any more. Deliberately absent: what the work is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use collm_engine::Interrupt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineStartError {
    /// The system gave no thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The engine could not be made.
    #[error("cannot load the engine: {0}")]
    Load(Box<dyn std::error::Error + Send + Sync>),
    /// Its thread ended without a word.
    #[error("the engine's thread panicked while loading")]
    Panicked,
}

/// A running engine thread. Dropping it stops the thread, as soon as the engine can end what it is at.
#[derive(Debug)]
pub(crate) struct EngineThread<W> {
    /// Of numbered pieces.
    queue: mpsc::Sender<(u64, W)>,
    submitted: u64,
    interrupt: Arc<Interrupt>,
    stop: Arc<AtomicBool>,
    /// Cancelled when the thread has ended, by the guard that it holds.
    ended: CancellationToken,
}

impl<W: Send + 'static> EngineThread<W> {
    /// Runs `make` on a new thread; what it returns performs the work there. Waits until the engine is made, which may heed the
    /// interrupt that `make` is given.
    pub(crate) async fn start<P, E>(
        name: &str,
        make: impl FnOnce(Arc<Interrupt>) -> Result<P, E> + Send + 'static,
    ) -> Result<Self, EngineStartError>
    where
        P: FnMut(W),
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (queue, work) = mpsc::channel();
        let (started, starting) = oneshot::channel();
        let ended = CancellationToken::new();
        let alive = ended.clone().drop_guard();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let interrupt = Arc::new(Interrupt::default());
        let heeded = Arc::clone(&interrupt);
        thread::Builder::new().name(name.into()).spawn(move || {
            // Declared first, so dropped last, after the engine.
            let _alive = alive;
            match make(Arc::clone(&heeded)).map_err(Into::into) {
                Ok(perform) => {
                    // A requester that no longer waits for the start has dropped the queue too.
                    let _ = started.send(Ok(()));
                    perform_all(&work, &stopped, &heeded, perform);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        starting.await.map_err(|_| EngineStartError::Panicked)?.map_err(EngineStartError::Load)?;
        Ok(Self { queue, submitted: 0, interrupt, stop, ended })
    }

    /// Queues a piece of work. It is lost if the thread has ended, which [`Self::ended`] tells.
    pub(crate) fn submit(&mut self, work: W) {
        self.submitted += 1;
        let _ = self.queue.send((self.submitted, work));
    }

    /// Nobody wants what was submitted so far. An engine that heeds it ends its call early.
    pub(crate) fn interrupt(&self) {
        self.interrupt.stop(self.submitted);
    }

    /// Waits until the thread has ended although nobody stopped it: its performer panicked.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Stops the thread, as soon as the engine can end what it is at, and waits until the engine is gone. Nobody hears its `reports` any
    /// more: they are dropped first, since a thread that waits for room among them would never end.
    pub(crate) async fn stop<R>(mut self, reports: tokio::sync::mpsc::Receiver<R>) {
        self.end();
        drop(reports);
        let (closed, _) = mpsc::channel();
        self.queue = closed;
        self.ended().await;
    }
}

impl<W> EngineThread<W> {
    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.interrupt.stop(u64::MAX);
    }
}

impl<W> Drop for EngineThread<W> {
    fn drop(&mut self) {
        self.end();
    }
}

fn perform_all<W>(
    work: &mpsc::Receiver<(u64, W)>,
    stopped: &AtomicBool,
    interrupt: &Interrupt,
    mut perform: impl FnMut(W),
) {
    for (number, piece) in work {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        interrupt.begin(number);
        perform(piece);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    type Never = std::convert::Infallible;

    /// Of performers that report elsewhere.
    fn no_reports() -> tokio::sync::mpsc::Receiver<()> {
        tokio::sync::mpsc::channel(1).1
    }

    #[tokio::test]
    async fn work_is_performed_in_order_by_what_cannot_leave_the_thread() {
        let (results, mut done) = tokio::sync::mpsc::unbounded_channel();
        let thread = EngineThread::start("test-engine", move |_| {
            let engine = Rc::new(100);
            Ok::<_, Never>(move |work: u32| results.send(*engine + work).expect("the test listens"))
        });
        let mut thread = thread.await.expect("starts");
        (0..3).for_each(|work| thread.submit(work));
        for expected in 100..103 {
            assert_eq!(done.recv().await, Some(expected));
        }
        thread.stop(no_reports()).await;
        assert_eq!(done.recv().await, None, "the performer is dropped with its thread");
    }

    #[tokio::test]
    async fn stopping_skips_what_is_queued() {
        let (entered, mut has_entered) = tokio::sync::mpsc::unbounded_channel();
        let (release, gate) = mpsc::channel::<()>();
        let thread = EngineThread::start("test-engine", move |_| {
            Ok::<_, Never>(move |work: u32| {
                entered.send(work).expect("the test listens");
                gate.recv().expect("the test releases");
            })
        });
        let mut thread = thread.await.expect("starts");
        thread.submit(1);
        thread.submit(2);
        assert_eq!(has_entered.recv().await, Some(1));
        let stopping = tokio::spawn(thread.stop(no_reports()));
        // Polls the task once, up to its wait for the thread.
        tokio::task::yield_now().await;
        release.send(()).expect("the first piece waits");
        stopping.await.expect("stops");
        assert_eq!(has_entered.recv().await, None);
    }

    #[tokio::test]
    async fn what_was_submitted_can_be_interrupted_and_what_follows_is_not() {
        let (results, mut done) = tokio::sync::mpsc::unbounded_channel();
        let (release, gate) = mpsc::channel::<()>();
        let thread = EngineThread::start("test-engine", move |interrupt| {
            Ok::<_, Never>(move |()| {
                gate.recv().expect("the test releases");
                results.send(interrupt.is_stopped()).expect("the test listens");
            })
        });
        let mut thread = thread.await.expect("starts");
        thread.submit(());
        thread.submit(());
        thread.interrupt();
        thread.submit(());
        for is_stopped in [true, true, false] {
            release.send(()).expect("it waits");
            assert_eq!(done.recv().await, Some(is_stopped));
        }
        thread.stop(no_reports()).await;
    }

    #[tokio::test]
    async fn reports_that_nobody_reads_do_not_keep_it_from_stopping() {
        let (report, mut reports) = tokio::sync::mpsc::channel(1);
        let thread = EngineThread::start("test-engine", |_| {
            Ok::<_, Never>(move |()| {
                for number in 0..3 {
                    let _ = report.blocking_send(number);
                }
            })
        });
        let mut thread = thread.await.expect("starts");
        thread.submit(());
        // Two more are to come, and there is room for one.
        assert_eq!(reports.recv().await, Some(0));
        thread.stop(reports).await;
    }

    #[tokio::test]
    async fn an_engine_that_cannot_be_made_says_why() {
        let thread = EngineThread::<()>::start("test-engine", |_| Err::<fn(()), _>("no such file"));
        assert_eq!(thread.await.err().map(|e| e.to_string()).as_deref(), Some("cannot load the engine: no such file"));
    }

    #[tokio::test]
    async fn a_panic_ends_the_thread() {
        let make = |_| Ok::<_, Never>(|_: ()| panic!("on purpose"));
        let mut thread = EngineThread::start("test-engine", make).await.expect("starts");
        thread.submit(());
        thread.ended().await;
    }
}
