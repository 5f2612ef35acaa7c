//! The task that owns the core: hands it what happens, and does what it asks for.

use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    time::Instant,
};

use collm_core::{
    confidence::ConfidenceMeasure,
    edge::{
        Batch, BatchOutcome, Edge, EdgeConfig, Event, FinishReason, JobError, Output, Request, SecondStage, Source,
        StreamId, SubmitError,
    },
    frame::{Open, ToCloud, ToEdge},
    ids::{SessionId, SlotId},
};
use collm_engine::Engine;
use collm_exec::{EdgeExecutor, Judges};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Span, error, info, info_span, trace};

use super::{
    AnswerEvent, Finished, LinkState, Traffic,
    connection::{CloudChannel, Uplink},
    handle::{AnswerId, Command, Submitted},
    round_trip::Questions,
};
use crate::{
    answer::finish_name,
    clock::Clock,
    engine_thread::{EngineStartError, EngineThread},
    metrics::edge as metrics,
};

/// What streams and engine report. Bounded, so that a cloud cannot send faster than the edge reads; those who report wait,
/// the driver never does.
#[derive(Debug)]
pub(super) enum Arrival {
    Frame { stream: StreamId, frame: ToEdge, bytes: u64 },
    LinkDown(StreamId, String),
    Computed(BatchOutcome),
}

const ARRIVALS_MAX: usize = 64;

/// Work for the engine's thread.
enum Work {
    Run(Batch),
    Truncate(SlotId, u32),
    Free(SlotId),
}

pub(super) struct Driver {
    core: Edge,
    clock: Clock,
    engine: EngineThread<Work>,
    cloud: Option<CloudChannel>,
    arrivals: mpsc::Receiver<Arrival>,
    report: mpsc::Sender<Arrival>,
    /// Under way, by session: it makes one at a time.
    answers: BTreeMap<SessionId, Answering>,
    answers_made: u64,
    streams: BTreeMap<StreamId, Line>,
    /// Streams that failed, which the core has not been told yet: it takes no input before its outputs are done.
    lost: VecDeque<(StreamId, String)>,
    /// Who waits for the last answer. Not empty: no new requests are taken.
    drained: Vec<oneshot::Sender<()>>,
    /// What is known of the way to the cloud.
    link: watch::Sender<LinkState>,
    /// Of the exits.
    measures: [ConfidenceMeasure; 2],
    second: SecondStage,
    /// Who scores the batch under way.
    exit: Source,
}

/// One stream.
struct Line {
    uplink: Uplink,
    questions: Questions,
}

/// One answer under way.
struct Answering {
    number: u64,
    events: mpsc::UnboundedSender<AnswerEvent>,
    traffic: Traffic,
    measures: [ConfidenceMeasure; 2],
    span: Span,
}

impl Driver {
    pub(super) async fn start<E, F, R>(
        config: EdgeConfig,
        judges: Judges,
        cloud: Option<CloudChannel>,
        make_engine: F,
    ) -> Result<Self, EngineStartError>
    where
        E: Engine,
        F: FnOnce() -> Result<E, R> + Send + 'static,
        R: Into<Box<dyn Error + Send + Sync>>,
    {
        let (report, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let link = if cloud.is_some() { LinkState::Untried } else { LinkState::NoCloud };
        metrics::record_start(&config, link);
        let (second, measures) = (config.second, judges.measures());
        let results = report.clone();
        let engine = EngineThread::start("edge-engine", move |interrupt| {
            let executor = |engine| EdgeExecutor::new(engine, second).judged_by(judges).heeding(interrupt);
            make_engine().map(|engine| performer(executor(engine), results))
        });
        Ok(Self {
            core: Edge::new(config),
            clock: Clock::start(),
            engine: engine.await?,
            cloud,
            arrivals,
            report,
            answers: BTreeMap::new(),
            answers_made: 0,
            streams: BTreeMap::new(),
            lost: VecDeque::new(),
            drained: Vec::new(),
            link: watch::Sender::new(link),
            measures,
            second,
            exit: Source::Exit1,
        })
    }

    /// What is known of the way to the cloud, now and later.
    pub(super) fn link(&self) -> watch::Receiver<LinkState> {
        self.link.subscribe()
    }

    fn link_is(&self, state: LinkState) {
        if self.link.send_if_modified(|known| std::mem::replace(known, state) != state) {
            metrics::record_link(state);
        }
    }

    /// Runs until all handles and answers are dropped, or drained, or the engine is gone.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        // Told from the start, and not from the first request on.
        metrics::record_occupancy(self.core.occupancy());
        while !self.is_drained() {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop) | None => break,
                    Some(command) => self.handle_command(command),
                },
                Some(arrival) = self.arrivals.recv() => self.handle_arrival(arrival),
                () = self.clock.reach(self.core.poll_timeout()) => self.core.handle_timeout(self.clock.now()),
                () = self.engine.ended() => {
                    error!("the engine's thread panicked; this edge can answer no more");
                    break;
                }
            }
            self.settle();
        }
        self.core.keep_nothing(self.clock.now());
        self.settle();
        // Those who wait for answers see their channels close, and not only when the batch under way is done.
        drop(self.answers);
        self.engine.stop(self.arrivals).await;
    }

    fn is_drained(&self) -> bool {
        !self.drained.is_empty() && self.core.session_count() == 0
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Submit(request, reply) => {
                if !self.drained.is_empty() {
                    // Dropping the reply says that this edge has stopped.
                    return;
                }
                if let Err(Ok(unwanted)) = reply.send(self.submit(request)) {
                    self.finish(unwanted.id, FinishReason::Cancelled);
                }
            }
            Command::Finish(answer, reason) => self.finish(answer, reason),
            Command::Drain(done) => {
                self.core.keep_nothing(self.clock.now());
                self.drained.push(done);
            }
            // The loop has ended with it.
            Command::Stop => {}
        }
    }

    fn submit(&mut self, request: Request) -> Result<Submitted, SubmitError> {
        let mode = request.mode.name();
        let session = self.core.submit(self.clock.now(), request).inspect_err(metrics::record_refused)?;
        let span = info_span!("answer", %session, mode);
        let (events, received) = mpsc::unbounded_channel();
        self.answers_made += 1;
        let number = self.answers_made;
        self.answers
            .insert(session, Answering { number, events, traffic: Traffic::default(), measures: self.measures, span });
        Ok(Submitted { id: AnswerId { session, number }, events: received })
    }

    /// Ends an answer, unless it has ended already.
    fn finish(&mut self, answer: AnswerId, reason: FinishReason) {
        if self.answers.get(&answer.session).is_some_and(|answering| answering.number == answer.number) {
            self.core.finish(self.clock.now(), answer.session, reason);
        }
    }

    fn handle_arrival(&mut self, arrival: Arrival) {
        let now = self.clock.now();
        match arrival {
            Arrival::Frame { stream, frame, bytes } if self.streams.contains_key(&stream) => {
                self.count(stream.session, Traffic { frames_down: 1, bytes_down: bytes, ..Traffic::default() });
                self.link_is(LinkState::Up);
                self.time(stream, &frame);
                self.core.handle_frame(now, stream, frame);
            }
            Arrival::LinkDown(stream, why) => self.lose(stream, why),
            // Of a stream that the core has given up.
            Arrival::Frame { .. } => {}
            Arrival::Computed(outcome) => {
                metrics::record_outcome(&outcome, self.exit);
                self.core.handle_compute(now, outcome);
            }
        }
    }

    /// Does everything that the core asks for, and tells it of streams that failed over it, until there is nothing left.
    fn settle(&mut self) {
        self.perform_outputs();
        while let Some((stream, why)) = self.lost.pop_front() {
            self.core.handle_link_down(self.clock.now(), stream, why);
            self.perform_outputs();
        }
        metrics::record_occupancy(self.core.occupancy());
    }

    fn perform_outputs(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Connect(stream, open) => self.connect(stream, open),
                Output::Transmit(stream, frame) => self.transmit(stream, frame),
                Output::Disconnect(stream) => self.disconnect(stream),
                Output::Compute(batch) => self.compute(batch),
                Output::Interrupt => self.engine.interrupt(),
                Output::Truncate(slot, length) => self.engine.submit(Work::Truncate(slot, length)),
                Output::Free(slot) => self.engine.submit(Work::Free(slot)),
                Output::Event(session, event) => self.tell(session, event),
            }
        }
    }

    fn connect(&mut self, stream: StreamId, open: Open) {
        let Some(cloud) = &self.cloud else {
            return self.lost.push_back((stream, "no cloud is configured".into()));
        };
        let uplink = cloud.connect(stream, &open, self.report.clone());
        self.streams.insert(stream, Line { uplink, questions: Questions::default() });
        self.transmit(stream, ToCloud::Open(open));
    }

    fn transmit(&mut self, stream: StreamId, frame: ToCloud) {
        // The core may not know yet that this stream failed.
        let Some(line) = self.streams.get_mut(&stream) else { return };
        line.questions.sent(&frame, self.clock.now());
        match line.uplink.send(frame) {
            Ok(bytes) => {
                self.core.handle_sent(self.clock.now(), stream, bytes);
                self.count(stream.session, Traffic { frames_up: 1, bytes_up: bytes, ..Traffic::default() });
            }
            Err(overflow) => self.lose(stream, overflow.to_string()),
        }
    }

    /// A stream that the core still counts on has failed.
    fn lose(&mut self, stream: StreamId, why: String) {
        if self.drop_uplink(stream) {
            self.lost.push_back((stream, why));
        }
    }

    fn disconnect(&mut self, stream: StreamId) {
        self.drop_uplink(stream);
        self.lost.retain(|(lost, _)| *lost != stream);
    }

    /// Ends a stream, if it has not ended before.
    fn drop_uplink(&mut self, stream: StreamId) -> bool {
        let Some(Line { uplink, .. }) = self.streams.remove(&stream) else { return false };
        let (frames, bytes) = uplink.unsent();
        if let Some(answering) = self.answers.get_mut(&stream.session) {
            answering.traffic.retract_up(frames, bytes);
        }
        true
    }

    fn compute(&mut self, batch: Batch) {
        metrics::record_batch(&batch);
        self.exit = metrics::exit_of(&batch, self.second);
        self.engine.submit(Work::Run(batch));
    }

    fn time(&mut self, stream: StreamId, frame: &ToEdge) {
        let line = self.streams.get_mut(&stream);
        if let Some(round_trip) = line.and_then(|line| line.questions.arrived(frame, self.clock.now())) {
            metrics::record_round_trip(round_trip);
        }
    }

    fn count(&mut self, session: SessionId, traffic: Traffic) {
        if let Some(answering) = self.answers.get_mut(&session) {
            answering.traffic += traffic;
        }
    }

    fn tell(&mut self, session: SessionId, event: Event) {
        if matches!(event, Event::Degraded(_)) {
            self.link_is(LinkState::Down);
        }
        let Some(answering) = self.answers.get(&session) else { return };
        let event = answering.complete(event);
        metrics::record_event(&event);
        answering.span.in_scope(|| trace_event(&event));
        let last = matches!(event, AnswerEvent::Finished(_) | AnswerEvent::Failed(_));
        // A requester that has left has said so with a command that is on its way.
        let _ = answering.events.send(event);
        if last {
            self.answers.remove(&session);
        }
    }
}

impl Answering {
    /// Adds what the core does not know.
    fn complete(&self, event: Event) -> AnswerEvent {
        match event {
            Event::Prompt(token) => AnswerEvent::Prompt(token),
            Event::Token(token) => AnswerEvent::Token(token, self.traffic),
            Event::Degraded(loss) => AnswerEvent::Degraded(loss),
            Event::Finished(reason, stats) => {
                let Self { traffic, measures, .. } = *self;
                AnswerEvent::Finished(Box::new(Finished { reason, stats: *stats, measures, traffic }))
            }
            Event::Failed(why) => AnswerEvent::Failed(why),
        }
    }
}

/// What runs on the engine's thread.
fn performer<E: Engine>(mut executor: EdgeExecutor<E>, report: mpsc::Sender<Arrival>) -> impl FnMut(Work) {
    move |work| match work {
        Work::Run(batch) => {
            let begun = Instant::now();
            let jobs = executor.run(&batch).into_iter().map(|result| result.map_err(JobError::from)).collect();
            let outcome = BatchOutcome { jobs, compute: begun.elapsed() };
            // Fails when the edge has ended; then nobody wants to know.
            let _ = report.blocking_send(Arrival::Computed(outcome));
        }
        Work::Truncate(slot, length) => executor.truncate(slot, length),
        Work::Free(slot) => executor.free(slot),
    }
}

fn trace_event(event: &AnswerEvent) {
    match event {
        AnswerEvent::Prompt(_) => {}
        AnswerEvent::Token(token, _) => {
            // Not the token itself: logs are no place for what people ask and are told.
            trace!(position = token.position.0, source = token.source.name(), "token");
        }
        AnswerEvent::Degraded(loss) => info!(%loss, "going on without the cloud"),
        AnswerEvent::Finished(finished) => {
            info!(ended = finish_name(finished.reason), tokens = finished.stats.answer_tokens(), "answered");
        }
        AnswerEvent::Failed(why) => error!(why, "the answer failed"),
    }
}
