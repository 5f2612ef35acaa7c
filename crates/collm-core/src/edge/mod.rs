//! The edge: runs the first layers, leaves early where it is sure, uploads in the background, asks where it is not.
//!
//! [`Edge`] owns the sessions and the circuit breaker; a session's concerns live in the files beside this one. After every
//! input, drain [`Edge::poll_output`] before the next input. Absent on purpose: sockets, threads, tensors, text.

mod breaker;
mod session;
mod stats;
mod uplink;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

pub use breaker::BreakerConfig;
pub use stats::Stats;

use self::{
    breaker::Breaker,
    session::{Session, Surroundings},
};
use crate::{
    frame::{Identity, Open, Refusal, ToCloud, ToEdge},
    ids::{Position, SessionId, SlotId, TokenId},
    policy::{Mode, Threshold},
    sampling::{Choice, Sampling, SamplingError, Scoring},
    states::{Encoding, StateBlock},
    time::Time,
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
    /// Positions that a session may use, prompt and answer together.
    pub context: u32,
    /// Sessions computed at once (key-value slots of the engine).
    pub slots: u32,
    /// Requests that may wait for a slot.
    pub waiting_max: u32,
    /// Rows of one job; a long prompt is computed and uploaded in such pieces.
    pub job_rows_max: u32,
    /// Rows of one upload frame.
    pub upload_rows_max: u32,
    /// How states are uploaded in collaborative mode.
    pub encoding: Encoding,
    /// How long the edge stands still for one answer, or for a handshake, before it goes on alone.
    pub ask_deadline: Duration,
    /// When to try a failed cloud again.
    pub breaker: BreakerConfig,
}

/// What the edge runs after the upload layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondStage {
    /// The tail, then exit 2: an edge part.
    Tail,
    /// All remaining layers, then the model's own head: a whole model on the device.
    Whole,
}

/// One answer to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// Fresh and random.
    pub session: SessionId,
    /// At least one token, fewer than the context holds.
    pub prompt: Vec<TokenId>,
    /// How to make it.
    pub mode: Mode,
    /// When a guess is sure enough.
    pub threshold: Threshold,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens to make at most; at least 1.
    pub tokens_max: u32,
    /// Tokens after which the answer is complete.
    pub stop: Vec<TokenId>,
}

/// Why a request was not taken. Nothing of it remains.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// No tokens.
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {tokens} tokens and the context holds {context}, answer included; shorten the prompt or start with a larger --context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Positions of the context.
        context: u32,
    },
    /// A token the model does not know.
    #[error("token {token} is not in the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The token.
        token: TokenId,
        /// Size of the vocabulary.
        vocabulary: u32,
    },
    /// Nothing to make.
    #[error("asked for an answer of 0 tokens; ask for at least 1")]
    NoTokens,
    /// A setting is out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The mode needs a cloud.
    #[error("mode {} needs a cloud and none is configured; start the edge with --cloud URL or choose standalone", .0.name())]
    NoCloud(Mode),
    /// The mode does not fit what the edge holds.
    #[error("mode {} does not fit the file that this edge has loaded; whole needs a whole model, the others an edge part", .0.name())]
    WrongPart(Mode),
    /// The queue is full.
    #[error("{0} requests wait already; retry later")]
    Busy(u32),
    /// The session id is taken.
    #[error("session {0} exists already; session ids must be fresh")]
    Duplicate(SessionId),
}

/// One connection attempt of one session. Frames of older attempts are recognised and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Whose.
    pub session: SessionId,
    /// Which attempt, from 1.
    pub attempt: u32,
}

/// What the edge wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a stream to the cloud and send this frame first. Frames may be transmitted before the cloud has answered.
    Connect(StreamId, Open),
    /// Send a frame, after all earlier ones of the stream.
    Transmit(StreamId, ToCloud),
    /// End the stream after what was transmitted. No [`Edge::handle_link_down`] is owed for it.
    Disconnect(StreamId),
    /// Compute, after all earlier jobs of this session. Owed: one [`Edge::handle_compute`].
    Compute(SessionId, Job),
    /// Empty the slot, after all earlier jobs of the session that had it. Nothing is owed.
    Free(SlotId),
    /// Tell the requester.
    Event(SessionId, Event),
}

/// One small piece of computing.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Key-value memory to work in.
    pub slot: SlotId,
    /// Which layers.
    pub stage: Stage,
    /// Position of the first row.
    pub first: Position,
    /// Score the last row with the stage's exit.
    pub score: Option<Scoring>,
}

/// Which layers a job runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Layers `[0, e1)` over these tokens. The states are kept by the driver until [`Stage::Second`] has run over them.
    First {
        /// One a row.
        tokens: Vec<TokenId>,
        /// Encode the resulting states for upload.
        upload: Option<Encoding>,
    },
    /// The second stage over this many positions whose states after `e1` are kept.
    Second {
        /// Rows.
        rows: u32,
    },
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOutcome {
    /// States for upload, if the job asked for them: one row a row of the job.
    pub states: Option<StateBlock>,
    /// The exit's proposal, if the job asked for it.
    pub choice: Option<Choice>,
    /// Time the engine took.
    pub compute: Duration,
}

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Exit 1, after `[0, e1)`.
    Exit1,
    /// Exit 2, after the tail.
    Exit2,
    /// The cloud.
    Cloud,
    /// The whole model on the device.
    Whole,
}

impl Source {
    /// The word for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit1 => "exit1",
            Self::Exit2 => "exit2",
            Self::Cloud => "cloud",
            Self::Whole => "whole",
        }
    }
}

/// One committed token. Never changes afterwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// Position at which it is, or would be, an input.
    pub position: Position,
    /// The token.
    pub id: TokenId,
    /// Who decided.
    pub source: Source,
    /// Highest probability where it was decided.
    pub confidence: f32,
    /// Emitted below the threshold because the cloud was not there.
    pub degraded: bool,
    /// Time the edge stood still for it.
    pub waited: Duration,
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-generation token, or the requester's own stop rule.
    Stop,
    /// The requested number of tokens.
    Length,
    /// The context is full.
    Context,
    /// The requester left.
    Cancelled,
}

/// What the requester hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// One more token of the answer.
    Token(Token),
    /// The cloud is not there; the answer goes on at the edge. At most once per loss.
    Degraded(Loss),
    /// The last event of an answer.
    Finished(FinishReason, Box<Stats>),
    /// The last event of an answer that could not be completed.
    Failed(String),
}

/// Why the cloud is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// No answer in time.
    #[error("the cloud did not answer within {0:?}")]
    Deadline(Duration),
    /// The connection failed or ended.
    #[error("the connection to the cloud is lost: {0}")]
    Link(String),
    /// The cloud said no.
    #[error(transparent)]
    Refused(Refusal),
    /// It failed a moment ago and is not tried again yet.
    #[error("the cloud failed a moment ago and is not tried again yet")]
    BreakerOpen,
    /// It broke the protocol.
    #[error("the cloud broke the protocol: {0}")]
    Protocol(&'static str),
}

/// The edge of many sessions.
#[derive(Debug)]
pub struct Edge {
    config: EdgeConfig,
    sessions: BTreeMap<SessionId, Session>,
    /// With the moment they were submitted.
    waiting: VecDeque<(Time, Request)>,
    free_slots: Vec<SlotId>,
    breaker: Breaker,
    outputs: VecDeque<Output>,
}

impl Edge {
    /// An edge without sessions.
    pub fn new(config: EdgeConfig) -> Self {
        Self {
            sessions: BTreeMap::new(),
            waiting: VecDeque::new(),
            // Popped from the end: the lowest slot first.
            free_slots: (0..config.slots).rev().map(SlotId).collect(),
            breaker: Breaker::new(config.breaker),
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Takes a request, or queues it until a slot is free. Its events come as outputs.
    ///
    /// # Errors
    /// When it cannot be served; nothing of it remains then.
    pub fn submit(&mut self, now: Time, request: Request) -> Result<(), SubmitError> {
        self.check(&request)?;
        if self.free_slots.is_empty() && self.waiting.len() >= self.config.waiting_max as usize {
            return Err(SubmitError::Busy(self.config.waiting_max));
        }
        self.waiting.push_back((now, request));
        self.start_waiting(now);
        Ok(())
    }

    /// Ends an answer early: the requester left, or found its own stop rule. Unknown sessions are ignored.
    pub fn finish(&mut self, now: Time, session: SessionId, reason: FinishReason) {
        if let Some(index) = self.waiting.iter().position(|(_, request)| request.session == session) {
            let (submitted, _) = self.waiting.remove(index).expect("found a moment ago");
            let stats = Stats { total: now - submitted, ..Stats::default() };
            self.outputs.push_back(Output::Event(session, Event::Finished(reason, Box::new(stats))));
        }
        self.with(now, session, |session, around| session.finish(reason, around));
    }

    /// A frame came in.
    pub fn handle_frame(&mut self, now: Time, stream: StreamId, frame: ToEdge) {
        let opened = matches!(frame, ToEdge::Opened { .. });
        self.with(now, stream.session, |session, around| session.handle_frame(stream, frame, around));
        if opened {
            self.connect_all(now);
        }
    }

    /// A stream could not be opened, failed or was ended by the other side.
    pub fn handle_link_down(&mut self, now: Time, stream: StreamId, why: String) {
        self.with(now, stream.session, |session, around| session.handle_link_down(stream, why, around));
    }

    /// A job is done, or failed for the given reason.
    pub fn handle_compute(&mut self, now: Time, session: SessionId, outcome: Result<JobOutcome, String>) {
        self.with(now, session, |session, around| session.handle_compute(outcome, around));
    }

    /// The moment of [`Edge::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.with(now, id, session::Session::handle_timeout);
        }
        if self.breaker.retry_at().is_some_and(|at| now >= at) {
            self.connect_all(now);
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Edge::handle_timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Time> {
        let patience = self.config.ask_deadline;
        let deadlines = self.sessions.values().filter_map(|session| session.deadline(patience));
        let wanted = self.sessions.values().any(Session::wants_stream);
        deadlines.chain(self.breaker.retry_at().filter(|_| wanted)).min()
    }

    /// Sessions that are being answered or wait for a slot.
    pub fn session_count(&self) -> usize {
        self.sessions.len() + self.waiting.len()
    }

    fn check(&self, request: &Request) -> Result<(), SubmitError> {
        let Request { session, prompt, mode, sampling, tokens_max, .. } = request;
        let EdgeConfig { context, has_cloud, ref identity, .. } = self.config;
        sampling.validated()?;
        if prompt.is_empty() {
            return Err(SubmitError::EmptyPrompt);
        }
        if prompt.len() >= context as usize {
            return Err(SubmitError::PromptTooLong { tokens: prompt.len(), context });
        }
        if let Some(&token) = prompt.iter().find(|token| token.0 >= identity.vocabulary) {
            return Err(SubmitError::UnknownToken { token, vocabulary: identity.vocabulary });
        }
        if *tokens_max == 0 {
            return Err(SubmitError::NoTokens);
        }
        if (*mode == Mode::Whole) != (self.config.second == SecondStage::Whole) {
            return Err(SubmitError::WrongPart(*mode));
        }
        if mode.uses_cloud() && !has_cloud {
            return Err(SubmitError::NoCloud(*mode));
        }
        if self.sessions.contains_key(session) || self.waiting.iter().any(|(_, waiting)| waiting.session == *session) {
            return Err(SubmitError::Duplicate(*session));
        }
        Ok(())
    }

    /// Gives free slots to those who wait.
    fn start_waiting(&mut self, now: Time) {
        while !self.free_slots.is_empty() {
            let Some((submitted, request)) = self.waiting.pop_front() else {
                return;
            };
            let slot = self.free_slots.pop().expect("checked by the loop");
            let id = request.session;
            let mut around =
                Surroundings { now, config: &self.config, breaker: &mut self.breaker, out: &mut self.outputs };
            let session = Session::start(request, slot, submitted, &mut around);
            self.sessions.insert(id, session);
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
        let mut around = Surroundings { now, config: &self.config, breaker: &mut self.breaker, out: &mut self.outputs };
        handle(session, &mut around);
        if session.is_finished() {
            self.free_slots.push(session.slot());
            self.sessions.remove(&id);
            self.start_waiting(now);
        }
    }
}
