//! The edge: runs the first layers, leaves early where it is sure, uploads in the background, asks where it is not.
//!
//! [`Edge`] owns the sessions and the circuit breaker; a session's concerns live in the files beside this one. After every
//! input, drain [`Edge::poll_output`] before the next input. Absent on purpose: sockets, threads, tensors, text.

mod auto;
mod batch;
mod breaker;
mod comparison;
mod controller;
mod event;
mod occupancy;
mod outlook;
mod output;
mod parked;
mod request;
mod session;
mod stats;
mod uplink;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

pub use auto::AutoChoice;
pub use breaker::BreakerConfig;
pub use comparison::{Comparison, Verdict};
pub use event::{Event, FinishReason, Loss, PromptToken, Source, Token};
pub use occupancy::Occupancy;
pub use outlook::{CloudOnly, LinkEstimate};
pub use output::{Batch, BatchOutcome, Job, JobError, JobOutcome, Output, Stage, StreamId};
pub use request::{Ablation, Request, SubmitError};
pub use stats::{BudgetReport, Stats};

use self::{
    auto::{Switch, Wish},
    batch::Jobs,
    breaker::Breaker,
    outlook::Outlook,
    parked::{Ground, Parked},
    session::{Session, Surroundings},
};
use crate::{
    blocks::Blocks,
    frame::{Identity, ToEdge},
    ids::{SessionId, SlotId},
    policy::Mode,
    time::Time,
    upload::{KnownFeeds, UploadSettings},
};

/// Everything an edge is told at start.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// The half it holds.
    pub identity: Identity,
    /// Which layers follow `[0, e1)` here.
    pub second: SecondStage,
    /// Whether the part has exit 1.
    pub has_exit1: bool,
    /// Whether a cloud is configured at all.
    pub has_cloud: bool,
    /// Layers of the whole model. Only estimates of what the cloud would take for them depend on it.
    pub layers: u32,
    /// Positions that a session may use, prompt and answer together.
    pub context: u32,
    /// Sessions computed at once (key-value slots of the engine).
    pub slots: u32,
    /// Requests that may wait for a slot.
    pub waiting_max: u32,
    /// Rows of one job; a long prompt is computed and uploaded in such pieces. A multiple of the engine's block, so that blocks of
    /// a prompt stay whole.
    pub job_rows_max: u32,
    /// Rows of one job before the first block, where states go up as they come: the smaller it is, the sooner the cloud begins.
    pub first_job_rows: u32,
    /// How the engine wants prompts cut. What is kept for a follow-up ends where a prompt may be cut (invariant 16).
    pub blocks: Blocks,
    /// How long a session is kept for a follow-up after its answer; zero: not at all.
    pub keep: Duration,
    /// Rows of one upload frame.
    pub upload_rows_max: u32,
    /// What is uploaded, and from when on.
    pub upload: UploadSettings,
    /// How long the edge stands still for one answer, or for a handshake, before it goes on alone.
    pub ask_deadline: Duration,
    /// When to try a failed cloud again.
    pub breaker: BreakerConfig,
}

impl EdgeConfig {
    /// Rows of one batch: a piece of a long prompt, and beside it the one row that every other session needs for its next token.
    pub fn batch_rows_max(&self) -> u32 {
        self.job_rows_max.saturating_add(self.slots)
    }
}

/// What the edge runs after the upload layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondStage {
    /// The tail, then exit 2: an edge part.
    Tail,
    /// All remaining layers, then the model's own head: a whole model on the device.
    Whole,
}

/// The edge of many sessions.
#[derive(Debug)]
pub struct Edge {
    sessions: BTreeMap<SessionId, Session>,
    /// Answered, and kept for a follow-up. Each has a slot, so there are none while a request waits for one.
    parked: BTreeMap<SessionId, Parked>,
    waiting: VecDeque<Arrival>,
    free_slots: Vec<SlotId>,
    common: Common,
}

/// A request that was taken.
#[derive(Debug)]
struct Arrival {
    /// The session that it brought.
    ticket: SessionId,
    /// When.
    at: Time,
    /// With the mode that auto chose.
    request: Request,
    choice: Option<AutoChoice>,
}

/// What the sessions of an edge share: its configuration, what it knows of its cloud, its engine, and one queue of outputs.
#[derive(Debug)]
struct Common {
    config: EdgeConfig,
    breaker: Breaker,
    /// What its cloud takes.
    known: KnownFeeds,
    outlook: Outlook,
    switch: Switch,
    jobs: Jobs,
    outputs: VecDeque<Output>,
}

impl Common {
    /// What a session may use at a moment.
    fn around(&mut self, now: Time) -> Surroundings<'_> {
        Surroundings {
            now,
            config: &self.config,
            breaker: &mut self.breaker,
            known: &mut self.known,
            outlook: &mut self.outlook,
            switch: &mut self.switch,
            jobs: &mut self.jobs,
            out: &mut self.outputs,
        }
    }
}

impl Edge {
    /// An edge without sessions.
    pub fn new(config: EdgeConfig) -> Self {
        Self {
            sessions: BTreeMap::new(),
            parked: BTreeMap::new(),
            waiting: VecDeque::new(),
            // Popped from the end: the lowest slot first.
            free_slots: (0..config.slots).rev().map(SlotId).collect(),
            common: Common {
                breaker: Breaker::new(config.breaker),
                known: KnownFeeds::default(),
                outlook: Outlook::default(),
                switch: Switch::default(),
                jobs: Jobs::default(),
                outputs: VecDeque::new(),
                config,
            },
        }
    }

    /// Takes a request, or queues it until a slot is free. Its events come as outputs. Returns the session that answers: the
    /// request's own, or one that was kept and whose prompt it continues.
    ///
    /// # Errors
    /// When it cannot be served; nothing of it remains then.
    pub fn submit(&mut self, now: Time, request: Request) -> Result<SessionId, SubmitError> {
        self.check(&request)?;
        let arrival = self.arrive(now, request);
        if let Some((length, id)) = self.resumable(&arrival.request) {
            self.resume(arrival, id, length);
            return Ok(id);
        }
        if self.free_slots.is_empty() {
            self.evict_parked();
        }
        if self.free_slots.is_empty() && self.waiting.len() >= self.common.config.waiting_max as usize {
            self.common.switch.release(now, arrival.ticket);
            return Err(SubmitError::Busy(self.common.config.waiting_max));
        }
        let id = arrival.ticket;
        self.waiting.push_back(arrival);
        self.start_waiting(now);
        Ok(id)
    }

    /// Decides where a request is answered that leaves it open.
    fn arrive(&mut self, now: Time, mut request: Request) -> Arrival {
        let ticket = request.session;
        let choice = (request.mode == Mode::Auto).then(|| self.choose(now, &request));
        if let Some(choice) = choice {
            request.mode = if choice.uses_cloud() { Mode::Collaborative } else { Mode::Standalone };
        }
        Arrival { ticket, at: now, request, choice }
    }

    fn choose(&mut self, now: Time, request: &Request) -> AutoChoice {
        let Common { config, breaker, outlook, switch, .. } = &mut self.common;
        if !config.has_cloud {
            AutoChoice::NoCloud
        } else if breaker.holds_back(now) {
            AutoChoice::CloudDown
        } else {
            switch.choose(now, Wish::of(request), outlook)
        }
    }

    /// Ends an answer early: the requester left, or found its own stop rule. Unknown sessions are ignored.
    pub fn finish(&mut self, now: Time, session: SessionId, reason: FinishReason) {
        if let Some(index) = self.waiting.iter().position(|waiting| waiting.ticket == session) {
            let Arrival { at, choice, .. } = self.waiting.remove(index).expect("found a moment ago");
            self.common.switch.release(now, session);
            let stats = Stats { total: now - at, choice, ..Stats::default() };
            self.common.outputs.push_back(Output::Event(session, Event::Finished(reason, Box::new(stats))));
        }
        self.with(now, session, |session, around| session.finish(reason, around));
    }

    /// A frame came in.
    pub fn handle_frame(&mut self, now: Time, stream: StreamId, frame: ToEdge) {
        let opened = matches!(frame, ToEdge::Opened { .. });
        if let ToEdge::Opened { takes, .. } = &frame {
            self.common.known.opened(takes);
        }
        self.parked_frame(now, stream, &frame);
        self.with(now, stream.session, |session, around| session.handle_frame(stream, frame, around));
        if opened {
            self.connect_all(now);
        }
    }

    /// A frame of so many bytes was given to the link. No output follows from it, so it may be told while outputs are drained.
    pub fn handle_sent(&mut self, now: Time, stream: StreamId, bytes: u64) {
        if let Some(session) = self.sessions.get_mut(&stream.session) {
            session.handle_sent(now, stream, bytes);
        }
    }

    /// A stream could not be opened, failed or was ended by the other side.
    pub fn handle_link_down(&mut self, now: Time, stream: StreamId, why: String) {
        self.parked_link_down(now, stream);
        self.with(now, stream.session, |session, around| session.handle_link_down(stream, why, around));
    }

    /// The batch is done.
    pub fn handle_compute(&mut self, now: Time, outcome: BatchOutcome) {
        if let Some(after) = self.common.jobs.interrupted_for(now) {
            self.common.outlook.interrupted(after);
        }
        for done in self.common.jobs.done(outcome) {
            if matches!(done.outcome, Err(JobError::Failed(_))) {
                self.forget(done.session);
            }
            self.with(now, done.session, |session, around| session.handle_compute(done, around));
        }
    }

    /// The moment of [`Edge::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.with(now, id, session::Session::handle_timeout);
        }
        self.forget_parked(now);
        self.connect_all(now);
    }

    /// The next thing to do, in order. Batches come last: all sessions that an input made ready are in the next, and all that still want
    /// the one under way have said so.
    pub fn poll_output(&mut self) -> Option<Output> {
        let Common { config, jobs, outputs, .. } = &mut self.common;
        let of_batches = |jobs: &mut Jobs| match jobs.interrupt() {
            true => Some(Output::Interrupt),
            false => jobs.start(config.batch_rows_max()).map(Output::Compute),
        };
        outputs.pop_front().or_else(|| of_batches(jobs))
    }

    /// When to call [`Edge::handle_timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Time> {
        let patience = self.common.config.ask_deadline;
        let deadlines = self.sessions.values().filter_map(|session| session.deadline(patience));
        let wanted = self.sessions.values().filter_map(Session::wants_stream_from).min();
        let attempt = wanted.and_then(|from| Some(from.max(self.common.breaker.next_attempt()?)));
        deadlines.chain(attempt).chain(self.parked_until()).min()
    }

    /// Sessions that are being answered or wait for a slot.
    pub fn session_count(&self) -> usize {
        self.sessions.len() + self.waiting.len()
    }

    fn check(&self, request: &Request) -> Result<(), SubmitError> {
        let Request { session, prompt, mode, sampling, tokens_max, score_prompt, budget, without, .. } = request;
        let EdgeConfig { context, has_cloud, ref identity, .. } = self.common.config;
        sampling.clone().validated()?;
        if prompt.is_empty() {
            return Err(SubmitError::EmptyPrompt);
        }
        if prompt.len() >= context as usize {
            return Err(SubmitError::PromptTooLong { tokens: prompt.len(), context });
        }
        if let Some(&token) = prompt.iter().find(|token| token.0 >= identity.vocabulary) {
            return Err(SubmitError::UnknownToken { token, vocabulary: identity.vocabulary });
        }
        if let Some(&(token, _)) = sampling.bias.iter().find(|(token, _)| token.0 >= identity.vocabulary) {
            return Err(SubmitError::UnknownBias { token, vocabulary: identity.vocabulary });
        }
        if *tokens_max == 0 && !score_prompt {
            return Err(SubmitError::NoTokens);
        }
        if (*mode == Mode::Whole) != (self.common.config.second == SecondStage::Whole) {
            return Err(SubmitError::WrongPart(*mode));
        }
        if mode.uses_cloud() && !has_cloud {
            return Err(SubmitError::NoCloud(*mode));
        }
        if budget.is_some() && !mode.takes_budget() {
            return Err(SubmitError::NoBudget(*mode));
        }
        // Where auto answers is decided later; it may be with the cloud.
        let may_use_cloud = mode.uses_cloud() || *mode == Mode::Auto;
        if self.common.config.upload.private && may_use_cloud && (*mode == Mode::Cloud || request.tells_tokens()) {
            return Err(SubmitError::Private(*mode));
        }
        if *without != Ablation::Nothing && *mode != Mode::Collaborative {
            return Err(SubmitError::Ablation(*without));
        }
        let is_known = self.sessions.contains_key(session) || self.parked.contains_key(session);
        if is_known || self.waiting.iter().any(|waiting| waiting.ticket == *session) {
            return Err(SubmitError::Duplicate(*session));
        }
        Ok(())
    }

    /// Gives free slots to those who wait.
    fn start_waiting(&mut self, now: Time) {
        while !self.free_slots.is_empty() {
            let Some(arrival) = self.waiting.pop_front() else {
                return;
            };
            let slot = self.free_slots.pop().expect("checked by the loop");
            let id = arrival.ticket;
            let mut around = self.common.around(now);
            let ground = Ground::fresh(&arrival.request, slot, &around);
            let session = Session::start(arrival, ground, &mut around);
            // A prompt of one token has nothing to tell, and may be all that is asked about.
            if session.is_finished() {
                self.clear_up(now, session);
            } else {
                self.sessions.insert(id, session);
            }
        }
    }

    /// Opens the streams that are wanted, as far as the breaker allows.
    fn connect_all(&mut self, now: Time) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.with(now, id, Session::connect);
        }
    }

    /// Lets a session handle an input, and clears up after it if that was its last.
    fn with(&mut self, now: Time, id: SessionId, handle: impl FnOnce(&mut Session, &mut Surroundings<'_>)) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        handle(session, &mut self.common.around(now));
        if session.is_finished() {
            let session = self.sessions.remove(&id).expect("looked up above");
            self.clear_up(now, session);
            self.start_waiting(now);
        }
    }
}
