//! From a choice to a token that the requester sees: drafts, and when they are settled.

use super::{Draft, OpenAsk, Phase, Session, Surroundings};
use crate::{
    edge::{EdgeConfig, Event, FinishReason, Output, Source, Token},
    ids::{Position, TokenId},
    policy::Mode,
    sampling::Scored,
};

impl Session {
    /// Takes the edge's own choice as the next token and goes on.
    pub(super) fn emit(&mut self, scored: Scored, source: Source, unsure: bool, around: &mut Surroundings<'_>) {
        let degraded = unsure || matches!(self.request.mode, Mode::Cloud | Mode::Naive);
        self.draft(Draft::of_edge(scored, source, degraded, self.policy));
        if self.settle(around) {
            self.go_on(around);
        }
    }

    /// Appends a token that is not yet settled.
    pub(super) fn draft(&mut self, draft: Draft) {
        self.tokens.push(draft.scored.choice.token);
        self.drafts.push_back(draft);
    }

    /// Commits every draft that no open ask stands before. Returns whether the answer goes on.
    pub(super) fn settle(&mut self, around: &mut Surroundings<'_>) -> bool {
        while !self.drafts.is_empty() && !self.awaits_answer(self.next_to_commit()) {
            let position = Position(self.next_to_commit());
            let draft = self.drafts.pop_front().expect("checked by the loop");
            self.commit(position, draft, around);
            if let Some(reason) = self.finish_reason(position, around.config) {
                self.finish(reason, around);
                return false;
            }
        }
        true
    }

    /// Makes a token final.
    fn commit(&mut self, position: Position, draft: Draft, around: &mut Surroundings<'_>) {
        let Draft { scored: Scored { choice, log_probs }, source, degraded, round_trip, policy, sure } = draft;
        if let Some(confidence) = sure {
            around.outlook.committed(confidence);
        }
        let token = Token {
            position,
            id: choice.token,
            source,
            confidence: choice.confidence,
            log_probs,
            degraded,
            waited: std::mem::take(&mut self.waited),
            round_trip,
            policy,
        };
        self.stats.count_token(&token, self.submitted, around.now);
        around.out.push_back(Output::Event(self.id(), Event::Token(token)));
    }

    /// Runs ahead where that is wanted, and stands still otherwise.
    pub(super) fn go_on(&mut self, around: &mut Surroundings<'_>) {
        if self.may_run_ahead(around) {
            self.advance(around);
        } else if !matches!(self.phase, Phase::Standing(_)) {
            self.stats.round_trips_waited += 1;
            self.phase = Phase::Standing(around.now);
        }
    }

    /// Whether to compute the next position now; without open asks there is nothing to wait for.
    fn may_run_ahead(&self, around: &Surroundings<'_>) -> bool {
        let Some(oldest) = self.asks.front() else {
            return true;
        };
        // Where the cloud starts anew at every ask, a second one would wipe out the first.
        if self.has_no_context_there() || self.finish_reason(self.last_position(), around.config).is_some() {
            return false;
        }
        let guesses = self.asks.iter().filter_map(|ask| ask.guess);
        let right: Vec<f32> = guesses.map(|guess| around.outlook.likely(guess.confidence)).collect();
        self.request.run_ahead.pays(&right, around.outlook.ahead(oldest.since, around.now))
    }

    /// Position of the next token to be committed.
    pub(super) fn next_to_commit(&self) -> u32 {
        self.length() - self.drafts.len() as u32
    }

    /// Whether the token at `position` is the guess of an open ask.
    fn awaits_answer(&self, position: u32) -> bool {
        self.asks.front().is_some_and(|OpenAsk { position: asked, .. }| asked.0 + 1 == position)
    }

    /// Why the answer would be complete with the token at `position`.
    fn finish_reason(&self, position: Position, config: &EdgeConfig) -> Option<FinishReason> {
        let token: TokenId = self.tokens[position.index()];
        let length = position.0 + 1;
        if self.request.stop.contains(&token) && length > self.stats.prompt_tokens {
            Some(FinishReason::Stop)
        } else if length - self.stats.prompt_tokens >= self.request.tokens_max {
            Some(FinishReason::Length)
        } else if length >= config.context {
            Some(FinishReason::Context)
        } else {
            None
        }
    }
}
