//! What an edge has measured about itself and its cloud: the figures that decide how far to run ahead.

use std::time::Duration;

use crate::{policy::Ahead, time::Time};

/// Confidences are pooled in so many classes.
const CLASSES: usize = 10;

/// Moving averages, shared by all sessions of an edge: they share the device and the link.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    first: Average,
    second: Average,
    round_trip: Average,
    guesses: [Tally; CLASSES],
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    right: u32,
    all: u32,
}

/// Exponential moving average; forgets half of what it knew after about five values.
#[derive(Debug, Default, Clone, Copy)]
struct Average(Option<Duration>);

impl Average {
    fn add(&mut self, value: Duration) {
        self.0 = Some(self.0.map_or(value, |average| (average * 7 + value) / 8));
    }

    fn value(self) -> Duration {
        self.0.unwrap_or_default()
    }
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

    /// An ask was answered after this long; its guess had this confidence and was right or not.
    pub(super) fn answered(&mut self, after: Duration, guess: Option<(f32, bool)>) {
        self.round_trip.add(after);
        if let Some((confidence, right)) = guess {
            let tally = &mut self.guesses[class(confidence)];
            tally.all += 1;
            tally.right += u32::from(right);
        }
    }

    /// How likely a guess of this confidence is right: what was seen, leaning on the confidence itself while little was.
    pub(super) fn likely(&self, confidence: f32) -> f32 {
        const PRIOR_WEIGHT: f32 = 4.0;
        let tally = self.guesses[class(confidence)];
        (tally.right as f32 + PRIOR_WEIGHT * confidence) / (tally.all as f32 + PRIOR_WEIGHT)
    }

    /// What running ahead means now, if the oldest open ask was sent at `since`.
    pub(super) fn ahead(&self, since: Time, now: Time) -> Ahead {
        Ahead {
            answer_in: self.round_trip.value().saturating_sub(now - since),
            step: self.first.value() + self.second.value(),
            job: self.first.value(),
        }
    }
}

fn class(confidence: f32) -> usize {
    ((confidence * CLASSES as f32) as usize).min(CLASSES - 1)
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
        assert!(pays(80, &[0.1]), "an interruptible job costs nothing when the answer is far away");
        assert!(!pays(1, &[0.5]), "two milliseconds of delay against one of gain");
        assert!(pays(1, &[0.9]));
        assert!(!pays(80, &[0.9; 8]), "no more open asks than allowed");
        assert!(!pays(0, &[0.5]), "nothing to gain without a round trip");
    }

    #[test]
    fn what_was_seen_outweighs_the_confidence() {
        let mut outlook = Outlook::default();
        assert_eq!(outlook.likely(0.35), 0.35);
        for _ in 0..100 {
            outlook.answered(ms(1), Some((0.35, true)));
        }
        assert!(outlook.likely(0.35) > 0.95);
        assert_eq!(outlook.likely(0.75), 0.75, "other classes are untouched");
    }
}
