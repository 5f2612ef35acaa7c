//! What one answer cost: the columns of every table and result file.

use std::time::Duration;

use super::{AutoChoice, Comparison, LinkEstimate, Source, Token};
use crate::{
    budget::{Budget, Target},
    frame::Answer,
    policy::Threshold,
    time::Time,
    upload::ChosenFeed,
};

/// Sums over one answer. Bytes are the driver's to add: the core does not know how frames are written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    /// Confidence from which on exit 1's guesses were taken; `None` if it was not asked.
    pub exit1_threshold: Option<Threshold>,
    /// Confidence from which on exit 2's guesses were taken; `None` if none was. Under a budget: at the end.
    pub exit2_threshold: Option<Threshold>,
    /// What became of the budget, if there was one.
    pub budget: Option<BudgetReport>,
    /// In mode auto: what was chosen, and why. The last choice, if the answer fell to the edge.
    pub choice: Option<AutoChoice>,
    /// In mode auto: tokens that were made when it fell to the edge, if it did.
    pub fell_after: Option<u32>,
    /// The way to the cloud, as it looked at the end.
    pub link: LinkEstimate,
    /// What it would have cost elsewhere; `None` without a cloud.
    pub comparison: Option<Comparison>,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of them, what did not have to be computed because it was kept from the session's last answer.
    pub cached_tokens: u32,
    /// Tokens that left at exit 1.
    pub exit1_tokens: u32,
    /// Tokens that left at exit 2, degraded ones included.
    pub exit2_tokens: u32,
    /// Tokens that the cloud decided.
    pub cloud_tokens: u32,
    /// Tokens of the whole model on the device.
    pub whole_tokens: u32,
    /// Tokens emitted below the threshold because the cloud was not there.
    pub degraded_tokens: u32,
    /// Asks sent, repeated ones included.
    pub asks: u32,
    /// Times the edge stood still until an answer came.
    pub round_trips_waited: u32,
    /// Time stood still for answers, in vain or not.
    pub waited: Duration,
    /// Of it, what the cloud did not spend computing or queueing: time on the network.
    pub waited_network: Duration,
    /// Engine time at the edge.
    pub edge_compute: Duration,
    /// Engine time in the cloud: this session's share of its batches, up to the last answer.
    pub cloud_compute: Duration,
    /// Time that asks waited in the cloud before their batch began; of those that were answered together, the oldest.
    pub cloud_queued: Duration,
    /// What was fed to the cloud, and why; `None` in modes without one.
    pub feed: Option<ChosenFeed>,
    /// Positions uploaded, repeated ones included.
    pub positions_uploaded: u32,
    /// Positions uploaded again because the cloud no longer held them.
    pub positions_replayed: u32,
    /// Guesses that the cloud corrected after the edge had asked.
    pub rollbacks: u32,
    /// Tokens that a rollback took back before anyone saw them, the wrong guesses included.
    pub tokens_discarded: u32,
    /// Streams opened.
    pub connections: u32,
    /// From the request to the first token; `None` if there was none.
    pub first_token: Option<Duration>,
    /// From the request to the end.
    pub total: Duration,
}

/// A budget, the thresholds that were in force for it at exit 2, and whether it was kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetReport {
    /// What was asked for.
    pub budget: Budget,
    /// For the first token.
    pub first: Threshold,
    /// For the last one.
    pub last: Threshold,
    /// For any.
    pub lowest: Threshold,
    /// For any.
    pub highest: Threshold,
    /// Whether the target was met, give or take one token.
    pub kept: bool,
}

impl BudgetReport {
    pub(super) fn begin(budget: Budget, threshold: Threshold) -> Self {
        Self { budget, first: threshold, last: threshold, lowest: threshold, highest: threshold, kept: true }
    }

    /// Another threshold is in force.
    pub(super) fn set(&mut self, threshold: Threshold) {
        self.last = threshold;
        self.highest = self.highest.max(threshold);
        self.lowest = if threshold < self.lowest { threshold } else { self.lowest };
    }
}

impl Stats {
    /// Whether a target was met, give or take one token.
    pub(super) fn keeps(&self, target: Target) -> bool {
        match target {
            Target::CloudShare(share) => {
                f64::from(self.cloud_tokens) <= share.value() * f64::from(self.answer_tokens()) + 1.0
            }
            Target::TimePerToken(time) => {
                let later = self.answer_tokens().saturating_sub(1);
                self.total.saturating_sub(self.first_token.unwrap_or_default()) <= time * (later + 1)
            }
        }
    }

    /// Tokens of the answer.
    pub fn answer_tokens(&self) -> u32 {
        self.exit1_tokens + self.exit2_tokens + self.cloud_tokens + self.whole_tokens
    }

    /// Time per output token after the first (TPOT); `None` for fewer than two tokens.
    pub fn time_per_token(&self) -> Option<Duration> {
        let later = self.answer_tokens().checked_sub(1).filter(|&count| count > 0)?;
        Some((self.total - self.first_token?) / later)
    }

    pub(super) fn count_token(&mut self, token: &Token, submitted: Time, now: Time) {
        let counter = match token.source {
            Source::Exit1 => &mut self.exit1_tokens,
            Source::Exit2 => &mut self.exit2_tokens,
            Source::Cloud => &mut self.cloud_tokens,
            Source::Whole => &mut self.whole_tokens,
        };
        *counter += 1;
        self.degraded_tokens += u32::from(token.degraded);
        self.first_token.get_or_insert(now - submitted);
    }

    pub(super) fn count_answer(&mut self, answer: &Answer) {
        self.cloud_compute += answer.engine_time();
        self.cloud_queued += answer.queued;
    }
}
