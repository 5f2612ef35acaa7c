//! Judges everything that requesters hear: each token against the policy in force, and the whole answer where nothing went
//! wrong. Panics at the first fault.

use std::{collections::BTreeMap, time::Duration};

use collm_core::{
    edge::{EdgeConfig, Event, FinishReason, PromptToken, Request, Source, Stats, Token},
    ids::{SessionId, TokenId},
    policy::{Mode, Policy, Threshold},
    time::Time,
    upload::UploadStart,
};
use collm_engine::scripted::Script;

use crate::oracle::Oracle;

/// One answer as its requester saw it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What was asked for.
    pub request: Request,
    /// When.
    pub submitted: Time,
    /// What was told so far of the prompt.
    pub prompt: Vec<PromptToken>,
    /// What was told so far of the answer.
    pub tokens: Vec<Token>,
    /// How often the requester heard that the cloud is not there.
    pub losses: u32,
    /// Why it is complete, and what it cost; `Err` if it failed.
    pub end: Option<Result<(FinishReason, Stats), String>>,
    /// When it was complete.
    pub ended: Time,
    /// The requester left.
    pub cancelled: bool,
    ask_deadline: Duration,
    /// Nothing is to leave before its session's first ask.
    waits_for_ask: bool,
    /// Jobs of its edge may fail by plan.
    may_fail: bool,
    oracle: Oracle,
}

impl Answer {
    /// The tokens alone.
    pub fn ids(&self) -> Vec<TokenId> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    /// What it would be if nothing went wrong.
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// Prompt and answer.
    fn sequence(&self) -> Vec<TokenId> {
        let mut sequence = self.request.prompt.clone();
        sequence.extend(self.tokens.iter().map(|token| token.id));
        sequence
    }

    fn hear(&mut self, now: Time, event: Event) {
        assert!(self.end.is_none(), "told of something after the end: {event:?}");
        match event {
            Event::Prompt(token) => self.judge_prompt(token),
            Event::Token(token) => self.judge_token(token),
            Event::Degraded(loss) => {
                let may_ask = self.request.mode.uses_cloud() || self.request.mode == Mode::Auto;
                assert!(may_ask, "{loss} in a mode without cloud");
                self.losses += 1;
            }
            Event::Finished(reason, stats) => {
                self.judge_end(reason, &stats);
                self.end = Some(Ok((reason, *stats)));
                self.ended = now;
            }
            Event::Failed(why) => {
                assert!(self.may_fail, "failed although the edge's engine works: {why}");
                self.end = Some(Err(why));
                self.ended = now;
            }
        }
    }

    fn judge_prompt(&mut self, token: PromptToken) {
        assert!(self.request.score_prompt && self.tokens.is_empty(), "nobody asked, or too late: {token:?}");
        assert_eq!(token.position.index(), self.prompt.len() + 1, "positions follow one another: {token:?}");
        let prefix = &self.request.prompt[..=token.position.index()];
        let attended = self.oracle.scores_prompt(true);
        let alone = attended == Source::Cloud && token.source != Source::Cloud;
        assert_eq!(token.source, self.oracle.scores_prompt(!alone), "not who should say it: {token:?}");
        assert_eq!(token.degraded, alone, "degraded says that the cloud was needed and not there: {token:?}");
        assert!(!alone || self.losses > 0, "degraded before the loss was told: {token:?}");
        assert_eq!(Some(&token.id), prefix.last(), "another prompt: {token:?}");
        assert_eq!(token.log_probs, self.oracle.likelihood(prefix, token.source), "not how likely it was: {token:?}");
        self.prompt.push(token);
    }

    /// Whether all was told that is owed of the prompt.
    fn prompt_is_told(&self) -> bool {
        let owed = if self.request.score_prompt { self.request.prompt.len() - 1 } else { 0 };
        self.prompt.len() == owed
    }

    fn judge_token(&mut self, token: Token) {
        let sequence = self.sequence();
        assert!(self.prompt_is_told(), "the prompt comes first: {token:?}");
        assert_eq!(token.position.index(), sequence.len(), "positions follow one another: {token:?}");
        assert!(token.waited <= self.patience(), "stood still beyond the deadline: {token:?}");
        assert!(self.tokens.is_empty() || self.oracle.reason(&sequence).is_none(), "goes on after the end: {token:?}");
        self.judge_policy(&token);
        let attended = self.oracle.decide(token.policy, &sequence);
        let alone = self.oracle.decide_alone(token.policy, &sequence);
        let (scored, source) = if self.must_be_alone(&token, attended.1) { alone } else { attended };
        let choice = scored.choice;
        assert_eq!((token.id, token.source), (choice.token, source), "not what the policy gives: {token:?}");
        assert_eq!(
            token.confidence.to_bits(),
            choice.confidence.to_bits(),
            "not the confidence of its exit: {token:?}"
        );
        assert_eq!(token.log_probs, scored.log_probs, "not the log-probabilities of its exit: {token:?}");
        let asked = source == Source::Cloud && self.request.mode != Mode::Cloud;
        assert_eq!(token.round_trip.is_some(), asked, "a round trip is told where the cloud was asked: {token:?}");
        assert!(token.round_trip <= Some(self.ask_deadline), "answered after the deadline: {token:?}");
        self.tokens.push(token);
    }

    /// Where neither a budget nor mode auto sets the policy it is the request's; else it keeps its bounds.
    fn judge_policy(&self, token: &Token) {
        let asked_for = self.oracle.policy();
        let (Policy { exit1, exit2 }, request) = (token.policy, &self.request);
        let at_edge = request.mode == Mode::Auto && exit2 == Threshold::ALWAYS;
        match request.budget {
            _ if at_edge => assert!(exit1.is_none_or(|exit1| Some(exit1) == asked_for.exit1), "{token:?}"),
            Some(budget) => {
                assert!(exit2 >= budget.threshold_min, "below the least threshold: {token:?}");
                let least = request.thresholds.exit1.max(exit2);
                assert!(exit1.is_none_or(|exit1| exit1 == least), "exit 1 has become careless: {token:?}");
            }
            None => assert_eq!(token.policy, asked_for, "not the policy that was asked for: {token:?}"),
        }
    }

    /// How long the edge may stand still for one token. In naive mode it may lose an ask before it has a guess of its own, and
    /// ask again on a new stream once it has one. A cloud that does not take what goes up says so to the first ask, and is asked again
    /// with another feed; should it lose that feed, too, then once more.
    fn patience(&self) -> Duration {
        let asks = if self.tokens.is_empty() { FIRST_ASKS_MAX } else { 1 };
        self.ask_deadline * if self.request.mode == Mode::Naive { asks.max(2) } else { asks }
    }

    /// Whether the token was made without the cloud, although the policy asks the cloud.
    fn must_be_alone(&self, token: &Token, attended: Source) -> bool {
        let alone = attended == Source::Cloud && token.source != Source::Cloud;
        assert_eq!(token.degraded, alone, "degraded says that the cloud was needed and not there: {token:?}");
        assert!(!alone || self.losses > 0, "degraded before the loss was told: {token:?}");
        alone
    }

    fn judge_end(&self, reason: FinishReason, stats: &Stats) {
        // Who leaves a queue has been told nothing, even of a prompt that there is nothing to say of.
        let has_left = self.cancelled && reason == FinishReason::Cancelled;
        let nothing_more = self.request.tokens_max == 0 && self.prompt_is_told() && !has_left;
        let expected = match self.tokens.is_empty() {
            true => nothing_more.then_some(FinishReason::Length),
            false => self.oracle.reason(&self.sequence()),
        };
        match expected {
            Some(expected) => assert_eq!(reason, expected),
            None => assert!(reason == FinishReason::Cancelled && self.cancelled, "ended early: {reason:?}"),
        }
        assert_eq!(stats.answer_tokens() as usize, self.tokens.len(), "{stats:?}");
        assert!(
            stats.cached_tokens < self.request.prompt.len() as u32,
            "the last position is always computed: {stats:?}"
        );
        let degraded = self.tokens.iter().filter(|token| token.degraded).count();
        assert_eq!(stats.degraded_tokens as usize, degraded, "{stats:?}");
        let waited: Duration = self.tokens.iter().map(|token| token.waited).sum();
        let only_for_tokens = !self.request.score_prompt && reason != FinishReason::Cancelled;
        assert!(waited <= stats.waited, "waited {waited:?} for tokens: {stats:?}");
        assert!(waited == stats.waited || !only_for_tokens, "waited {waited:?} for tokens: {stats:?}");
        self.judge_choices(stats);
        assert!(stats.waited <= stats.total && stats.positions_replayed <= stats.positions_uploaded, "{stats:?}");
        if self.waits_for_ask && self.losses == 0 && stats.cached_tokens == 0 && stats.asks == 0 {
            assert_eq!((stats.connections, stats.positions_uploaded), (0, 0), "nothing leaves before the first ask");
        }
        assert!(self.request.mode != Mode::Standalone || stats.connections == 0, "standalone connects to nobody");
    }

    /// What is said of budget and mode auto is what the tokens show.
    fn judge_choices(&self, stats: &Stats) {
        assert_eq!(stats.choice.is_some(), self.request.mode == Mode::Auto, "{stats:?}");
        let fell = |count| self.tokens.iter().skip(count as usize).all(|token| token.policy.exit2 == Threshold::ALWAYS);
        let at_edge = stats.choice.is_some_and(|choice| !choice.uses_cloud());
        assert!(!at_edge || stats.fell_after.map_or_else(|| fell(0), fell), "asks by choice: {stats:?}");
        assert!(at_edge || stats.fell_after.is_none(), "{stats:?}");
        if let Some(report) = stats.budget {
            assert_eq!(Some(report.budget), self.request.budget);
            let last = self.tokens.iter().map(|token| token.policy.exit2).filter(|&exit2| exit2 != Threshold::ALWAYS);
            assert!(last.clone().all(|exit2| report.lowest <= exit2 && exit2 <= report.highest), "{stats:?}");
        }
    }

    /// Whether the answer depends on time.
    fn is_steered(&self) -> bool {
        self.request.budget.is_some() || self.request.mode == Mode::Auto
    }

    fn judge_reference(&self) {
        assert_eq!(self.losses, 0, "nothing went wrong and a loss was told");
        if self.is_steered() {
            return assert!(self.tokens.iter().all(|token| !token.degraded), "degraded with a cloud at hand");
        }
        let reference = self.oracle.reference();
        let told: Vec<(TokenId, Source)> = self.tokens.iter().map(|token| (token.id, token.source)).collect();
        let reason = self.end.as_ref().and_then(|end| end.as_ref().ok()).map(|(reason, _)| *reason);
        let by_cloud = self.oracle.scores_prompt(true);
        assert!(self.prompt.iter().all(|token| token.source == by_cloud), "the prompt was scored by others");
        assert_eq!(told, reference.tokens, "not the reference of {:?}", self.request);
        assert_eq!(reason, Some(reference.reason));
    }
}

/// Token ids, then states, then states in f32: each is refused at most once.
const FIRST_ASKS_MAX: u32 = 3;

/// All answers of a world.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// By the id that the request brought.
    pub(crate) answers: BTreeMap<SessionId, Answer>,
    /// Which request a session answers, or answered last.
    answering: BTreeMap<SessionId, SessionId>,
}

impl Judge {
    /// A request was taken by a session: its own, or one that was parked.
    pub(crate) fn expect(
        &mut self,
        now: Time,
        session: SessionId,
        request: &Request,
        config: &EdgeConfig,
        script: &Script,
        may_fail: bool,
    ) {
        let answer = Answer {
            oracle: Oracle::new(script, request, config),
            request: request.clone(),
            submitted: now,
            prompt: vec![],
            tokens: vec![],
            losses: 0,
            end: None,
            ended: now,
            cancelled: false,
            ask_deadline: config.ask_deadline,
            waits_for_ask: config.upload.start == UploadStart::Lazy
                && matches!(request.mode, Mode::Collaborative | Mode::Exact),
            may_fail,
        };
        let before = self.answers.insert(request.session, answer);
        assert!(before.is_none(), "a session id was taken twice");
        let before = self.answering.insert(session, request.session);
        let is_over = |id| self.answers.get(&id).is_some_and(|answer| answer.end.is_some());
        assert!(before.is_none_or(is_over), "a session answers two requests at once");
    }

    /// A requester is told something.
    pub(crate) fn hear(&mut self, now: Time, session: SessionId, event: Event) {
        let request = self.answering.get(&session).expect("events are about sessions that were taken");
        self.answers.get_mut(request).expect("every request has an answer").hear(now, event);
    }

    /// The requester of an answer leaves. Returns the session that it is told of, unless the answer is complete.
    pub(crate) fn cancel(&mut self, request: SessionId) -> Option<SessionId> {
        let answer = self.answers.get_mut(&request).filter(|answer| answer.end.is_none())?;
        answer.cancelled = true;
        self.answering.iter().find(|(_, answered)| **answered == request).map(|(session, _)| *session)
    }

    /// The world stands still: every answer is complete, and exact where the plan says so.
    pub(crate) fn conclude(&self, exact: bool) {
        for (session, answer) in &self.answers {
            assert!(answer.end.is_some(), "session {session} hangs after {} tokens", answer.tokens.len());
            if exact {
                answer.judge_reference();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use collm_core::{
        budget::{Budget, Target},
        edge::Loss,
        ids::Position,
    };

    use super::*;
    use crate::plan::{EdgePlan, request};

    const NOW: Time = Time(Duration::ZERO);

    fn script() -> Script {
        Script { turn_ends: 0.0, ..Script::default() }
    }

    /// Judges one answer of which every token must come from the cloud.
    fn judge() -> Judge {
        let mut judge = Judge::default();
        let request = Request { thresholds: Threshold::NEVER.into(), tokens_max: 2, ..request(1, 1.0) };
        judge.expect(NOW, request.session, &request, &EdgePlan::quiet(&script()).config, &script(), false);
        judge
    }

    fn hear(judge: &mut Judge, event: Event) {
        judge.hear(NOW, SessionId(1), event);
    }

    /// The right next token of the answer so far.
    fn right(judge: &Judge) -> Token {
        let answer = &judge.answers[&SessionId(1)];
        let sequence = answer.sequence();
        let policy = answer.oracle.policy();
        let (scored, source) = answer.oracle.decide(policy, &sequence);
        Token {
            position: Position(sequence.len() as u32),
            id: scored.choice.token,
            source,
            confidence: scored.choice.confidence,
            log_probs: scored.log_probs,
            degraded: false,
            waited: Duration::ZERO,
            round_trip: (source == Source::Cloud).then_some(Duration::ZERO),
            policy,
        }
    }

    fn finished(cloud_tokens: u32) -> Event {
        Event::Finished(FinishReason::Length, Box::new(Stats { cloud_tokens, ..Stats::default() }))
    }

    /// The judge hears a right first token, and then whatever becomes of the right second one.
    fn second(change: impl FnOnce(Token) -> Token) {
        let mut judge = judge();
        let first = right(&judge);
        hear(&mut judge, Event::Token(first));
        let token = change(right(&judge));
        hear(&mut judge, Event::Token(token));
    }

    #[test]
    fn the_right_answer_passes() {
        let mut judge = judge();
        for _ in 0..2 {
            let token = right(&judge);
            hear(&mut judge, Event::Token(token));
        }
        hear(&mut judge, finished(2));
        judge.conclude(true);
    }

    #[test]
    #[should_panic(expected = "positions follow one another")]
    fn a_repeated_token_is_caught() {
        second(|token| Token { position: Position(token.position.0 - 1), ..token });
    }

    #[test]
    #[should_panic(expected = "not what the policy gives")]
    fn a_wrong_token_is_caught() {
        second(|token| Token { id: TokenId(token.id.0 ^ 1), ..token });
    }

    #[test]
    #[should_panic(expected = "degraded says")]
    fn a_guess_sold_as_sure_is_caught() {
        second(|token| Token { source: Source::Exit2, ..token });
    }

    #[test]
    #[should_panic(expected = "before the loss was told")]
    fn a_silent_loss_is_caught() {
        second(|token| Token { source: Source::Exit2, degraded: true, ..token });
    }

    #[test]
    #[should_panic(expected = "not the policy that was asked for")]
    fn another_threshold_than_asked_for_is_caught() {
        second(|token| Token { policy: Policy { exit2: Threshold::DEFAULT, ..token.policy }, ..token });
    }

    #[test]
    #[should_panic(expected = "below the least threshold")]
    fn a_budget_that_breaks_its_bound_is_caught() {
        let mut judge = judge();
        let answer = judge.answers.get_mut(&SessionId(1)).expect("it is expected");
        let target = Target::cloud_share(0.2).expect("a share");
        answer.request.budget = Some(Budget { target, threshold_min: Threshold::DEFAULT });
        let token = right(&judge);
        let policy = Policy { exit2: Threshold::new(0.5).expect("a number"), ..token.policy };
        hear(&mut judge, Event::Token(Token { policy, ..token }));
    }

    #[test]
    #[should_panic(expected = "beyond the deadline")]
    fn too_much_patience_is_caught() {
        second(|token| Token { waited: Duration::from_secs(3), ..token });
    }

    #[test]
    #[should_panic(expected = "a round trip is told where the cloud was asked")]
    fn an_ask_without_a_round_trip_is_caught() {
        second(|token| Token { round_trip: None, ..token });
    }

    #[test]
    #[should_panic(expected = "after the end")]
    fn news_after_the_end_are_caught() {
        let mut judge = judge();
        for _ in 0..2 {
            let token = right(&judge);
            hear(&mut judge, Event::Token(token));
        }
        hear(&mut judge, finished(2));
        hear(&mut judge, Event::Degraded(Loss::BreakerOpen));
    }

    #[test]
    #[should_panic(expected = "ended early")]
    fn an_answer_that_ends_early_is_caught() {
        let mut judge = judge();
        let token = right(&judge);
        hear(&mut judge, Event::Token(token));
        hear(&mut judge, finished(1));
    }

    #[test]
    #[should_panic(expected = "hangs after 1 tokens")]
    fn a_hanging_answer_is_caught() {
        let mut judge = judge();
        let token = right(&judge);
        hear(&mut judge, Event::Token(token));
        judge.conclude(false);
    }
}
