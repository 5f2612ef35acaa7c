//! How likely the prompt was, for requests that ask: by whoever would decide a token that the edge is unsure of.
//!
//! It is told before the answer begins. Where the cloud is used, the cloud says it, once the prompt is uploaded; else, and when the
//! cloud is lost over it, the edge's second stage does, which runs over the prompt in any case.

use super::{Phase, REPLAYS_MAX, Session, Surroundings, second_source};
use crate::{
    edge::{Event, Output, PromptToken, Source},
    frame::{Scores, ToCloud},
    ids::Position,
    sampling::{LogProbs, Scored, Scoring},
};

/// What of the prompt is still to be told.
#[derive(Debug)]
pub(super) struct Untold {
    /// The next token, by its position.
    next: u32,
    /// The prompt's length, if anything is asked of it.
    end: u32,
    /// What exit 1 says after the prompt, which has to wait.
    early: Option<Scored>,
    replays: u32,
}

impl Untold {
    /// Everything after the first token, of which nothing can be said.
    pub(super) fn of(prompt_tokens: u32, is_asked: bool) -> Self {
        Self { next: 1, end: if is_asked { prompt_tokens } else { 0 }, early: None, replays: 0 }
    }

    fn is_empty(&self) -> bool {
        self.next >= self.end
    }
}

impl Session {
    /// Lets the cloud say how likely the prompt was, if that is owed and there is a cloud. Whether it does.
    pub(super) fn asks_about_prompt(&mut self, around: &mut Surroundings<'_>) -> bool {
        if self.untold.is_empty() || !self.request.mode.uses_cloud() {
            return false;
        }
        self.begin_upload(around);
        let asks = self.uplink.is_open();
        if asks {
            self.stats.round_trips_waited += 1;
            self.phase = Phase::Scoring(around.now);
            self.send_score(around);
        }
        asks
    }

    /// Asks on the stream in use, if it is ready. It is asked again on a stream that was not, when it opens.
    pub(super) fn send_score(&mut self, around: &mut Surroundings<'_>) {
        if matches!(self.phase, Phase::Scoring(_)) && self.uplink.can_send() {
            self.send_positions(around);
            self.stats.asks += 1;
            let (first, end) = (Position(self.untold.next), Position(self.untold.end));
            self.uplink.transmit(ToCloud::Score { epoch: self.epoch, first, end }, around.out);
        }
    }

    /// The cloud no longer holds what it was asked about. Whether to ask again.
    pub(super) fn may_score_again(&mut self) -> bool {
        self.untold.replays += 1;
        self.untold.replays <= REPLAYS_MAX
    }

    pub(super) fn scores_came(&mut self, scores: Scores, around: &mut Surroundings<'_>) {
        if scores.epoch < self.epoch {
            return;
        }
        let Untold { next, end, .. } = self.untold;
        let is_owed = matches!(self.phase, Phase::Scoring(_)) && scores.first.0 == next;
        if !is_owed || scores.log_probs.is_empty() || scores.log_probs.len() > (end - next) as usize {
            return self.break_off("scores that it was not asked for", around);
        }
        around.breaker.prove();
        self.stats.cloud_compute += scores.compute;
        self.stats.cloud_queued += scores.queued;
        self.stop_waiting(around.now, scores.compute + scores.queued);
        for log_probs in scores.log_probs {
            self.tell(log_probs, Source::Cloud, around);
        }
        if self.untold.is_empty() {
            self.begin_answer(around);
        }
    }

    /// After the prompt, with its scores told: what exit 1 had to say, or what the next stages do.
    pub(super) fn begin_answer(&mut self, around: &mut Surroundings<'_>) {
        match self.untold.early.take() {
            Some(scored) if self.request.tokens_max > 0 => self.emit(scored, Source::Exit1, false, around),
            _ => self.advance(around),
        }
    }

    /// Whether the prompt was all that was asked about, and is told.
    pub(super) fn is_told(&self) -> bool {
        self.request.tokens_max == 0 && self.untold.is_empty()
    }

    /// Exit 1 says the answer's first token. Kept if the prompt comes first; else returned.
    pub(super) fn keep_early(&mut self, scored: Scored) -> Option<Scored> {
        if self.untold.is_empty() {
            return Some(scored);
        }
        self.untold.early = Some(scored);
        None
    }

    /// What the second stage is to say of the prompt when it runs over these rows.
    pub(super) fn prompt_scorings(&self, first: u32, rows: u32) -> impl Iterator<Item = Scoring> {
        let tokens = self.untold.next.max(first + 1)..self.untold.end.min(first + rows + 1);
        tokens.map(|at| Scoring::of_given(Position(at - 1), self.tokens[at as usize], &self.request.sampling))
    }

    /// Tells what the second stage says of the prompt up to the rows it has run over. `None` if it did not say enough.
    pub(super) fn tell_own(
        &mut self,
        scored: &mut impl Iterator<Item = Scored>,
        around: &mut Surroundings<'_>,
    ) -> Option<()> {
        while self.untold.next < self.untold.end.min(self.second_filled + 1) {
            let log_probs = scored.next()?.log_probs?;
            self.tell(log_probs, second_source(around.config), around);
        }
        Some(())
    }

    /// Whether the prompt was all that was asked for, or exit 1 has answered already: then there is no need for exit 2.
    pub(super) fn needs_no_second(&self) -> bool {
        let at_prompt = self.length() == self.stats.prompt_tokens;
        at_prompt && (self.request.tokens_max == 0 || self.untold.early.is_some())
    }

    fn tell(&mut self, log_probs: LogProbs, source: Source, around: &mut Surroundings<'_>) {
        let position = Position(self.untold.next);
        self.untold.next += 1;
        let degraded = source != Source::Cloud && self.request.mode.uses_cloud();
        let token = PromptToken { position, id: self.tokens[position.index()], source, degraded, log_probs };
        around.out.push_back(Output::Event(self.id(), Event::Prompt(token)));
    }
}
