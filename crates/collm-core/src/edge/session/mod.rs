//! One answer at the edge, from prompt to last token.
//!
//! A position goes through `[0, e1)`, then exit 1, the second stage, exit 2, the cloud, as far as its policy sends it. Here are
//! the state, the inputs and the tokens; `stages` drives the engine, `asking` the cloud, `fallback` what happens without it.

mod asking;
mod fallback;
mod stages;

use std::{collections::VecDeque, time::Duration};

use super::{
    EdgeConfig, Event, FinishReason, JobOutcome, Loss, Output, Request, SecondStage, Source, Stats, StreamId, Token,
    breaker::Breaker, uplink::Uplink,
};
use crate::{
    frame::{Feed, Open, PROTOCOL, ToEdge},
    ids::{Epoch, Position, SessionId, SlotId, TokenId},
    policy::{Mode, Policy},
    sampling::{Choice, Scoring},
    states::Encoding,
    time::Time,
};

/// What a session may use while it handles an input.
pub(super) struct Surroundings<'a> {
    pub(super) now: Time,
    pub(super) config: &'a EdgeConfig,
    pub(super) breaker: &'a mut Breaker,
    pub(super) out: &'a mut VecDeque<Output>,
}

#[derive(Debug)]
pub(super) struct Session {
    request: Request,
    policy: Policy,
    slot: SlotId,
    /// The prompt, then what was committed.
    tokens: Vec<TokenId>,
    /// Positions that have run through `[0, e1)`.
    first_filled: u32,
    /// Positions that have run through the second stage.
    second_filled: u32,
    epoch: Epoch,
    phase: Phase,
    uplink: Uplink,
    /// The requester was told that the cloud is not there.
    alone: bool,
    submitted: Time,
    /// Time stood still since the last token, in vain or not.
    waited: Duration,
    stats: Stats,
    finished: bool,
}

/// What the session waits for.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// A job of this stage and many rows.
    Computing(Rows),
    /// One answer of the cloud.
    Asking(Pending),
    /// The cloud generates by itself (cloud mode); the last news came then.
    Following(Time),
}

#[derive(Debug, Clone, Copy)]
enum Rows {
    First(u32),
    Second(u32),
}

/// An open ask.
#[derive(Debug, Clone, Copy)]
struct Pending {
    position: Position,
    /// What the edge would say; `None` where it has not run the second stage.
    guess: Option<Choice>,
    since: Time,
    replays: u32,
}

impl Session {
    pub(super) fn start(request: Request, slot: SlotId, submitted: Time, around: &mut Surroundings<'_>) -> Self {
        let id = request.session;
        let mut session = Self {
            policy: Policy::of(request.mode, request.threshold, around.config.has_exit1),
            slot,
            tokens: request.prompt.clone(),
            first_filled: 0,
            second_filled: 0,
            epoch: Epoch(0),
            phase: Phase::Computing(Rows::First(0)),
            uplink: Uplink::new(id, request.mode.uses_cloud(), around.config.upload_rows_max),
            alone: false,
            submitted,
            waited: Duration::ZERO,
            stats: Stats { prompt_tokens: request.prompt.len() as u32, ..Stats::default() },
            finished: false,
            request,
        };
        session.connect(around);
        if session.uplink.wants_stream() {
            session.say_alone(Loss::BreakerOpen, around);
        }
        session.advance(around);
        session
    }

    pub(super) fn slot(&self) -> SlotId {
        self.slot
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn wants_stream(&self) -> bool {
        self.uplink.wants_stream()
    }

    /// The moment this session loses patience with the cloud.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Time> {
        let waiting = match self.phase {
            Phase::Computing(_) => None,
            Phase::Asking(pending) => Some(pending.since + patience),
            Phase::Following(since) => Some(since + patience),
        };
        waiting.into_iter().chain(self.uplink.deadline(patience)).min()
    }

    /// Opens a stream if one is wanted and the breaker agrees.
    pub(super) fn connect(&mut self, around: &mut Surroundings<'_>) {
        if self.uplink.wants_stream() && around.breaker.admits(around.now, self.id()) {
            self.stats.connections += 1;
            let open = Open {
                protocol: PROTOCOL,
                identity: around.config.identity.clone(),
                session: self.id(),
                epoch: self.epoch,
                feed: self.feed(around.config),
                sampling: self.request.sampling,
            };
            self.uplink.open(around.now, open, around.out);
            // A first stream that had to wait for the breaker finds states that were computed meanwhile.
            self.upload_rest(around);
        }
    }

    pub(super) fn handle_compute(&mut self, outcome: Result<JobOutcome, String>, around: &mut Surroundings<'_>) {
        let Phase::Computing(rows) = self.phase else {
            return;
        };
        match (outcome, rows) {
            (Ok(outcome), Rows::First(rows)) => self.first_done(rows, outcome, around),
            (Ok(outcome), Rows::Second(rows)) => self.second_done(rows, &outcome, around),
            (Err(why), _) => self.fail(why, around),
        }
    }

    pub(super) fn handle_frame(&mut self, stream: StreamId, frame: ToEdge, around: &mut Surroundings<'_>) {
        if !self.uplink.is(stream) {
            return;
        }
        match frame {
            ToEdge::Opened { held } => self.opened(held, around),
            ToEdge::Answer(answer) => self.answered(&answer, around),
            ToEdge::Missing { epoch, held } if epoch == self.epoch => self.missing(held, around),
            ToEdge::Missing { .. } => {}
            ToEdge::Refused(refusal) => {
                let retry = refusal.code.retryable();
                self.uplink.disconnect(around.out);
                self.lose(Loss::Refused(refusal), retry, around);
            }
        }
    }

    pub(super) fn handle_link_down(&mut self, stream: StreamId, why: String, around: &mut Surroundings<'_>) {
        if self.uplink.is(stream) {
            self.lose(Loss::Link(why), true, around);
        }
    }

    pub(super) fn handle_timeout(&mut self, around: &mut Surroundings<'_>) {
        let patience = around.config.ask_deadline;
        if self.deadline(patience).is_some_and(|deadline| around.now >= deadline) {
            self.uplink.disconnect(around.out);
            self.lose(Loss::Deadline(patience), true, around);
        }
    }

    pub(super) fn finish(&mut self, reason: FinishReason, around: &mut Surroundings<'_>) {
        self.stop_waiting(around.now);
        self.stats.total = around.now - self.submitted;
        let event = Event::Finished(reason, Box::new(self.stats.clone()));
        self.end(event, around);
    }

    fn fail(&mut self, why: String, around: &mut Surroundings<'_>) {
        self.end(Event::Failed(why), around);
    }

    fn end(&mut self, event: Event, around: &mut Surroundings<'_>) {
        self.finished = true;
        self.uplink.close(around.out);
        around.breaker.release(around.now, self.id());
        around.out.push_back(Output::Event(self.id(), event));
        around.out.push_back(Output::Free(self.slot));
    }

    /// Books the time stood still until now; the caller leaves the phase or begins it anew.
    fn stop_waiting(&mut self, now: Time) {
        let waited = match self.phase {
            Phase::Computing(_) => Duration::ZERO,
            Phase::Asking(pending) => now - pending.since,
            Phase::Following(since) => now - since,
        };
        self.stats.waited += waited;
        self.waited += waited;
    }

    /// Commits a token of the edge and goes on.
    fn emit(&mut self, choice: Choice, source: Source, unsure: bool, around: &mut Surroundings<'_>) {
        let degraded = unsure || matches!(self.request.mode, Mode::Cloud | Mode::Naive);
        if self.commit(choice, source, degraded, around) {
            self.advance(around);
        }
    }

    /// Makes a token final. Returns whether the answer goes on.
    fn commit(&mut self, choice: Choice, source: Source, degraded: bool, around: &mut Surroundings<'_>) -> bool {
        let token = Token {
            position: Position(self.length()),
            id: choice.token,
            source,
            confidence: choice.confidence,
            degraded,
            waited: std::mem::take(&mut self.waited),
        };
        self.tokens.push(choice.token);
        self.phase = Phase::Computing(Rows::First(0));
        self.stats.count_token(&token, self.submitted, around.now);
        around.out.push_back(Output::Event(self.id(), Event::Token(token)));
        let reason = self.finish_reason(choice.token, around.config);
        if let Some(reason) = reason {
            self.finish(reason, around);
        }
        reason.is_none()
    }

    fn finish_reason(&self, token: TokenId, config: &EdgeConfig) -> Option<FinishReason> {
        if self.request.stop.contains(&token) {
            Some(FinishReason::Stop)
        } else if self.stats.answer_tokens() >= self.request.tokens_max {
            Some(FinishReason::Length)
        } else if self.length() >= config.context {
            Some(FinishReason::Context)
        } else {
            None
        }
    }

    fn id(&self) -> SessionId {
        self.request.session
    }

    fn length(&self) -> u32 {
        self.tokens.len() as u32
    }

    fn last_position(&self) -> Position {
        Position(self.length() - 1)
    }

    fn tokens_left(&self, config: &EdgeConfig) -> u32 {
        let wanted = self.request.tokens_max - self.stats.answer_tokens();
        wanted.min(config.context - self.length())
    }

    fn scoring(&self) -> Scoring {
        Scoring { position: self.last_position(), sampling: self.request.sampling, recent: self.recent() }
    }

    fn recent(&self) -> Vec<TokenId> {
        let count = self.request.sampling.recent_needed() as usize;
        self.tokens[self.tokens.len().saturating_sub(count)..].to_vec()
    }

    fn feed(&self, config: &EdgeConfig) -> Feed {
        match self.upload_encoding(config) {
            Some(encoding) => Feed::States(encoding),
            None => Feed::Tokens,
        }
    }

    fn upload_encoding(&self, config: &EdgeConfig) -> Option<Encoding> {
        match self.request.mode {
            Mode::Collaborative => Some(config.encoding),
            Mode::Naive => Some(Encoding::F32),
            Mode::Whole | Mode::Cloud | Mode::Standalone => None,
        }
    }
}

fn second_source(config: &EdgeConfig) -> Source {
    match config.second {
        SecondStage::Tail => Source::Exit2,
        SecondStage::Whole => Source::Whole,
    }
}
