//! Which threshold keeps a budget.
//!
//! Both targets come down to a share of tokens that may be asked about. Of a time per token it is what the target leaves after the
//! edge's own work, divided by what an ask costs. The threshold is the confidence that so many of the last tokens fell short of.
//! What an answer has spent so far corrects the share: an estimate that is off is made good within the next few tokens.

use std::time::Duration;

use super::outlook::{Confidences, Costs};
use crate::{
    budget::{Budget, Target},
    policy::Threshold,
};

/// What was spent too much or too little is made good over so many tokens.
const HORIZON: f64 = 8.0;

/// What an answer has spent so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Spent {
    /// Tokens made, those included that may yet change.
    pub(super) tokens: u32,
    /// Of them, those that were asked about.
    pub(super) asked: u32,
    /// Asks that are not answered yet: what they cost in time has not been spent.
    pub(super) open: u32,
    /// Positions that the cloud has to compute with the next ask.
    pub(super) to_catch_up: u32,
    /// Time since the first token was told; zero before.
    pub(super) since_first: Duration,
}

/// What may be asked, in tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Allowance {
    /// Of the tokens to come, in the long run.
    share: f64,
    /// More than that, from the past; negative if too much was asked.
    credit: f64,
}

/// The threshold in force for the next position.
pub(super) fn decide(budget: Budget, spent: Spent, costs: Costs, confidences: &Confidences) -> Threshold {
    let Allowance { share, credit } = match budget.target {
        Target::CloudShare(share) => {
            let share = share.value();
            Allowance { share, credit: share * f64::from(spent.tokens) - f64::from(spent.asked) }
        }
        Target::TimePerToken(target) => allowance_of_time(target, spent, costs),
    };
    // Kept back, so that the target holds at the end and not only on average. The rarer asks are, the more one of them weighs.
    let reserve = (1.0 - share).clamp(0.0, 1.0);
    let threshold = confidences.threshold_of(share + (credit - reserve) / HORIZON);
    threshold.max(budget.threshold_min)
}

/// How many asks fit into a time per token. As long as nothing is known of what they cost, they cost nothing. Of what is left from
/// the past, the next ask takes its own cost and that of all positions which the cloud computes for it.
fn allowance_of_time(target: Duration, spent: Spent, costs: Costs) -> Allowance {
    const SHORTEST: Duration = Duration::from_micros(1);
    let ask = costs.ask.unwrap_or_default().max(SHORTEST);
    let next_ask = (ask + costs.catch_up * spent.to_catch_up.saturating_sub(1)).as_secs_f64();
    let room = target.as_secs_f64() - (costs.step + costs.catch_up).as_secs_f64();
    let target = target.as_secs_f64();
    let later_tokens = f64::from(spent.tokens.saturating_sub(1));
    let left = if spent.since_first.is_zero() { 0.0 } else { target * later_tokens - spent.since_first.as_secs_f64() };
    Allowance { share: room / ask.as_secs_f64(), credit: left / next_ask - f64::from(spent.open) }
}

/// Share of the tokens that a time per token leaves for asks; `None` before one was measured.
pub(super) fn affordable(target: Duration, costs: Costs) -> Option<f64> {
    costs.ask.map(|_| allowance_of_time(target, Spent::default(), costs).share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Share;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Confidences that come in a fixed order which looks random, high ones more often.
    fn script() -> impl Iterator<Item = f32> {
        (1u32..).map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 / (1u32 << 24) as f32).map(f32::sqrt)
    }

    /// An answer in virtual time: each position takes `step`, each ask `ask` more. Returns what was spent.
    fn answer(budget: Budget, tokens: u32, step: Duration, ask: Duration, measured: Costs) -> Spent {
        let (mut spent, mut seen, mut costs) = (Spent::default(), Confidences::default(), measured);
        for confidence in script().take(tokens as usize) {
            let threshold = decide(budget, spent, costs, &seen);
            assert!(threshold >= budget.threshold_min);
            let asks = confidence < threshold.value();
            if spent.tokens > 0 {
                spent.since_first += step + if asks { ask } else { Duration::ZERO };
            }
            if asks {
                spent.asked += 1;
                costs.ask = Some(ask);
            }
            costs.step = step;
            spent.tokens += 1;
            seen.add(confidence);
        }
        spent
    }

    fn share_asked(spent: Spent) -> f64 {
        f64::from(spent.asked) / f64::from(spent.tokens)
    }

    fn budget(text: &str) -> Budget {
        text.parse::<Target>().expect("a target").into()
    }

    #[test]
    fn a_share_of_the_tokens_is_asked_about_and_hardly_more() {
        for share in [0.0, 0.05, 0.2, 0.5, 0.9, 1.0] {
            let budget = Budget::from(Target::CloudShare(Share::new(share).expect("a share")));
            for tokens in [30, 100, 1000] {
                let spent = answer(budget, tokens, ms(10), ms(80), Costs::default());
                let allowed = share * f64::from(tokens);
                assert!(f64::from(spent.asked) <= allowed + 1.0, "{spent:?} at {share}");
                assert!(f64::from(spent.asked) >= allowed - 3.0, "{spent:?} at {share}");
            }
        }
    }

    #[test]
    fn a_time_per_token_is_kept_and_used() {
        for target in [12, 20, 40, 89] {
            let spent = answer(budget(&format!("tpot={target}ms")), 400, ms(10), ms(80), Costs::default());
            let per_token = spent.since_first / (spent.tokens - 1);
            assert!(per_token <= ms(target) + ms(80) / 400, "{per_token:?} of {target} ms");
            assert!(per_token.as_secs_f64() > 0.93 * ms(target).as_secs_f64(), "{per_token:?} of {target} ms");
        }
    }

    #[test]
    fn asks_that_are_open_will_take_their_time() {
        let costs = Costs { step: ms(10), ask: Some(ms(80)), catch_up: ms(0) };
        let mut seen = Confidences::default();
        script().take(100).for_each(|confidence| seen.add(confidence));
        let spent = Spent { tokens: 50, since_first: ms(49 * 40), ..Spent::default() };
        let threshold = |open| decide(budget("tpot=40ms"), Spent { open, ..spent }, costs, &seen);
        assert!(threshold(0) > threshold(1) && threshold(1) > threshold(2));
    }

    #[test]
    fn a_link_that_allows_everything_is_asked_about_everything() {
        let spent = answer(budget("tpot=200ms"), 100, ms(10), ms(80), Costs::default());
        assert_eq!(spent.asked, 100);
    }

    #[test]
    fn what_cannot_be_kept_is_not_made_worse() {
        let measured = Costs { step: ms(10), ask: Some(ms(80)), catch_up: ms(0) };
        let spent = answer(budget("tpot=5ms"), 100, ms(10), ms(80), measured);
        assert_eq!(spent.asked, 0, "the edge alone is too slow already");
    }

    #[test]
    fn the_threshold_never_falls_below_the_least() {
        let threshold_min = Threshold::new(0.6).expect("a threshold");
        let budget = Budget { threshold_min, ..budget("cloud=1%") };
        let spent = answer(budget, 500, ms(10), ms(80), Costs::default());
        assert!((share_asked(spent) - 0.36).abs() < 0.03, "what lies below 0.6: {spent:?}");
    }

    #[test]
    fn wrong_figures_are_made_good() {
        // Asks are said to cost a tenth of what they do, and then nobody measures them anew.
        let costs = Costs { step: ms(10), ask: Some(ms(8)), catch_up: ms(0) };
        let (mut spent, mut seen) = (Spent::default(), Confidences::default());
        for confidence in script().take(500) {
            let asks = confidence < decide(budget("tpot=20ms"), spent, costs, &seen).value();
            spent.since_first += if asks { ms(90) } else { ms(10) };
            spent.asked += u32::from(asks);
            spent.tokens += 1;
            seen.add(confidence);
        }
        let per_token = spent.since_first / (spent.tokens - 1);
        assert!(per_token <= ms(21), "{per_token:?}");
    }

    #[test]
    fn affordable_shares_are_what_the_edge_leaves() {
        let costs = Costs { step: ms(10), ask: Some(ms(80)), catch_up: ms(0) };
        let is = |share: Option<f64>, expected: f64| share.is_some_and(|share| (share - expected).abs() < 1e-9);
        assert!(is(affordable(ms(50), costs), 0.5));
        assert!(is(affordable(ms(50), Costs { catch_up: ms(20), ..costs }), 0.25));
        assert_eq!(affordable(ms(50), Costs { ask: None, ..costs }), None);
        assert!(affordable(ms(5), costs).is_some_and(|share| share < 0.0));
    }
}
