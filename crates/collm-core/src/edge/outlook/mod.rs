//! What an edge has measured about itself and its cloud: the figures behind how far to run ahead, which threshold keeps a budget,
//! whether asking pays at all, and what an answer would have cost elsewhere.

mod average;
mod cloud_costs;
mod guesses;
mod link;

use std::time::Duration;

use self::{
    average::Average,
    cloud_costs::{CloudCosts, TOGETHER_MIN},
    guesses::Guesses,
    link::Link,
};
pub use self::{cloud_costs::CloudOnly, link::LinkEstimate};
pub(super) use self::{
    guesses::Confidences,
    link::{Departures, Flight, Passage},
};
use crate::{
    policy::{Ahead, Threshold},
    time::Time,
    upload::UploadCosts,
};

/// Moving averages, shared by all sessions of an edge: they share the device and the link.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    first: Average,
    second: Average,
    /// What the engine takes to end work that nobody wants any more.
    interrupted: Average,
    round_trip: Average,
    /// What asking added to the time of an answer.
    ask: Average,
    /// What the cloud takes to catch up on a position that it was not asked about.
    catch_up: Average,
    guesses: Guesses,
    confidences: Confidences,
    link: Link,
    cloud: CloudCosts,
}

/// What tokens cost in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Costs {
    /// To compute one position at the edge, all stages.
    pub(super) step: Duration,
    /// What asking about it adds: time stood still, or computed in vain.
    pub(super) ask: Option<Duration>,
    /// What it adds to the next ask if it is not asked about itself: the cloud has to compute it then.
    pub(super) catch_up: Duration,
}

/// What an ask has cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskCost {
    /// It made its answer this much later than the edge alone would have been; `None` if that says nothing about other asks.
    pub(super) delay: Option<Duration>,
    /// Positions that the cloud computed for it; 0 if that is not known.
    pub(super) rows: u32,
    /// How long it took for them.
    pub(super) compute: Duration,
}

impl Outlook {
    /// A job of one row through `[0, e1)` took this long.
    pub(super) fn first_took(&mut self, compute: Duration) {
        self.first.add(compute);
    }

    /// A job of one row through the second stage took this long.
    pub(super) fn second_took(&mut self, compute: Duration) {
        self.second.add(compute);
    }

    /// The engine was interrupted and took this long to be free.
    pub(super) fn interrupted(&mut self, after: Duration) {
        self.interrupted.add(after);
    }

    /// An ask was answered after this long; its guess had this confidence and was right or not.
    pub(super) fn answered(&mut self, after: Duration, guess: Option<(f32, bool)>) {
        self.round_trip.add(after);
        if let Some((confidence, right)) = guess {
            self.guesses.add(confidence, right);
        }
    }

    /// An answer came over the link.
    pub(super) fn passed(&mut self, now: Time, passage: Passage) {
        self.link.passed(now, passage);
    }

    /// What an ask has cost. Where the cloud had many positions to catch up on, they are counted apart.
    pub(super) fn asked(&mut self, AskCost { delay, rows, compute }: AskCost) {
        let of_others = if rows >= TOGETHER_MIN { compute - compute / rows } else { Duration::ZERO };
        if rows >= TOGETHER_MIN {
            self.catch_up.add(compute / rows);
        }
        if let Some(delay) = delay {
            self.ask.add(delay.saturating_sub(of_others));
        }
    }

    /// The cloud took this long for so many positions of the whole model.
    pub(super) fn cloud_took(&mut self, rows: u32, compute: Duration) {
        self.cloud.add(rows, compute);
    }

    /// The cloud took this long for a prompt and for so many positions after it, of the whole model.
    pub(super) fn cloud_began(&mut self, prompt: u32, after: u32, compute: Duration) {
        self.cloud.add_prompt(prompt, after, compute);
    }

    /// A token was committed of which the edge was so sure.
    pub(super) fn committed(&mut self, confidence: f32) {
        self.confidences.add(confidence);
    }

    /// How likely a guess of this confidence is right.
    pub(super) fn likely(&self, confidence: f32) -> f32 {
        self.guesses.likely(confidence)
    }

    /// What uploading costs, as far as it was measured.
    pub(super) fn upload_costs(&self, now: Time) -> UploadCosts {
        let bytes_per_second = self.link.rate_that_holds(now).map(|rate| rate as u64);
        UploadCosts { bytes_per_second, lower: self.first.known() }
    }

    /// What running ahead means now, if the oldest open ask was sent at `since`.
    pub(super) fn ahead(&self, since: Time, now: Time) -> Ahead {
        Ahead {
            answer_in: self.round_trip.value().saturating_sub(now - since),
            step: self.first.value() + self.second.value(),
            job: self.first.value(),
            interrupted: self.interruption(),
        }
    }

    /// What it takes to have the engine end a position that it is at: a stage of it at most.
    pub(super) fn interruption(&self) -> Duration {
        self.interrupted.known().unwrap_or(self.first.value()).min(self.first.value().max(self.second.value()))
    }

    /// What tokens cost, as far as it was measured.
    pub(super) fn costs(&self) -> Costs {
        Costs { step: self.first.value() + self.second.value(), ask: self.ask.known(), catch_up: self.catch_up.value() }
    }

    /// As [`Self::costs`], but what asking costs only after so many asks.
    pub(super) fn costs_after(&self, asks: u32) -> Costs {
        Costs { ask: self.ask.after(asks), ..self.costs() }
    }

    /// Measures anew what asking costs.
    pub(super) fn forget_ask_cost(&mut self) {
        self.ask = Average::default();
    }

    /// How sure the edge was of its tokens.
    pub(super) fn confidences(&self) -> &Confidences {
        &self.confidences
    }

    /// Share of the tokens that are asked about at a threshold.
    pub(super) fn asked_share(&self, threshold: Threshold) -> f64 {
        self.confidences.share_below(threshold)
    }

    /// The way to the cloud.
    pub(super) fn link(&self) -> LinkEstimate {
        self.link.estimate()
    }

    /// What an answer without exit 1 would take the edge alone after its prompt; of its positions, `early` need no second stage.
    /// `None` before a position was computed.
    pub(super) fn edge_only(&self, positions: u32, early: u32) -> Option<Duration> {
        let second = self.second.known().or((early == positions).then_some(Duration::ZERO))?;
        Some(self.first.known()? * positions + second * (positions - early))
    }

    /// What an answer would cost if the cloud made all of it.
    pub(super) fn cloud_only(&self, prompt: u32, tokens: u32) -> Option<CloudOnly> {
        self.cloud.answer(prompt, tokens, self.link.estimate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RunAhead;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Measured: 3 ms and 4 ms a position, answers after `round_trip`.
    fn outlook(round_trip: u64) -> Outlook {
        let mut outlook = Outlook::default();
        outlook.first_took(ms(3));
        outlook.second_took(ms(4));
        outlook.answered(ms(round_trip), None);
        outlook
    }

    fn pays(round_trip: u64, right: &[f32]) -> bool {
        RunAhead::WhilePaying(8).pays(right, outlook(round_trip).ahead(Time::default(), Time::default()))
    }

    #[test]
    fn far_clouds_make_running_ahead_pay_and_near_ones_only_for_good_guesses() {
        assert!(pays(80, &[0.1]), "a job that is done before the answer comes costs nothing");
        assert!(!pays(1, &[0.5]), "two milliseconds of delay against one of gain");
        assert!(pays(1, &[0.9]));
        assert!(!pays(80, &[0.9; 8]), "no more open asks than allowed");
        assert!(!pays(0, &[0.5]), "nothing to gain without a round trip");
    }

    #[test]
    fn an_engine_that_ends_useless_work_at_once_makes_it_cost_nothing() {
        let mut outlook = outlook(1);
        let pays =
            |outlook: &Outlook| RunAhead::WhilePaying(8).pays(&[0.3], outlook.ahead(Time::default(), Time::default()));
        assert!(!pays(&outlook));
        outlook.interrupted(Duration::from_micros(300));
        assert!(pays(&outlook));
    }

    #[test]
    fn what_the_cloud_had_to_catch_up_on_is_counted_apart() {
        let mut outlook = outlook(80);
        let cost = |delay, rows, compute| AskCost { delay: Some(ms(delay)), rows, compute: ms(compute) };
        outlook.asked(cost(30, 2, 10));
        outlook.asked(cost(20 + 100, 10, 100));
        assert_eq!(outlook.costs(), Costs { step: ms(7), ask: Some(ms(30)), catch_up: ms(10) });
        outlook.asked(AskCost { delay: None, ..cost(0, 100, 1000) });
        assert_eq!(outlook.costs().ask, Some(ms(30)), "a first ask says nothing about others");
    }

    #[test]
    fn what_the_edge_alone_would_take_is_its_own_work() {
        assert_eq!(outlook(80).edge_only(10, 4), Some(ms(10 * 3 + 6 * 4)));
        assert_eq!(Outlook::default().edge_only(10, 4), None);
    }
}
