//! How much may be emitted at which error: the risk-coverage curve (El-Yaniv and Wiener, 2010).

use crate::Guess;

/// Guesses of some answers by falling confidence.
#[derive(Debug, Clone)]
pub struct RiskCoverage {
    ranked: Vec<Ranked>,
    answers: usize,
}

#[derive(Debug, Clone, Copy)]
struct Ranked {
    guess: Guess,
    answer: usize,
}

/// What a threshold does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskPoint {
    /// Guesses of this confidence and more are emitted.
    pub threshold: f32,
    /// Share of all guesses that is emitted.
    pub coverage: f64,
    /// Share of the emitted ones that is wrong.
    pub error: f64,
}

impl RiskCoverage {
    /// Of these answers, each with its guesses.
    pub fn of<A: AsRef<[Guess]>>(answers: &[A]) -> Self {
        let of_answer = |(answer, guesses): (usize, &A)| {
            guesses.as_ref().iter().map(move |&guess| Ranked { guess, answer }).collect()
        };
        let mut ranked: Vec<Ranked> =
            answers.iter().enumerate().flat_map(|entry| -> Vec<Ranked> { of_answer(entry) }).collect();
        ranked.sort_by(|one, other| other.guess.confidence.total_cmp(&one.guess.confidence));
        Self { ranked, answers: answers.len() }
    }

    /// How many answers.
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// A point for every confidence that occurs, by falling threshold. Guesses of one confidence are emitted together or not at all.
    pub fn curve(&self) -> Vec<RiskPoint> {
        self.weighted_curve(&vec![1; self.answers])
    }

    /// The largest share that can be emitted with at most this share of errors; 0 if none can.
    pub fn coverage_at(&self, error_max: f64) -> f64 {
        largest_coverage(&self.curve(), error_max)
    }

    /// The same with each answer counted so many times (see [`crate::Bootstrap::interval`]).
    pub fn weighted_coverage_at(&self, error_max: f64, times: &[u32]) -> f64 {
        largest_coverage(&self.weighted_curve(times), error_max)
    }

    fn weighted_curve(&self, times: &[u32]) -> Vec<RiskPoint> {
        let of = |ranked: &Ranked| f64::from(times[ranked.answer]);
        let all: f64 = self.ranked.iter().map(of).sum();
        let (mut emitted, mut wrong) = (0.0, 0.0);
        let mut points = Vec::new();
        for same in self.ranked.chunk_by(|one, other| one.guess.confidence == other.guess.confidence) {
            emitted += same.iter().map(of).sum::<f64>();
            wrong += same.iter().filter(|ranked| !ranked.guess.right).map(of).sum::<f64>();
            if emitted > 0.0 {
                let threshold = same[0].guess.confidence;
                points.push(RiskPoint { threshold, coverage: emitted / all, error: wrong / emitted });
            }
        }
        points
    }

    /// For each threshold of a falling sequence, `(errors, emitted)` of every answer.
    pub(crate) fn counts_at(&self, thresholds: &[f32], mut visit: impl FnMut(f32, &[(u64, u64)]) -> bool) {
        let mut counts = vec![(0, 0); self.answers];
        let mut rest = self.ranked.iter().peekable();
        for &threshold in thresholds {
            while let Some(ranked) = rest.next_if(|ranked| ranked.guess.confidence >= threshold) {
                let (errors, emitted) = &mut counts[ranked.answer];
                *errors += u64::from(!ranked.guess.right);
                *emitted += 1;
            }
            if !visit(threshold, &counts) {
                return;
            }
        }
    }

    /// The confidence of the guess at this rank, the surest first.
    pub(crate) fn confidence_at(&self, rank: usize) -> Option<f32> {
        self.ranked.get(rank).map(|ranked| ranked.guess.confidence)
    }

    /// How many guesses.
    pub(crate) fn guesses(&self) -> usize {
        self.ranked.len()
    }
}

fn largest_coverage(curve: &[RiskPoint], error_max: f64) -> f64 {
    let allowed = curve.iter().rev().find(|point| point.error <= error_max);
    allowed.map_or(0.0, |point| point.coverage)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guess(confidence: f32, right: bool) -> Guess {
        Guess { confidence, right }
    }

    #[test]
    fn the_curve_counts_from_the_surest_on() {
        let answers = [vec![guess(0.9, true), guess(0.2, false)], vec![guess(0.8, false), guess(0.6, true)]];
        let risk = RiskCoverage::of(&answers);
        let expected = [(0.9, 0.25, 0.0), (0.8, 0.5, 0.5), (0.6, 0.75, 1.0 / 3.0), (0.2, 1.0, 0.5)];
        let expected = expected.map(|(threshold, coverage, error)| RiskPoint { threshold, coverage, error });
        assert_eq!(risk.curve(), expected);
        for (error, coverage) in [(0.0, 0.25), (0.34, 0.75), (0.5, 1.0)] {
            assert_eq!(risk.coverage_at(error), coverage);
        }
        // Without the second answer.
        assert_eq!(risk.weighted_coverage_at(0.0, &[3, 0]), 0.5);
    }

    #[test]
    fn ties_are_emitted_together() {
        let risk = RiskCoverage::of(&[[guess(0.9, true), guess(0.9, false)]]);
        assert_eq!(risk.curve(), [RiskPoint { threshold: 0.9, coverage: 1.0, error: 0.5 }]);
        assert_eq!(risk.coverage_at(0.1), 0.0);
    }

    #[test]
    fn nothing_has_no_curve() {
        let risk = RiskCoverage::of::<Vec<Guess>>(&[]);
        assert_eq!((risk.curve(), risk.coverage_at(0.5)), (vec![], 0.0));
    }

    proptest! {
        #[test]
        fn a_threshold_of_the_curve_does_what_it_says(
            answers in prop::collection::vec(prop::collection::vec((0u8..10, any::<bool>()), 0..12), 1..6),
        ) {
            let answers: Vec<Vec<Guess>> = answers
                .into_iter()
                .map(|guesses| guesses.into_iter().map(|(tenths, right)| guess(f32::from(tenths) / 10.0, right)).collect())
                .collect();
            let all: Vec<Guess> = answers.concat();
            for point in RiskCoverage::of(&answers).curve() {
                let emitted: Vec<&Guess> = all.iter().filter(|guess| guess.confidence >= point.threshold).collect();
                let wrong = emitted.iter().filter(|guess| !guess.right).count();
                prop_assert_eq!(point.coverage, emitted.len() as f64 / all.len() as f64);
                prop_assert_eq!(point.error, wrong as f64 / emitted.len() as f64);
            }
        }
    }
}
