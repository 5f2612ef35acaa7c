//! The lowest threshold that keeps a promise about errors, found without spoiling the promise by looking.
//!
//! Who tries many thresholds on one sample and takes the best that passes will be wrong more often than each test says. So the
//! thresholds are tested in an order fixed beforehand, from the highest down, each at full confidence, and the first that fails
//! ends the search: fixed-sequence testing, which keeps the probability of any false promise below `1 - confidence` (Maurer and
//! others, 1995; as "Learn then Test" in Angelopoulos and others, 2021). Order and starting point come from confidences alone,
//! never from which guesses were right.

use crate::{Guess, RiskCoverage, binomial};

/// Thresholds tested, at ranks evenly spaced among the guesses.
const STEPS: usize = 100;

/// What a threshold shall promise: decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    error_max: f64,
    confidence: f64,
}

/// A promise that nothing could keep, or that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{what} is {value}; it must lie between 0 and 1")]
pub struct TargetError {
    /// Which number.
    pub what: &'static str,
    /// What it is.
    pub value: f64,
}

/// A threshold, and what was seen of the guesses it emits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selection {
    /// Guesses of this confidence and more are emitted.
    pub threshold: f32,
    /// Upper bound, at the target's confidence, on the share of wrong guesses among the emitted.
    pub bound: f64,
    /// Guesses looked at.
    pub guesses: u64,
    /// Of them, emitted.
    pub emitted: u64,
    /// Of those, wrong.
    pub errors: u64,
}

/// No threshold keeps the promise.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("no threshold keeps the promise on {guesses} guesses")]
pub struct Unreachable {
    /// Guesses looked at.
    pub guesses: u64,
    /// The threshold with the lowest bound, of all that were in the sequence. For people: it was chosen by its outcome.
    pub best: Option<Selection>,
}

impl Target {
    /// At least `agreement` of the emitted guesses right, with `confidence`.
    ///
    /// # Errors
    /// Names the number that is not strictly between 0 and 1.
    pub fn new(agreement: f64, confidence: f64) -> Result<Self, TargetError> {
        for (what, value) in [("the agreement", agreement), ("the confidence", confidence)] {
            if !(value > 0.0 && value < 1.0) {
                return Err(TargetError { what, value });
            }
        }
        Ok(Self { error_max: 1.0 - agreement, confidence })
    }

    /// What each of `tries` promises is to be held to, so that the best of them keeps this one: each may fail so much more rarely
    /// (Bonferroni).
    #[must_use]
    pub fn best_of(self, tries: usize) -> Self {
        Self { confidence: 1.0 - (1.0 - self.confidence) / tries.max(1) as f64, ..self }
    }

    /// The largest share of errors among emitted guesses.
    pub fn error_max(self) -> f64 {
        self.error_max
    }

    /// How sure the promise is.
    pub fn confidence(self) -> f64 {
        self.confidence
    }

    /// The fewest guesses that could prove the target with half the errors it allows: fewer would fail for want of evidence.
    fn guesses_needed(self) -> usize {
        let proves = |guesses: u64| {
            let errors = (guesses as f64 * self.error_max / 2.0) as u64;
            binomial::upper_bound(errors, guesses, self.confidence) <= self.error_max
        };
        let mut guesses = 1;
        while !proves(guesses) {
            guesses += guesses.div_ceil(16);
        }
        usize::try_from(guesses).unwrap_or(usize::MAX)
    }
}

impl Selection {
    /// Share of the guesses that is emitted.
    pub fn coverage(&self) -> f64 {
        self.emitted as f64 / self.guesses as f64
    }

    fn of(threshold: f32, counts: &[(u64, u64)], guesses: u64, confidence: f64) -> Self {
        let (errors, emitted) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let bound = binomial::clustered_upper_bound(counts, confidence);
        Self { threshold, bound, guesses, emitted, errors }
    }
}

/// The lowest threshold reached by fixed-sequence testing whose emitted guesses keep `target`, from the guesses of `answers`. Errors
/// are bounded over answers ([`crate::clustered_upper_bound`]).
///
/// # Errors
/// When the first test fails, or there are too few guesses for a test; with the best figures seen.
pub fn select_threshold<A: AsRef<[Guess]>>(answers: &[A], target: Target) -> Result<Selection, Unreachable> {
    let risk = RiskCoverage::of(answers);
    let guesses = risk.guesses() as u64;
    let (mut selected, mut best, mut failed) = (None, None::<Selection>, false);
    risk.counts_at(&sequence(&risk, target), |threshold, counts| {
        let step = Selection::of(threshold, counts, guesses, target.confidence);
        failed |= step.bound > target.error_max;
        if !failed {
            selected = Some(step);
        }
        if best.is_none_or(|best| step.bound < best.bound) {
            best = Some(step);
        }
        // After the first failure with nothing selected, go on only to tell what could be reached.
        !(failed && selected.is_some())
    });
    selected.ok_or(Unreachable { guesses, best })
}

/// Falling thresholds, the first of which emits enough guesses for a test.
fn sequence(risk: &RiskCoverage, target: Target) -> Vec<f32> {
    let guesses = risk.guesses();
    let step = guesses.div_ceil(STEPS).max(1);
    let first = target.guesses_needed().max(step);
    let ranks = (first..guesses).step_by(step).chain([guesses]).filter(|&emitted| emitted >= first);
    let mut thresholds: Vec<f32> = ranks.filter_map(|emitted| risk.confidence_at(emitted.checked_sub(1)?)).collect();
    thresholds.dedup();
    thresholds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_several_is_held_to_a_surer_promise() {
        let target = Target::new(0.97, 0.95).unwrap();
        assert_eq!([target.best_of(0), target.best_of(1)].map(|one| (one.confidence() * 1e9).round()), [0.95e9; 2]);
        let one_of_four = target.best_of(4);
        assert!((one_of_four.confidence() - 0.9875).abs() < 1e-12, "{one_of_four:?}");
        assert_eq!(one_of_four.error_max(), target.error_max());
    }

    fn target(agreement: f64) -> Target {
        Target::new(agreement, 0.95).expect("a usable target")
    }

    /// `answers` answers of 20 guesses whose confidence is exactly how often they are right.
    fn honest(answers: usize, seed: u64) -> Vec<Vec<Guess>> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut guess = || {
            let confidence = random.f32();
            Guess { confidence, right: random.f32() < confidence }
        };
        (0..answers).map(|_| (0..20).map(|_| guess()).collect()).collect()
    }

    #[test]
    fn a_threshold_emits_what_it_says_and_keeps_the_bound() {
        let answers = honest(500, 1);
        let found = select_threshold(&answers, target(0.9)).expect("reachable");
        let emitted: Vec<Guess> =
            answers.concat().into_iter().filter(|guess| guess.confidence >= found.threshold).collect();
        let errors = emitted.iter().filter(|guess| !guess.right).count();
        assert_eq!((found.emitted, found.errors, found.guesses), (emitted.len() as u64, errors as u64, 10_000));
        // Above 0.8, nine of ten are right.
        assert!(found.bound <= 0.1 && (0.8..0.87).contains(&found.threshold), "{found:?}");
    }

    /// Over many samples, the true error of what is emitted exceeds the target about as rarely as promised.
    #[test]
    fn the_promise_holds_over_samples() {
        let broken = |seed| match select_threshold(&honest(100, seed), target(0.9)) {
            // Confidences are uniform, so the mean error above a threshold is half its distance from 1.
            Ok(found) => (1.0 - f64::from(found.threshold)) / 2.0 > 0.1,
            Err(_) => false,
        };
        let broken = (0..300).filter(|seed| broken(*seed)).count();
        assert!(broken <= 24, "5 % of 300 are 15, but {broken} promises were broken");
    }

    #[test]
    fn a_target_out_of_reach_is_refused_with_what_can_be_reached() {
        let wrong_now_and_then = |index: usize| Guess { confidence: 0.9, right: !index.is_multiple_of(10) };
        let answers = [(0..1000).map(wrong_now_and_then).collect::<Vec<_>>()];
        let refusal = select_threshold(&answers, target(0.97)).expect_err("ten per cent are wrong");
        let best = refusal.best.expect("one threshold was tested");
        assert_eq!((refusal.guesses, best.emitted, best.errors), (1000, 1000, 100));
        assert!(best.bound > 0.1);
    }

    #[test]
    fn too_little_text_proves_nothing() {
        let refusal = select_threshold(&[[Guess { confidence: 1.0, right: true }; 98]], target(0.97));
        assert_eq!(refusal, Err(Unreachable { guesses: 98, best: None }));
        assert_eq!(select_threshold::<Vec<Guess>>(&[], target(0.5)), Err(Unreachable { guesses: 0, best: None }));
    }

    #[test]
    fn the_search_stops_at_the_first_failure() {
        // The surest are right, the next always wrong, and the many after those right: lower thresholds would pass again.
        let band = |confidence: f32, right: bool, count: usize| vec![Guess { confidence, right }; count];
        let answers = [band(0.9, true, 1000), band(0.8, false, 400), band(0.7, true, 60_000)];
        let found = select_threshold(&answers, target(0.97)).expect("the surest pass");
        assert_eq!((found.threshold, found.emitted, found.errors), (0.9, 1000, 0));
    }

    #[test]
    fn promises_are_between_nothing_and_certainty() {
        for (agreement, confidence) in [(0.0, 0.95), (1.0, 0.95), (0.9, 1.0), (f64::NAN, 0.95)] {
            assert!(Target::new(agreement, confidence).is_err());
        }
    }
}
