//! Which policy is in force for the next position, where a budget or mode auto decides that.
//!
//! A position keeps its policy from its first layer to its token. So each token follows one rule, and tells which.

use super::{Session, Surroundings};
use crate::{
    budget::Budget,
    edge::{
        AutoChoice, BudgetReport, Comparison, Source,
        auto::Wish,
        controller::{self, Spent},
    },
    policy::{Mode, Policy, Thresholds},
};

impl Session {
    /// Settles the policy of the position that is computed next.
    pub(super) fn steer(&mut self, around: &mut Surroundings<'_>) {
        match self.stats.choice {
            Some(choice) if choice.uses_cloud() => self.choose_again(around),
            Some(_) => self.leave_cloud(around),
            None => {}
        }
        if let Some(budget) = self.request.budget {
            if self.may_ask_by_choice() {
                self.follow_budget(budget, around);
            }
            self.report_threshold(budget);
        }
    }

    /// Whether mode auto, if it is in force, has not sent this answer to the edge.
    fn may_ask_by_choice(&self) -> bool {
        self.stats.choice.is_none_or(AutoChoice::uses_cloud)
    }

    fn choose_again(&mut self, around: &mut Surroundings<'_>) {
        let wish = Wish::of(&self.request).known_as(self.ticket);
        let choice = around.switch.choose(around.now, wish, around.outlook);
        self.stats.choice = Some(choice);
        if !choice.uses_cloud() {
            self.stats.fell_after = Some(self.tokens_made());
            self.policy = Policy::of(Mode::Standalone, self.request.thresholds, around.config.has_exit1);
            self.leave_cloud(around);
        }
    }

    /// The edge goes on by choice. What it has asked is still awaited; then nothing leaves it any more.
    fn leave_cloud(&mut self, around: &mut Surroundings<'_>) {
        if self.asks.is_empty() && self.request.mode != Mode::Standalone {
            self.uplink.close(around.out);
            around.breaker.release(around.now, self.id());
            self.request.mode = Mode::Standalone;
        }
    }

    fn follow_budget(&mut self, budget: Budget, around: &Surroundings<'_>) {
        let (costs, confidences) = (around.outlook.costs(), around.outlook.confidences());
        let exit2 = controller::decide(budget, self.spent(around), costs, confidences);
        let thresholds = Thresholds { exit1: self.request.thresholds.exit1.max(exit2), exit2 };
        self.policy = Policy::of(self.request.mode, thresholds, around.config.has_exit1);
    }

    fn report_threshold(&mut self, budget: Budget) {
        let Policy { exit1, exit2 } = self.policy;
        self.stats.exit1_threshold = exit1;
        self.stats.exit2_threshold = Some(exit2).filter(|threshold| threshold.is_reachable());
        match &mut self.stats.budget {
            Some(report) => report.set(exit2),
            None => self.stats.budget = Some(BudgetReport::begin(budget, exit2)),
        }
    }

    /// What the answer has spent of a budget so far.
    fn spent(&self, around: &Surroundings<'_>) -> Spent {
        let of_cloud = self.drafts.iter().filter(|draft| draft.source == Source::Cloud).count() + self.asks.len();
        let until_first = self.stats.first_token.map(|first| self.submitted + first);
        Spent {
            tokens: self.tokens_made(),
            asked: self.stats.cloud_tokens + of_cloud as u32,
            // The first one's cost is not part of the time per token.
            open: self.asks.iter().filter(|ask| !ask.first).count() as u32,
            to_catch_up: self.length() - self.asked_to.min(self.length()),
            since_first: until_first.map(|first| around.now - first).unwrap_or_default(),
        }
    }

    /// At the end: whether the budget was kept, and what the answer would have cost elsewhere.
    pub(super) fn draw_balance(&mut self, around: &Surroundings<'_>) {
        let kept = self.stats.budget.map(|report| self.stats.keeps(report.budget.target));
        if let (Some(report), Some(kept)) = (&mut self.stats.budget, kept) {
            report.kept = kept;
        }
        self.stats.link = around.outlook.link();
        if around.config.has_cloud {
            self.stats.comparison = Some(self.comparison(around));
        }
    }

    fn comparison(&self, around: &Surroundings<'_>) -> Comparison {
        let (tokens, outlook) = (self.stats.answer_tokens(), &around.outlook);
        let later = tokens.saturating_sub(1);
        let later_at_edge = outlook.edge_only(later, self.stats.exit1_tokens.min(later));
        let new_to_cloud = self.stats.prompt_tokens - self.stats.cached_tokens;
        Comparison {
            edge_only: self.prompt_took.and_then(|prompt| Some(prompt + later_at_edge?)),
            cloud_only: outlook.cloud_only(new_to_cloud, tokens),
            corrected: matches!(self.request.mode, Mode::Collaborative | Mode::Exact | Mode::Standalone)
                .then_some(self.stats.rollbacks),
        }
    }
}
