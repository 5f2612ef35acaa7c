//! The task that owns the core: hands it what happens, and does what it asks for.

use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    time::Instant,
};

use collm_core::{
    cloud::{Batch, BatchOutcome, Cloud, CloudConfig, Output, PeerId},
    frame::{Refusal, ToCloud, ToEdge},
};
use collm_engine::{Engine, EngineError};
use collm_exec::{CloudExecutor, ExecError};
use collm_wire::{frame_bytes, proto::CloudFrame, status};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tracing::{debug, error};

use super::CloudServeError;
use crate::{
    clock::Clock,
    engine_thread::{EngineStartError, EngineThread},
    metrics::cloud as metrics,
};

/// What streams and engine report. Bounded, so that edges cannot send faster than the cloud reads; those who report wait,
/// the driver never does. Few, since each may hold a frame of the largest size.
#[derive(Debug)]
pub(super) enum Arrival {
    Joined(PeerId, Peer),
    Frame(PeerId, ToCloud),
    Refused(PeerId, Refusal),
    Down(PeerId),
    Computed(BatchOutcome),
}

pub(super) const ARRIVALS_MAX: usize = 16;

/// One stream's way back. Dropping it ends the stream after what was sent, and its reader.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) outgoing: mpsc::Sender<Result<CloudFrame, Status>>,
    pub(super) _open: DropGuard,
}

pub(super) struct Driver {
    core: Cloud,
    clock: Clock,
    engine: EngineThread<Batch>,
    peers: BTreeMap<PeerId, Peer>,
    /// Streams that failed, which the core has not been told yet: it takes no input before its outputs are done.
    lost: VecDeque<PeerId>,
}

impl Driver {
    pub(super) async fn start<E, F, R>(
        config: CloudConfig,
        report: mpsc::Sender<Arrival>,
        make_engine: F,
    ) -> Result<Self, EngineStartError>
    where
        E: Engine,
        F: FnOnce() -> Result<E, R> + Send + 'static,
        R: Into<Box<dyn Error + Send + Sync>>,
    {
        metrics::record_start(&config);
        let engine = EngineThread::start("cloud-engine", move |interrupt| {
            make_engine().map(|engine| performer(CloudExecutor::new(engine).heeding(interrupt), report))
        });
        Ok(Self {
            core: Cloud::new(config),
            clock: Clock::start(),
            engine: engine.await?,
            peers: BTreeMap::new(),
            lost: VecDeque::new(),
        })
    }

    /// Runs until `closed` or until the engine is lost. From `drain` on, refuses new sessions.
    pub(super) async fn run(
        mut self,
        mut arrivals: mpsc::Receiver<Arrival>,
        drain: CancellationToken,
        closed: CancellationToken,
    ) -> Result<(), CloudServeError> {
        // Told from the start, and not from the first edge on.
        metrics::record_occupancy(self.core.occupancy());
        let mut draining = false;
        while !closed.is_cancelled() {
            tokio::select! {
                Some(arrival) = arrivals.recv() => self.handle_arrival(arrival),
                () = self.clock.reach(self.core.poll_timeout()) => self.core.handle_timeout(self.clock.now()),
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    self.core.drain();
                }
                () = closed.cancelled() => {}
                () = self.engine.ended() => {
                    error!("the engine's thread panicked; this cloud can answer no more");
                    return Err(CloudServeError::EngineEnded);
                }
            }
            self.settle();
        }
        // Their edges need not wait for the batch under way.
        drop(self.peers);
        self.engine.stop(arrivals).await;
        Ok(())
    }

    fn handle_arrival(&mut self, arrival: Arrival) {
        let now = self.clock.now();
        match arrival {
            Arrival::Joined(id, peer) => {
                self.peers.insert(id, peer);
            }
            Arrival::Computed(outcome) => {
                metrics::record_outcome(&outcome);
                self.core.handle_compute(now, outcome);
            }
            Arrival::Frame(id, frame) if self.peers.contains_key(&id) => self.core.handle_frame(now, id, frame),
            Arrival::Refused(id, refusal) if self.peers.contains_key(&id) => self.core.refuse(now, id, refusal),
            Arrival::Down(id) => self.lose(id),
            // Of a stream that the core has ended.
            Arrival::Frame(..) | Arrival::Refused(..) => {}
        }
    }

    /// Does everything that the core asks for, and tells it of streams that failed over it, until there is nothing left.
    fn settle(&mut self) {
        self.perform_outputs();
        while let Some(peer) = self.lost.pop_front() {
            self.core.handle_link_down(self.clock.now(), peer);
            self.perform_outputs();
        }
        metrics::record_occupancy(self.core.occupancy());
    }

    fn perform_outputs(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Transmit(peer, frame) => self.transmit(peer, frame),
                Output::Disconnect(peer) => self.disconnect(peer),
                Output::Compute(batch) => {
                    metrics::record_batch(&batch);
                    self.engine.submit(batch);
                }
                Output::Interrupt => self.engine.interrupt(),
            }
        }
    }

    fn transmit(&mut self, id: PeerId, frame: ToEdge) {
        // The core may not know yet that this stream failed.
        let Some(peer) = self.peers.get(&id) else { return };
        let end = match &frame {
            ToEdge::Refused(refusal) => Some(status(refusal)),
            _ => None,
        };
        metrics::record_told(&frame);
        let frame: CloudFrame = frame.into();
        metrics::record_sent(frame_bytes(&frame));
        let sent = peer.outgoing.try_send(Ok(frame));
        let ended = end.map(|status| peer.outgoing.try_send(Err(status))).transpose();
        if sent.is_err() || ended.is_err() {
            debug!(peer = id.0, "an edge does not read its answers, or has left");
            self.lose(id);
        }
    }

    fn lose(&mut self, id: PeerId) {
        if self.peers.remove(&id).is_some() {
            self.lost.push_back(id);
        }
    }

    fn disconnect(&mut self, id: PeerId) {
        self.peers.remove(&id);
        self.lost.retain(|lost| *lost != id);
    }
}

/// What runs on the engine's thread.
fn performer<E: Engine>(mut executor: CloudExecutor<E>, results: mpsc::Sender<Arrival>) -> impl FnMut(Batch) {
    move |batch| {
        let begun = Instant::now();
        let outcome = match executor.run(&batch) {
            Ok(scored) => BatchOutcome::Done { scored, compute: begun.elapsed() },
            Err(ExecError::Engine(EngineError::Interrupted)) => BatchOutcome::Interrupted { compute: begun.elapsed() },
            Err(error) => BatchOutcome::Failed(error.to_string()),
        };
        // Fails when the cloud has ended; then nobody wants to know.
        let _ = results.blocking_send(Arrival::Computed(outcome));
    }
}
