//! One answer at the edge, from prompt to last token.
//!
//! A position goes through `[0, e1)`, then exit 1, the second stage, exit 2, the cloud, as far as its policy sends it. A token
//! that leaves early leaves the second stage behind: the positions it owes are run with the next one that goes deeper.

use std::{collections::VecDeque, time::Duration};

use super::{
    EdgeConfig, Event, FinishReason, Job, JobOutcome, Loss, Output, Request, SecondStage, Source, Stage, Stats,
    StreamId, Token, breaker::Breaker, uplink::Uplink,
};
use crate::{
    frame::{Answer, Ask, Feed, Open, PROTOCOL, ToCloud, ToEdge},
    ids::{Epoch, Position, SessionId, SlotId, TokenId},
    policy::{Decision, Mode, Policy},
    sampling::{Choice, Scoring},
    states::{Encoding, StateBlock},
    time::Time,
};

/// A cloud that says "missing" more often than this for one ask cannot hold the session at all.
const REPLAYS_PER_ASK_MAX: u32 = 3;

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

    // --- computing ---

    /// Does the next thing that the next token needs.
    fn advance(&mut self, around: &mut Surroundings<'_>) {
        if self.request.mode == Mode::Cloud && self.uplink.can_send() {
            self.follow(around);
        } else if self.first_filled < self.length() {
            self.run_first(around);
        } else {
            self.deepen(around);
        }
    }

    fn run_first(&mut self, around: &mut Surroundings<'_>) {
        let first = self.first_filled;
        let rows = (self.length() - first).min(around.config.job_rows_max);
        let is_last = first + rows == self.length();
        let tokens = self.tokens[first as usize..(first + rows) as usize].to_vec();
        let stage = Stage::First { tokens, upload: self.upload_encoding(around.config) };
        let score = (is_last && self.policy.exit1.is_some()).then(|| self.scoring());
        self.phase = Phase::Computing(Rows::First(rows));
        self.compute(Job { slot: self.slot, stage, first: Position(first), score }, around);
    }

    fn first_done(&mut self, rows: u32, outcome: JobOutcome, around: &mut Surroundings<'_>) {
        self.stats.edge_compute += outcome.compute;
        self.first_filled += rows;
        if self.upload_encoding(around.config).is_some() {
            let Some(block) = outcome.states.filter(|block| block.rows() == rows) else {
                return self.fail("the engine returned no states to upload".into(), around);
            };
            self.upload(block, around);
        }
        match outcome.choice {
            _ if self.first_filled < self.length() => self.run_first(around),
            Some(choice) if self.policy.at_exit1(choice) == Decision::Emit => {
                self.emit(choice, Source::Exit1, false, around);
            }
            _ => self.deepen(around),
        }
    }

    /// Goes on after `[0, e1)`: to the second stage, or, in naive mode, straight to the cloud.
    fn deepen(&mut self, around: &mut Surroundings<'_>) {
        if self.request.mode == Mode::Naive && self.uplink.is_open() {
            self.ask(None, around);
        } else {
            self.run_second(around);
        }
    }

    fn run_second(&mut self, around: &mut Surroundings<'_>) {
        let first = self.second_filled;
        let rows = (self.first_filled - first).min(around.config.job_rows_max);
        let score = (first + rows == self.length()).then(|| self.scoring());
        self.phase = Phase::Computing(Rows::Second(rows));
        self.compute(Job { slot: self.slot, stage: Stage::Second { rows }, first: Position(first), score }, around);
    }

    fn second_done(&mut self, rows: u32, outcome: &JobOutcome, around: &mut Surroundings<'_>) {
        self.stats.edge_compute += outcome.compute;
        self.second_filled += rows;
        if self.second_filled < self.length() {
            return self.run_second(around);
        }
        let Some(choice) = outcome.choice else {
            return self.fail("the engine returned no choice for a scored row".into(), around);
        };
        match self.policy.at_exit2(choice) {
            Decision::Ask => self.ask(Some(choice), around),
            Decision::Emit | Decision::Deeper => self.emit(choice, second_source(around.config), false, around),
        }
    }

    fn compute(&self, job: Job, around: &mut Surroundings<'_>) {
        around.out.push_back(Output::Compute(self.id(), job));
    }

    // --- the cloud ---

    /// Keeps new states and, where the stream is ready, sends them while the second stage computes.
    fn upload(&mut self, block: StateBlock, around: &mut Surroundings<'_>) {
        self.uplink.keep(block);
        if self.request.mode == Mode::Collaborative && self.uplink.can_send() {
            self.uplink.send_states(self.epoch, &mut self.stats, around.out);
        }
    }

    fn ask(&mut self, guess: Option<Choice>, around: &mut Surroundings<'_>) {
        if !self.uplink.is_open() {
            return self.go_alone(guess, around);
        }
        let pending = Pending { position: self.last_position(), guess, since: around.now, replays: 0 };
        self.phase = Phase::Asking(pending);
        self.stats.round_trips_waited += 1;
        if self.uplink.can_send() {
            self.send_ask(pending, around);
        }
    }

    fn send_ask(&mut self, pending: Pending, around: &mut Surroundings<'_>) {
        if self.request.mode == Mode::Naive {
            self.forget_there(around);
            self.uplink.send_states(self.epoch, &mut self.stats, around.out);
        }
        self.stats.asks += 1;
        let ask = Ask {
            epoch: self.epoch,
            position: pending.position,
            guess: pending.guess.map(|guess| guess.token),
            recent: self.recent(),
        };
        self.uplink.transmit(ToCloud::Ask(ask), around.out);
    }

    /// The naive split has no context manager: the cloud starts from nothing for every token.
    fn forget_there(&mut self, around: &mut Surroundings<'_>) {
        self.epoch.0 += 1;
        self.uplink.transmit(ToCloud::Truncate { epoch: self.epoch, length: 0 }, around.out);
        self.uplink.rewind(0);
    }

    fn follow(&mut self, around: &mut Surroundings<'_>) {
        self.phase = Phase::Following(around.now);
        self.uplink.send_tokens(self.epoch, &self.tokens, &mut self.stats, around.out);
        self.stats.asks += 1;
        self.stats.round_trips_waited += 1;
        let generate = ToCloud::Generate {
            epoch: self.epoch,
            position: self.last_position(),
            tokens_max: self.tokens_left(around.config),
            stop: self.request.stop.clone(),
        };
        self.uplink.transmit(generate, around.out);
    }

    fn opened(&mut self, held: u32, around: &mut Surroundings<'_>) {
        around.breaker.succeed();
        self.alone = false;
        if !self.uplink.opened(held) {
            return;
        }
        if self.request.mode == Mode::Collaborative {
            self.uplink.send_states(self.epoch, &mut self.stats, around.out);
        }
        if let Phase::Asking(pending) = self.phase {
            self.send_ask(pending, around);
        }
    }

    fn answered(&mut self, answer: &Answer, around: &mut Surroundings<'_>) {
        if answer.epoch < self.epoch {
            return;
        }
        if answer.position != self.last_position() || matches!(self.phase, Phase::Computing(_)) {
            return self.break_off("an answer to a question that was not asked", around);
        }
        if answer.token.0 >= around.config.identity.vocabulary {
            return self.break_off("a token outside the vocabulary", around);
        }
        self.stats.count_answer(answer);
        let waited = self.stop_waiting(around.now);
        let choice = Choice { token: answer.token, confidence: answer.confidence };
        let following = matches!(self.phase, Phase::Following(_));
        if !self.commit(choice, Source::Cloud, false, waited, around) {
            return;
        }
        if following {
            self.uplink.grown_there();
            self.phase = Phase::Following(around.now);
        } else {
            self.advance(around);
        }
    }

    fn missing(&mut self, held: u32, around: &mut Surroundings<'_>) {
        if !self.uplink.rewind(held) {
            return self.break_off("it misses positions that it was never sent", around);
        }
        match self.phase {
            Phase::Computing(_) => {}
            Phase::Following(_) => {
                self.stop_waiting(around.now);
                self.follow(around);
            }
            Phase::Asking(pending) if pending.replays >= REPLAYS_PER_ASK_MAX => {
                self.break_off("it forgets the session as fast as it is replayed", around);
            }
            Phase::Asking(pending) => {
                let pending = Pending { replays: pending.replays + 1, ..pending };
                self.phase = Phase::Asking(pending);
                if self.request.mode == Mode::Collaborative {
                    self.uplink.send_states(self.epoch, &mut self.stats, around.out);
                }
                self.send_ask(pending, around);
            }
        }
    }

    fn break_off(&mut self, what: &'static str, around: &mut Surroundings<'_>) {
        self.uplink.disconnect(around.out);
        self.lose(Loss::Protocol(what), true, around);
    }

    /// The stream is gone: what waited for it goes on at the edge.
    fn lose(&mut self, loss: Loss, retry: bool, around: &mut Surroundings<'_>) {
        self.uplink.lose(retry);
        if retry {
            around.breaker.fail(around.now, self.id());
        } else {
            around.breaker.release(around.now, self.id());
        }
        self.say_alone(loss, around);
        self.stop_waiting(around.now);
        match self.phase {
            Phase::Computing(_) => {}
            Phase::Asking(pending) => self.go_alone(pending.guess, around),
            Phase::Following(_) => {
                // The cloud may have gone on beyond what arrived here; under a new epoch it will not count.
                self.epoch.0 += 1;
                self.advance(around);
            }
        }
    }

    fn go_alone(&mut self, guess: Option<Choice>, around: &mut Surroundings<'_>) {
        match guess {
            Some(guess) => self.emit(guess, second_source(around.config), true, around),
            None => self.run_second(around),
        }
    }

    fn say_alone(&mut self, loss: Loss, around: &mut Surroundings<'_>) {
        if !self.alone {
            self.alone = true;
            around.out.push_back(Output::Event(self.id(), Event::Degraded(loss)));
        }
    }

    /// Books the time stood still until now; the caller leaves the phase or begins it anew. Returns it.
    fn stop_waiting(&mut self, now: Time) -> Duration {
        let waited = match self.phase {
            Phase::Computing(_) => Duration::ZERO,
            Phase::Asking(pending) => now - pending.since,
            Phase::Following(since) => now - since,
        };
        self.stats.waited += waited;
        waited
    }

    // --- tokens ---

    /// Commits a token of the edge and goes on.
    fn emit(&mut self, choice: Choice, source: Source, unsure: bool, around: &mut Surroundings<'_>) {
        let degraded = unsure || matches!(self.request.mode, Mode::Cloud | Mode::Naive);
        if self.commit(choice, source, degraded, Duration::ZERO, around) {
            self.advance(around);
        }
    }

    /// Makes a token final. Returns whether the answer goes on.
    fn commit(
        &mut self,
        choice: Choice,
        source: Source,
        degraded: bool,
        waited: Duration,
        around: &mut Surroundings<'_>,
    ) -> bool {
        let token = Token {
            position: Position(self.length()),
            id: choice.token,
            source,
            confidence: choice.confidence,
            degraded,
            waited,
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
