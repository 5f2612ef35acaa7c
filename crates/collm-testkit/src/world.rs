//! The world: one clock, one queue of happenings, edges and clouds that hear of nothing but through it.
//!
//! After every input all outputs are drained, carried out or scheduled, and the invariants are checked.

mod faults;
mod wiring;

use std::{collections::BTreeMap, time::Duration};

use collm_core::{
    cloud::{self, Batch, BatchOutcome, Occupancy, PeerId},
    edge::{self, Event, FinishReason, Job, JobError, Request, StreamId, SubmitError},
    frame::{ToCloud, ToEdge},
    ids::SessionId,
    time::Time,
};

use collm_engine::EngineError;
use collm_exec::ExecError;

use crate::{
    cloud_host::CloudHost,
    edge_host::{EdgeHost, Work},
    judge::{Answer, Judge},
    plan::{Fault, Plan},
    random::Random,
    stream::Stream,
};

/// Outputs of one drain. More means that a machine feeds itself.
const DRAIN_MAX: usize = 1000;

/// Happenings of one world, of which no profile needs a tenth.
const HAPPENINGS_MAX: u64 = 500_000;

/// A world that still moves then will never stand still.
const END: Time = Time(Duration::from_secs(24 * 3600));

/// Something that happened, for scenarios to look at.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A request was taken, and by which session, or not.
    Submitted(SessionId, Result<SessionId, SubmitError>),
    /// An edge opened a stream.
    Connected(StreamId),
    /// An edge left a stream.
    Left(StreamId),
    /// An edge sent a frame.
    Transmitted(StreamId, ToCloud),
    /// An edge heard a frame.
    Heard(StreamId, ToEdge),
    /// An edge was told that a stream is down.
    LinkDown(StreamId),
    /// An edge's engine began a job, one of a batch.
    JobStarted(SessionId, Job),
    /// An edge's engine finished a batch.
    JobsDone(edge::Batch),
    /// A cloud's engine began a batch.
    BatchStarted(usize, Batch),
    /// A requester was told something.
    Told(SessionId, Event),
    /// Something went wrong.
    Suffered(Fault),
}

/// How far the engine comes with a cloud's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchEnd {
    AtItsEnd,
    /// Interrupted, when all of it was computed.
    InVain,
    /// Interrupted, when nothing of it was.
    BeforeItBegan,
}

/// What the queue holds.
#[derive(Debug)]
enum Happening {
    Submit {
        edge: usize,
        request: Box<Request>,
    },
    WakeEdge(usize),
    WakeCloud {
        cloud: usize,
        generation: u32,
    },
    JobsDone {
        edge: usize,
        batch: edge::Batch,
        outcome: edge::BatchOutcome,
    },
    BatchDone {
        cloud: usize,
        generation: u32,
        batch: Batch,
        compute: Duration,
        end: BatchEnd,
    },
    ArriveAtCloud(StreamId, ToCloud),
    ArriveAtEdge(StreamId, ToEdge),
    /// The other end ended the stream, or the network did.
    EndAtCloud(StreamId),
    EndAtEdge(StreamId, String),
    Suffer(Fault),
    StartCloud(usize),
}

/// See the module.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    random: Random,
    now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    scheduled: u64,
    edges: Vec<EdgeHost>,
    clouds: Vec<CloudHost>,
    streams: BTreeMap<StreamId, Stream>,
    peers: BTreeMap<PeerId, StreamId>,
    next_peer: u64,
    judge: Judge,
    log: Vec<(Time, Entry)>,
    is_traced: bool,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(plan: Plan) -> Self {
        let mut world = Self {
            random: Random::new(plan.seed),
            now: Time::default(),
            queue: BTreeMap::new(),
            scheduled: 0,
            edges: plan.edges.iter().map(|edge| EdgeHost::new(edge.clone(), &plan.script)).collect(),
            clouds: plan.clouds.iter().map(|cloud| CloudHost::new(cloud.clone(), &plan.script)).collect(),
            streams: BTreeMap::new(),
            peers: BTreeMap::new(),
            next_peer: 1,
            judge: Judge::default(),
            log: vec![],
            is_traced: std::env::var_os("COLLM_TRACE").is_some(),
            plan,
        };
        world.schedule_plan();
        world
    }

    /// Plays until nothing is left to happen, then demands that every answer is complete and that nothing is held.
    ///
    /// # Panics
    /// When a law does not hold.
    pub fn run(&mut self) {
        while self.step() {}
        self.judge.conclude(self.plan.exact);
        self.edges.iter().for_each(EdgeHost::check_empty);
        self.clouds.iter().for_each(CloudHost::check_empty);
        self.clouds.iter().for_each(CloudHost::check_engine);
    }

    /// Lets the next thing happen. `false` when there is none.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), happening)) = self.queue.pop_first() else {
            return false;
        };
        assert!(
            at < END && self.scheduled < HAPPENINGS_MAX,
            "the world does not come to rest; at {at:?}: {happening:?}"
        );
        self.now = at;
        self.happen(happening);
        true
    }

    /// All answers so far.
    pub fn answers(&self) -> &BTreeMap<SessionId, Answer> {
        &self.judge.answers
    }

    /// The answer to the request that brought this id. Panics if it was never taken.
    pub fn answer(&self, session: u128) -> &Answer {
        &self.judge.answers[&SessionId(session)]
    }

    /// The present moment.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What a cloud holds; `None` while it is dead.
    pub fn occupancy(&self, cloud: usize) -> Option<Occupancy> {
        self.clouds[cloud].life.as_ref().map(|life| life.cloud.occupancy())
    }

    /// Everything that happened, in order.
    pub fn log(&self) -> &[(Time, Entry)] {
        &self.log
    }

    fn schedule_plan(&mut self) {
        for (index, edge) in self.plan.edges.clone().into_iter().enumerate() {
            for (at, request) in edge.requests {
                self.schedule(at, Happening::Submit { edge: index, request: Box::new(request) });
            }
        }
        for (at, fault) in self.plan.faults.clone() {
            self.schedule(at, Happening::Suffer(fault));
        }
    }

    fn schedule(&mut self, at: Time, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((at.max(self.now), self.scheduled), happening);
    }

    /// Takes back what was scheduled, and when it was due.
    fn unschedule(&mut self, is_it: impl Fn(&Happening) -> bool) -> (Time, Happening) {
        let key = *self.queue.iter().find(|(_, happening)| is_it(happening)).expect("who is busy will be done").0;
        (key.0, self.queue.remove(&key).expect("it was found"))
    }

    fn note(&mut self, entry: Entry) {
        if self.is_traced {
            eprintln!("{:>12?} {entry:?}", self.now.0);
        }
        self.log.push((self.now, entry));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit { edge, request } => self.submit(edge, &request),
            Happening::WakeEdge(edge) => self.wake_edge(edge),
            Happening::WakeCloud { cloud, generation } => self.wake_cloud(cloud, generation),
            Happening::JobsDone { edge, batch, outcome } => self.jobs_done(edge, batch, outcome),
            Happening::BatchDone { cloud, generation, batch, compute, end } => {
                self.batch_done(cloud, generation, &batch, compute, end);
            }
            Happening::ArriveAtCloud(stream, frame) => self.arrive_at_cloud(stream, frame),
            Happening::ArriveAtEdge(stream, frame) => self.arrive_at_edge(stream, frame),
            Happening::EndAtCloud(stream) => self.end_at_cloud(stream),
            Happening::EndAtEdge(stream, why) => self.end_at_edge(stream, why),
            Happening::Suffer(fault) => self.suffer(fault),
            Happening::StartCloud(cloud) => self.clouds[cloud].start(),
        }
    }

    // --- edges ---

    fn submit(&mut self, edge: usize, request: &Request) {
        let host = &mut self.edges[edge];
        let session = request.session;
        let result = host.edge.submit(self.now, request.clone());
        if let Ok(answers) = result {
            let may_fail = !host.plan.failing_calls.is_empty();
            self.judge.expect(self.now, answers, request, &host.plan.config, &self.plan.script, may_fail);
        }
        self.note(Entry::Submitted(session, result));
        self.drain_edge(edge);
    }

    fn wake_edge(&mut self, edge: usize) {
        let host = &mut self.edges[edge];
        host.wakes_at = None;
        if host.edge.poll_timeout().is_some_and(|at| at <= self.now) {
            host.edge.handle_timeout(self.now);
            let again = host.edge.poll_timeout();
            assert!(again.is_none_or(|at| at > self.now), "handling a timeout leaves it due");
        }
        self.drain_edge(edge);
    }

    fn jobs_done(&mut self, edge: usize, batch: edge::Batch, outcome: edge::BatchOutcome) {
        self.note(Entry::JobsDone(batch));
        self.edges[edge].is_busy = false;
        self.edges[edge].edge.handle_compute(self.now, outcome);
        self.drain_edge(edge);
    }

    fn drain_edge(&mut self, edge: usize) {
        let mut drained = 0;
        while let Some(output) = self.edges[edge].edge.poll_output() {
            drained += 1;
            assert!(drained <= DRAIN_MAX, "an edge's outputs do not end");
            self.carry_out_edge(edge, output);
        }
        self.start_jobs(edge);
        self.edges[edge].check_engine();
        self.schedule_edge(edge);
    }

    fn carry_out_edge(&mut self, edge: usize, output: edge::Output) {
        match output {
            edge::Output::Connect(stream, open) => self.connect(edge, stream, open),
            edge::Output::Transmit(stream, frame) => self.transmit(stream, frame),
            edge::Output::Disconnect(stream) => self.edge_leaves(stream),
            edge::Output::Compute(batch) => {
                let host = &mut self.edges[edge];
                let under_way = host.is_busy || host.work.iter().any(|work| matches!(work, Work::Batch(_)));
                assert!(!under_way, "two batches under way at an edge");
                host.work.push_back(Work::Batch(batch));
            }
            edge::Output::Interrupt => self.interrupt_edge(edge),
            edge::Output::Truncate(slot, length) => {
                self.edges[edge].work.push_back(Work::Truncate(slot, length));
            }
            edge::Output::Free(slot) => self.edges[edge].work.push_back(Work::Free(slot)),
            edge::Output::Event(session, event) => {
                self.note(Entry::Told(session, event.clone()));
                self.judge.hear(self.now, session, event);
            }
        }
    }

    fn start_jobs(&mut self, edge: usize) {
        let host = &mut self.edges[edge];
        if host.is_busy {
            return;
        }
        let Some((batch, results)) = host.start_next() else {
            return;
        };
        host.is_busy = true;
        let rows: u32 = batch.jobs.iter().map(|(_, job)| job.rows()).sum();
        let compute = self.random.span_us(host.plan.job_us.clone()) * (1 + rows);
        let jobs = results.into_iter().map(|result| result.map_err(|error| JobError::Failed(expect_planned(&error))));
        let jobs = jobs.collect();
        for (session, job) in &batch.jobs {
            self.note(Entry::JobStarted(*session, job.clone()));
        }
        let outcome = edge::BatchOutcome { jobs, compute };
        self.schedule(self.now + compute, Happening::JobsDone { edge, batch, outcome });
    }

    /// Half of the time the engine can end its batch early: at its end, or before anything of it that begins a position.
    fn interrupt_edge(&mut self, edge: usize) {
        assert!(self.edges[edge].is_busy, "an edge that computes nothing is interrupted");
        if self.random.chance(0.5) {
            return;
        }
        let is_its = |happening: &Happening| matches!(happening, Happening::JobsDone { edge: of, .. } if *of == edge);
        let (due, Happening::JobsDone { batch, mut outcome, .. }) = self.unschedule(is_its) else { unreachable!() };
        outcome.jobs.iter_mut().filter(|job| job.is_ok()).for_each(|job| *job = Err(JobError::Interrupted));
        if self.random.chance(0.5) {
            self.edges[edge].undo(&batch);
        }
        let at = self.now + self.random.span_us(0..=50);
        self.schedule(at.min(due), Happening::JobsDone { edge, batch, outcome });
    }

    fn schedule_edge(&mut self, edge: usize) {
        let host = &mut self.edges[edge];
        let Some(at) = host.edge.poll_timeout() else { return };
        if host.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            host.wakes_at = Some(at);
            self.schedule(at, Happening::WakeEdge(edge));
        }
    }

    // --- clouds ---

    fn wake_cloud(&mut self, cloud: usize, generation: u32) {
        if !self.lives(cloud, generation) {
            return;
        }
        let life = self.clouds[cloud].life.as_mut().expect("it lives");
        life.wakes_at = None;
        if life.cloud.poll_timeout().is_some_and(|at| at <= self.now) {
            life.cloud.handle_timeout(self.now);
            let again = life.cloud.poll_timeout();
            assert!(again.is_none_or(|at| at > self.now), "handling a timeout leaves it due");
        }
        self.drain_cloud(cloud);
    }

    fn lives(&self, cloud: usize, generation: u32) -> bool {
        let host = &self.clouds[cloud];
        host.life.is_some() && host.generation == generation
    }

    fn batch_done(&mut self, cloud: usize, generation: u32, batch: &Batch, compute: Duration, end: BatchEnd) {
        if self.lives(cloud, generation) {
            let life = self.clouds[cloud].life.as_mut().expect("it lives");
            life.is_busy = false;
            let is_begun = end != BatchEnd::BeforeItBegan;
            let outcome = match is_begun.then(|| life.executor.run(batch)) {
                Some(Err(error)) => BatchOutcome::Failed(expect_planned(&error)),
                Some(Ok(scored)) if end == BatchEnd::AtItsEnd => BatchOutcome::Done { scored, compute },
                Some(Ok(_)) | None => BatchOutcome::Interrupted { compute },
            };
            life.cloud.handle_compute(self.now, outcome);
            self.drain_cloud(cloud);
        }
    }

    /// Only to be called while it lives.
    fn drain_cloud(&mut self, cloud: usize) {
        for drained in 0.. {
            assert!(drained <= DRAIN_MAX, "a cloud's outputs do not end");
            let life = self.clouds[cloud].life.as_mut().expect("the dead have no outputs");
            match life.cloud.poll_output() {
                Some(output) => self.carry_out_cloud(cloud, output),
                None => break,
            }
        }
        self.clouds[cloud].check_budgets();
        self.clouds[cloud].check_engine();
        self.schedule_cloud(cloud);
    }

    fn carry_out_cloud(&mut self, cloud: usize, output: cloud::Output) {
        match output {
            cloud::Output::Transmit(peer, frame) => self.answer_peer(peer, frame),
            cloud::Output::Disconnect(peer) => self.cloud_leaves(peer),
            cloud::Output::Compute(batch) => self.start_batch(cloud, batch),
            cloud::Output::Interrupt => self.interrupt_cloud(cloud),
        }
    }

    fn start_batch(&mut self, cloud: usize, batch: Batch) {
        self.note(Entry::BatchStarted(cloud, batch.clone()));
        let host = &mut self.clouds[cloud];
        let rows_max = host.plan.config.batch_rows_max;
        let life = host.life.as_mut().expect("the dead have no outputs");
        assert!(!std::mem::replace(&mut life.is_busy, true), "two batches under way");
        let rows = batch_rows(&batch);
        assert!((1..=rows_max).contains(&rows), "a batch of {rows} rows");
        let compute = self.random.span_us(host.plan.batch_us.clone()) * (1 + rows);
        let generation = host.generation;
        let end = BatchEnd::AtItsEnd;
        self.schedule(self.now + compute, Happening::BatchDone { cloud, generation, batch, compute, end });
    }

    /// Half of the time the engine can end its batch early: at its end, or before anything of it.
    fn interrupt_cloud(&mut self, cloud: usize) {
        if self.random.chance(0.5) {
            return;
        }
        let life = self.clouds[cloud].generation;
        let is_its = |happening: &Happening| matches!(happening, Happening::BatchDone { cloud: of, generation, .. } if (*of, *generation) == (cloud, life));
        let (due, happening) = self.unschedule(is_its);
        let Happening::BatchDone { generation, batch, compute, .. } = happening else { unreachable!() };
        let end = if self.random.chance(0.5) { BatchEnd::BeforeItBegan } else { BatchEnd::InVain };
        let at = due.min(self.now + self.random.span_us(0..=50));
        let compute = compute.saturating_sub(due - at);
        self.schedule(at, Happening::BatchDone { cloud, generation, batch, compute, end });
    }

    fn schedule_cloud(&mut self, cloud: usize) {
        let generation = self.clouds[cloud].generation;
        let life = self.clouds[cloud].life.as_mut().expect("only the living are drained");
        let Some(at) = life.cloud.poll_timeout() else { return };
        if life.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            life.wakes_at = Some(at);
            self.schedule(at, Happening::WakeCloud { cloud, generation });
        }
    }

    fn cancel(&mut self, session: SessionId) {
        let Some(session) = self.judge.cancel(session) else { return };
        for edge in 0..self.edges.len() {
            self.edges[edge].edge.finish(self.now, session, FinishReason::Cancelled);
            self.drain_edge(edge);
        }
    }
}

fn batch_rows(batch: &Batch) -> u32 {
    let rows = |part: &cloud::BatchPart| match &part.input {
        cloud::BatchInput::States(blocks) => blocks.iter().map(collm_core::states::StateBlock::rows).sum(),
        cloud::BatchInput::Tokens(tokens) => tokens.len() as u32,
    };
    batch.parts.iter().map(rows).sum()
}

/// Engines fail by plan alone: any other refusal of theirs is a fault of whoever gave them the work.
fn expect_planned(error: &ExecError) -> String {
    assert!(matches!(error, ExecError::Engine(EngineError::Device(_))), "an engine was given nonsense: {error}");
    error.to_string()
}
