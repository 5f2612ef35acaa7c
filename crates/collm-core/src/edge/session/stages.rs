//! A session and its engine: which rows run through which layers next.
//!
//! A token that leaves at exit 1 leaves the second stage behind; the positions it owes run with the next one that goes deeper.

use super::{Phase, Rows, Session, Surroundings, second_source};
use crate::{
    edge::{EdgeConfig, FinishReason, Job, JobOutcome, Source, Stage, batch::Took},
    ids::Position,
    policy::{Decision, Mode, Scope, Threshold},
    sampling::Scoring,
};

impl Session {
    /// Does the next thing that the next token needs.
    pub(super) fn advance(&mut self, around: &mut Surroundings<'_>) {
        if self.is_told() {
            self.finish(FinishReason::Length, around);
        } else if self.request.mode == Mode::Cloud && self.uplink.can_send() {
            if !self.asks_about_prompt(around) {
                self.follow(around);
            }
        } else if self.first_filled < self.length() {
            self.run_first(around);
        } else {
            self.deepen(around);
        }
    }

    pub(super) fn run_first(&mut self, around: &mut Surroundings<'_>) {
        let first = self.first_filled;
        let rows = self.first_rows(around.config);
        let is_last = first + rows == self.length();
        if is_last {
            self.steer(around);
        }
        let tokens = self.tokens[first as usize..(first + rows) as usize].to_vec();
        let stage = Stage::First { tokens, upload: self.encoding_in_use() };
        let threshold = self.policy.exit1.filter(|_| is_last);
        let scores = threshold.map(|_| self.scoring()).into_iter().collect();
        let scope = threshold.map_or(Scope::Full, |threshold| self.scope(threshold, false));
        self.phase = Phase::Computing(Rows::First(rows));
        self.compute(Job { slot: self.slot, stage, first: Position(first), scores, scope }, around);
    }

    /// Rows of the next job of the first stage.
    fn first_rows(&self, config: &EdgeConfig) -> u32 {
        let cloud_waits = self.encoding_in_use().is_some() && self.uploads_by_itself();
        let is_early = self.first_filled < config.blocks.first();
        let rows_max = if cloud_waits && is_early { config.first_job_rows.max(1) } else { config.job_rows_max };
        self.piece(self.first_filled, self.length(), rows_max.min(config.job_rows_max), config)
    }

    /// Rows of a job that ends where the text may be cut.
    fn piece(&self, from: u32, to: u32, rows_max: u32, config: &EdgeConfig) -> u32 {
        config.blocks.piece(from, to, self.stats.prompt_tokens, rows_max)
    }

    pub(super) fn first_done(&mut self, rows: u32, outcome: JobOutcome, took: Took, around: &mut Surroundings<'_>) {
        self.stats.edge_compute += took.share;
        self.count_prompt(took, around);
        self.first_filled += rows;
        if rows == 1 {
            around.outlook.first_took(took.batch);
        }
        if self.encoding_in_use().is_some() {
            match outcome.states {
                Some(Ok(block)) if block.rows() == rows => self.upload(block, around),
                Some(Err(why)) => self.give_up_cloud(why, around),
                _ => return self.fail("the engine returned no states to upload".into(), around),
            }
            if self.is_finished() {
                return;
            }
        }
        match outcome.scored.into_iter().next() {
            _ if self.first_filled < self.length() => self.run_first(around),
            Some(scored) if self.policy.at_exit1(scored.choice) == Decision::Emit => match self.keep_early(scored) {
                Some(scored) => self.emit(scored, Source::Exit1, false, around),
                None => self.deepen(around),
            },
            _ => self.deepen(around),
        }
    }

    /// Goes on after `[0, e1)`: to what is owed of the prompt, to the second stage, or, in naive mode, straight to the cloud.
    pub(super) fn deepen(&mut self, around: &mut Surroundings<'_>) {
        if self.asks_about_prompt(around) {
            return;
        }
        if self.request.mode == Mode::Naive && self.uplink.is_open() {
            self.ask(None, around);
        } else {
            self.run_second(around);
        }
    }

    pub(super) fn run_second(&mut self, around: &mut Surroundings<'_>) {
        let first = self.second_filled;
        let rows = self.piece(first, self.first_filled, around.config.job_rows_max, around.config);
        let mut scores: Vec<Scoring> = self.prompt_scorings(first, rows).collect();
        if first + rows == self.length() && !self.needs_no_second() {
            scores.push(self.scoring());
        }
        let scope = self.scope(self.policy.exit2, !self.uplink.can_ask());
        let stage = Stage::Second { rows };
        self.phase = Phase::Computing(Rows::Second(rows));
        self.compute(Job { slot: self.slot, stage, first: Position(first), scores, scope }, around);
    }

    pub(super) fn second_done(&mut self, rows: u32, outcome: JobOutcome, took: Took, around: &mut Surroundings<'_>) {
        self.stats.edge_compute += took.share;
        self.count_prompt(took, around);
        self.second_filled += rows;
        if rows == 1 {
            around.outlook.second_took(took.batch);
        }
        let mut scored = outcome.scored.into_iter();
        if self.tell_own(&mut scored, around).is_none() {
            return self.fail("the engine did not score the prompt".into(), around);
        }
        if self.second_filled < self.length() {
            return self.run_second(around);
        }
        if self.needs_no_second() {
            return self.begin_answer(around);
        }
        let Some(scored) = scored.next() else {
            return self.fail("the engine returned no choice for a scored row".into(), around);
        };
        match self.policy.at_exit2(scored.choice) {
            Decision::Ask => self.ask(Some(scored), around),
            Decision::Emit | Decision::Deeper => self.emit(scored, second_source(around.config), false, around),
        }
    }

    /// What a check covers whose guess is taken from `threshold` on, and below it if `is_last`.
    fn scope(&self, threshold: Threshold, is_last: bool) -> Scope {
        let sampling = &self.request.sampling;
        // A biased token may be the likeliest without being on any list, heat makes unlikely tokens likely, and probabilities are of the
        // whole vocabulary.
        let looks_beyond = sampling.temperature > 1.0
            || sampling.log_probs.is_some()
            || !sampling.bias.is_empty()
            || sampling.grammar.is_some()
            || self.request.score_prompt;
        Scope::of_check(threshold, is_last || looks_beyond)
    }

    pub(super) fn compute(&self, job: Job, around: &mut Surroundings<'_>) {
        around.jobs.push(self.id(), job);
    }
}
