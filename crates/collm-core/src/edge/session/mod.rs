//! One answer at the edge, from prompt to last token.
//!
//! A position goes through `[0, e1)`, then exit 1, the second stage, exit 2, the cloud, as far as its policy sends it. Here are
//! the state and the inputs; `stages` drives the engine, `tokens` drafts and commits, `asking` drives the cloud, `rollback` and
//! `fallback` are what happens when it disagrees and when it is gone; `steering` sets the policy where a budget or mode auto does.
//!
//! An ask does not stop the session. The guess it carries becomes a *draft*, the input of the next position, and everything that
//! follows is a draft too until the answer settles it. Whether to stand still or to run ahead is only a question of time: it never
//! changes what is committed.

mod asking;
mod fallback;
mod prompt;
mod rollback;
mod stages;
mod steering;
mod tokens;

use std::{collections::VecDeque, time::Duration};

use self::prompt::Untold;
use super::{
    Ablation, Arrival, EdgeConfig, Event, FinishReason, JobError, Loss, Output, Request, SecondStage, Source, Stats,
    StreamId,
    auto::Switch,
    batch::{JobDone, Jobs, Took},
    breaker::Breaker,
    outlook::{Departures, Outlook},
    parked::{Ground, Parked},
    uplink::Uplink,
};
use crate::{
    frame::{Feed, Open, PROTOCOL, RefusalCode, ToEdge},
    ids::{Epoch, Position, SessionId, SlotId, TokenId},
    policy::{Mode, Policy},
    sampling::{Choice, Scored, Scoring},
    states::Encoding,
    time::Time,
    upload::{ChosenFeed, FeedReason, KnownFeeds, choose},
};

/// A cloud that says "missing" more often than this for one question cannot hold the session at all.
const REPLAYS_MAX: u32 = 3;

/// What a session may use while it handles an input.
pub(super) struct Surroundings<'a> {
    pub(super) now: Time,
    pub(super) config: &'a EdgeConfig,
    pub(super) breaker: &'a mut Breaker,
    pub(super) known: &'a mut KnownFeeds,
    pub(super) outlook: &'a mut Outlook,
    pub(super) switch: &'a mut Switch,
    pub(super) jobs: &'a mut Jobs,
    pub(super) out: &'a mut VecDeque<Output>,
}

impl Surroundings<'_> {
    /// What a session should upload, by what is known now.
    pub(super) fn choose_feed(&self, request: &Request) -> Option<ChosenFeed> {
        if request.without == Ablation::HalfPrecision {
            return Some(ChosenFeed { feed: Feed::States(Encoding::F32), reason: FeedReason::Set });
        }
        let costs = self.outlook.upload_costs(self.now);
        choose(request.mode, &self.config.upload, self.known, self.config.identity.width, costs)
    }
}

#[derive(Debug)]
pub(super) struct Session {
    request: Request,
    /// The session that the request asked for; another one where a parked session goes on. Mode auto knows the answer by it.
    ticket: SessionId,
    /// In force for the position that is computed now.
    policy: Policy,
    slot: SlotId,
    /// The prompt, then what was committed, then the drafts.
    tokens: Vec<TokenId>,
    /// What the last tokens are that depend on open asks, oldest first.
    drafts: VecDeque<Draft>,
    /// By rising position.
    asks: VecDeque<OpenAsk>,
    /// Positions that have run through `[0, e1)`.
    first_filled: u32,
    /// Positions that have run through the second stage.
    second_filled: u32,
    epoch: Epoch,
    phase: Phase,
    /// What is owed of the prompt.
    untold: Untold,
    uplink: Uplink,
    /// The requester was told that the cloud is not there.
    alone: bool,
    submitted: Time,
    /// Time stood still since the last token, in vain or not.
    waited: Duration,
    /// What is on its way to the cloud.
    departures: Departures,
    /// Positions that the cloud was asked to compute.
    asked_to: u32,
    /// From the request until the edge had computed the prompt; `None` where it did not.
    prompt_took: Option<Duration>,
    stats: Stats,
    /// Why the answer is complete; `Err` if it failed.
    ended: Option<Result<FinishReason, ()>>,
}

/// What the session waits for.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// A job of this stage and many rows.
    Computing(Rows),
    /// An answer of the cloud, standing still since then.
    Standing(Time),
    /// The cloud generates by itself (cloud mode); the last news came then.
    Following(Time),
    /// The cloud says how likely the prompt was; the last news came then.
    Scoring(Time),
}

#[derive(Debug, Clone, Copy)]
enum Rows {
    First(u32),
    Second(u32),
}

/// When to try a lost cloud again.
#[derive(Debug, Clone, Copy)]
enum Again {
    /// It will never take this session.
    Never,
    /// When the breaker lets anyone: what happened concerns all sessions.
    WithOthers,
    /// It has no room for this session now; the others are none the wiser.
    After(Duration),
}

/// An ask that is not answered.
#[derive(Debug, Clone, Copy)]
struct OpenAsk {
    position: Position,
    /// What the edge would say, and the first draft that depends on this ask; `None` where it has not run the second stage.
    guess: Option<Choice>,
    /// What was in force.
    policy: Policy,
    since: Time,
    replays: u32,
    /// It went up on a stream that the cloud had confirmed.
    direct: bool,
    /// The first one of its answer: the cloud computes the prompt for it.
    first: bool,
}

/// A token that may yet change.
#[derive(Debug, Clone)]
struct Draft {
    scored: Scored,
    source: Source,
    degraded: bool,
    /// From the ask to its answer, where the cloud was asked.
    round_trip: Option<Duration>,
    /// What was in force for it.
    policy: Policy,
    /// How sure the edge was of its own guess; `None` where it made none.
    sure: Option<f32>,
}

impl Session {
    pub(super) fn start(arrival: Arrival, ground: Ground, around: &mut Surroundings<'_>) -> Self {
        let Arrival { ticket, at: submitted, request, choice } = arrival;
        let Ground { slot, first_filled, second_filled, epoch, uplink } = ground;
        let kept_there = request.mode == Mode::Cloud && uplink.can_send();
        let cached_tokens = if kept_there { uplink.sent() } else { first_filled };
        let policy = Policy::of(request.mode, request.thresholds, around.config.has_exit1);
        let stats = Stats {
            prompt_tokens: request.prompt.len() as u32,
            exit1_threshold: policy.exit1,
            exit2_threshold: Some(policy.exit2).filter(|threshold| threshold.is_reachable()),
            cached_tokens,
            choice,
            feed: uplink.chosen(),
            ..Stats::default()
        };
        let mut session = Self {
            ticket,
            policy,
            slot,
            tokens: request.prompt.clone(),
            drafts: VecDeque::new(),
            asks: VecDeque::new(),
            first_filled,
            second_filled,
            epoch,
            phase: Phase::Computing(Rows::First(0)),
            untold: Untold::of(request.prompt.len() as u32, request.score_prompt),
            uplink,
            alone: false,
            submitted,
            waited: Duration::ZERO,
            departures: Departures::default(),
            asked_to: 0,
            prompt_took: None,
            stats,
            ended: None,
            request,
        };
        session.connect_or_say(around);
        session.advance(around);
        session
    }

    pub(super) fn is_finished(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn wants_stream_from(&self) -> Option<Time> {
        self.uplink.wanted_from()
    }

    /// The moment this session loses patience with the cloud.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Time> {
        let following = match self.phase {
            Phase::Following(since) | Phase::Scoring(since) => Some(since + patience),
            Phase::Computing(_) | Phase::Standing(_) => None,
        };
        let asked = self.asks.front().map(|ask| ask.since + patience);
        following.into_iter().chain(asked).chain(self.uplink.deadline(patience)).min()
    }

    /// Opens a stream if one is wanted and the breaker agrees.
    pub(super) fn connect(&mut self, around: &mut Surroundings<'_>) {
        let is_due = self.uplink.wanted_from().is_some_and(|from| around.now >= from);
        if is_due && around.breaker.admits(around.now, self.id()) {
            self.stats.connections += 1;
            let open = Open {
                protocol: PROTOCOL,
                identity: around.config.identity.clone(),
                session: self.id(),
                attempt: self.uplink.next_attempt(),
                epoch: self.epoch,
                prompt: self.stats.prompt_tokens,
                feed: self.feed(),
                sampling: self.request.sampling.clone(),
                tells_tokens: self.request.tells_tokens(),
            };
            self.uplink.open(around.now, open, around.out);
            // A first stream that had to wait for the breaker finds states that were computed meanwhile.
            self.upload_rest(around);
        }
    }

    /// Opens a stream if one is wanted, and says so if that must wait.
    fn connect_or_say(&mut self, around: &mut Surroundings<'_>) {
        self.connect(around);
        if self.uplink.wanted_from().is_some() {
            self.say_alone(Loss::BreakerOpen, around);
        }
    }

    pub(super) fn handle_compute(&mut self, done: JobDone, around: &mut Surroundings<'_>) {
        match (done.outcome, self.phase) {
            (Err(JobError::Failed(why)), _) => self.fail(why, around),
            _ if !done.wanted => self.stats.edge_compute += done.took.share,
            (Err(JobError::Interrupted), _) => {
                self.fail("the engine was interrupted over work that is wanted".into(), around);
            }
            (Ok(outcome), Phase::Computing(Rows::First(rows))) => self.first_done(rows, outcome, done.took, around),
            (Ok(outcome), Phase::Computing(Rows::Second(rows))) => self.second_done(rows, outcome, done.took, around),
            (Ok(_), Phase::Standing(_) | Phase::Following(_) | Phase::Scoring(_)) => {}
        }
    }

    pub(super) fn handle_frame(&mut self, stream: StreamId, frame: ToEdge, around: &mut Surroundings<'_>) {
        if !self.uplink.is(stream) {
            return;
        }
        match frame {
            ToEdge::Opened { held, .. } => self.opened(held, around),
            ToEdge::Answer(answer) => self.answered(answer, around),
            ToEdge::Scores(scores) => self.scores_came(scores, around),
            ToEdge::Missing { epoch, held } if epoch == self.epoch => self.missing(held, around),
            ToEdge::Missing { .. } => {}
            ToEdge::Refused(refusal) if refusal.code == RefusalCode::Feed => self.feed_refused(refusal, around),
            ToEdge::Refused(refusal) => {
                self.uplink.disconnect(around.out);
                let again = Again::after(refusal.code, around.config.breaker.pause_max);
                self.lose(Loss::Refused(refusal), again, around);
            }
        }
    }

    /// A frame of so many bytes was given to the link.
    pub(super) fn handle_sent(&mut self, now: Time, stream: StreamId, bytes: u64) {
        if self.uplink.is(stream) {
            self.departures.add(now, bytes);
        }
    }

    pub(super) fn handle_link_down(&mut self, stream: StreamId, why: String, around: &mut Surroundings<'_>) {
        if self.uplink.is(stream) {
            self.lose(Loss::Link(why), Again::WithOthers, around);
        }
    }

    pub(super) fn handle_timeout(&mut self, around: &mut Surroundings<'_>) {
        let patience = around.config.ask_deadline;
        if self.deadline(patience).is_some_and(|deadline| around.now >= deadline) {
            self.uplink.disconnect(around.out);
            self.lose(Loss::Deadline(patience), Again::WithOthers, around);
        }
    }

    pub(super) fn finish(&mut self, reason: FinishReason, around: &mut Surroundings<'_>) {
        self.stop_waiting(around.now, Duration::ZERO);
        self.stats.total = around.now - self.submitted;
        self.draw_balance(around);
        let event = Event::Finished(reason, Box::new(self.stats.clone()));
        self.end(Ok(reason), event, around);
    }

    fn fail(&mut self, why: String, around: &mut Surroundings<'_>) {
        self.end(Err(()), Event::Failed(why), around);
    }

    fn end(&mut self, how: Result<FinishReason, ()>, event: Event, around: &mut Surroundings<'_>) {
        self.ended = Some(how);
        around.breaker.release(around.now, self.id());
        around.switch.release(around.now, self.ticket);
        around.out.push_back(Output::Event(self.id(), event));
    }

    /// Whether a follow-up could go on from here. A requester that left wants nothing to be kept, the naive split and what leaves
    /// something out keep nothing by definition, a cloud that will never take this session would not take the follow-up either, and in
    /// cloud mode it is the cloud that has what could be kept.
    pub(super) fn can_park(&self, config: &EdgeConfig) -> bool {
        let complete = matches!(self.ended, Some(Ok(reason)) if reason != FinishReason::Cancelled);
        let has_something = match self.request.mode {
            Mode::Naive => false,
            _ if self.request.without != Ablation::Nothing => false,
            Mode::Cloud => self.uplink.can_send(),
            Mode::Collaborative | Mode::Exact | Mode::Auto => !self.uplink.is_off(),
            Mode::Standalone | Mode::Whole => true,
        };
        complete && has_something && config.keep > Duration::ZERO && self.length_to_keep(config) > 0
    }

    /// All that was computed before the first block, of the answer, too; then whole blocks of the prompt. Nothing was computed of the last
    /// token.
    fn length_to_keep(&self, config: &EdgeConfig) -> u32 {
        let computed = self.next_to_commit() - 1;
        let length = config.blocks.cut_before(self.stats.prompt_tokens).max(computed.min(config.blocks.first()));
        match self.phase {
            // Nobody will hear what a job under way comes to.
            Phase::Computing(Rows::First(_)) => length.min(self.first_filled),
            Phase::Computing(Rows::Second(_)) => length.min(self.second_filled),
            Phase::Standing(_) | Phase::Following(_) | Phase::Scoring(_) => length,
        }
    }

    /// After the last event: forgets all but what a follow-up can use.
    pub(super) fn park(mut self, around: &mut Surroundings<'_>) -> Parked {
        let length = self.length_to_keep(around.config);
        self.epoch.0 += 1;
        self.forget_from(Position(length), around);
        self.uplink.park(around.now, self.epoch, length, around.out);
        let Self { request, stats, tokens, slot, first_filled, second_filled, epoch, uplink, .. } = self;
        Parked {
            mode: request.mode,
            tells_tokens: request.tells_tokens(),
            prompt_tokens: stats.prompt_tokens,
            tokens,
            ground: Ground { slot, first_filled, second_filled, epoch, uplink },
            since: around.now,
        }
    }

    /// After the last event: forgets everything, on both sides. Returns the slot.
    pub(super) fn leave(mut self, around: &mut Surroundings<'_>) -> SlotId {
        around.jobs.withdraw(self.id(), around.now);
        self.uplink.close(around.out);
        around.out.push_back(Output::Free(self.slot));
        self.slot
    }

    /// Books the time stood still until now, of which the cloud spent `in_cloud` on the answer. A wait that goes on is counted anew
    /// from here.
    fn stop_waiting(&mut self, now: Time, in_cloud: Duration) {
        let (since, is_for_token) = match &mut self.phase {
            Phase::Standing(since) | Phase::Following(since) => (since, true),
            Phase::Scoring(since) => (since, false),
            Phase::Computing(_) => return,
        };
        let waited = now - std::mem::replace(since, now);
        self.stats.waited += waited;
        self.stats.waited_network += waited.saturating_sub(in_cloud);
        if is_for_token {
            self.waited += waited;
        }
    }

    /// Positions in the slot, and bytes of states kept for the cloud.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.first_filled as usize, self.uplink.states_bytes())
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

    /// Of the answer, those included that may yet change.
    fn tokens_made(&self) -> u32 {
        self.length() - self.stats.prompt_tokens
    }

    /// The edge's engine worked on the prompt.
    fn count_prompt(&mut self, took: Took, around: &Surroundings<'_>) {
        if self.tokens_made() == 0 {
            let since_request = around.now - self.submitted;
            let so_far = self.prompt_took.unwrap_or(since_request.saturating_sub(took.batch));
            self.prompt_took = Some(so_far + took.batch);
        }
    }

    fn tokens_left(&self, config: &EdgeConfig) -> u32 {
        (self.request.tokens_max - self.tokens_made()).min(config.context - self.length())
    }

    fn scoring(&self) -> Scoring {
        let Request { sampling, prompt, .. } = &self.request;
        Scoring::after(self.last_position(), sampling, &self.tokens, prompt.len() as u32)
    }

    fn feed(&self) -> Feed {
        self.uplink.chosen().map_or(Feed::Tokens, |chosen| chosen.feed)
    }

    /// How states are uploaded, while there is a cloud that may have them.
    fn encoding_in_use(&self) -> Option<Encoding> {
        match self.feed() {
            Feed::States(encoding) if !self.uplink.is_off() => Some(encoding),
            _ => None,
        }
    }
}

impl Draft {
    /// What the edge says by itself.
    fn of_edge(scored: Scored, source: Source, degraded: bool, policy: Policy) -> Self {
        let sure = Some(scored.choice.confidence);
        Self { scored, source, degraded, round_trip: None, policy, sure }
    }

    /// What the cloud says, so long after the ask if there was one, where the edge was so sure of a guess of its own.
    fn of_cloud(scored: Scored, round_trip: Option<Duration>, policy: Policy, sure: Option<f32>) -> Self {
        Self { scored, source: Source::Cloud, degraded: false, round_trip, policy, sure }
    }
}

impl Again {
    fn after(refused: RefusalCode, pause: Duration) -> Self {
        match refused {
            RefusalCode::Busy => Self::After(pause),
            code if code.retryable() => Self::WithOthers,
            _ => Self::Never,
        }
    }
}

fn second_source(config: &EdgeConfig) -> Source {
    match config.second {
        SecondStage::Tail => Source::Exit2,
        SecondStage::Whole => Source::Whole,
    }
}
