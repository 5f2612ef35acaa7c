//! How high an error rate may be, seen some errors in some trials.

use statrs::function::beta::beta_reg;

/// Halvings of `[0, 1]`: to the last bit of a double.
const HALVINGS: usize = 60;

/// The highest error rate that is compatible with `errors` in `trials` independent trials, at one-sided `confidence` (0.95, say):
/// the exact bound of Clopper and Pearson (1934). 1 where nothing was tried, or all were errors.
pub fn upper_bound(errors: u64, trials: u64, confidence: f64) -> f64 {
    beta_bound(errors as f64, trials as f64, confidence)
}

/// The same for trials that come in answers, given as `(errors, trials)` each.
///
/// Errors of one answer come together, so that a hundred of its tokens tell less than a hundred tokens of a hundred answers. By
/// Korn and Graubard (1998) the exact bound is taken for the smaller number of independent trials that would have the variance
/// found between answers. Never below [`upper_bound`] of the sums: answers that happen to be alike are no proof of more.
pub fn clustered_upper_bound(answers: &[(u64, u64)], confidence: f64) -> f64 {
    let errors: u64 = answers.iter().map(|answer| answer.0).sum();
    let trials: u64 = answers.iter().map(|answer| answer.1).sum();
    let shrink = design_effect(answers, errors as f64, trials as f64).max(1.0);
    beta_bound(errors as f64 / shrink, trials as f64 / shrink, confidence)
}

/// How many times the variance of the error rate over answers is that of independent trials. 1 where it cannot be told.
fn design_effect(answers: &[(u64, u64)], errors: f64, trials: f64) -> f64 {
    let used = answers.iter().filter(|answer| answer.1 > 0).count() as f64;
    let rate = errors / trials;
    let independent = rate * (1.0 - rate) / trials;
    if used < 2.0 || independent.is_nan() || independent <= 0.0 {
        return 1.0;
    }
    let deviation = |&(errors, trials): &(u64, u64)| (errors as f64 - rate * trials as f64).powi(2);
    let between: f64 = answers.iter().map(deviation).sum::<f64>() / trials.powi(2);
    between * used / (used - 1.0) / independent
}

/// The rate at which no more than `errors` would be seen with probability `1 - confidence`: a quantile of the beta distribution
/// with `errors + 1` and `trials - errors`.
fn beta_bound(errors: f64, trials: f64, confidence: f64) -> f64 {
    let right = trials - errors;
    if right <= 0.0 || confidence >= 1.0 {
        return 1.0;
    }
    if confidence <= 0.0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if beta_reg(errors + 1.0, right, middle) < confidence { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_exact_bound_is_that_of_tables() {
        // Where the sum of the first binomial terms is 1 - confidence, found with fifty decimal digits.
        let cases = [
            (0, 10, 0.95, 0.258_865_550_893),
            (0, 99, 0.95, 0.029_806_673_773),
            (3, 100, 0.95, 0.075_710_793_749),
            (10, 1000, 0.95, 0.016_903_175_120),
            (5, 20, 0.975, 0.491_045_871_707),
        ];
        for (errors, trials, confidence, expected) in cases {
            let found = upper_bound(errors, trials, confidence);
            assert!((found - expected).abs() < 1e-11, "{errors} of {trials}: {found}");
        }
    }

    #[test]
    fn nothing_tried_promises_nothing() {
        assert_eq!(upper_bound(0, 0, 0.95), 1.0);
        assert_eq!(upper_bound(4, 4, 0.95), 1.0);
        assert_eq!(clustered_upper_bound(&[], 0.95), 1.0);
        assert_eq!(clustered_upper_bound(&[(0, 0), (0, 0)], 0.95), 1.0);
    }

    #[test]
    fn errors_that_come_together_count_for_less_evidence() {
        let spread = [(1, 20); 20];
        let together: Vec<(u64, u64)> = (0..20).map(|answer| (if answer == 0 { 20 } else { 0 }, 20)).collect();
        let independent = upper_bound(20, 400, 0.95);
        assert_eq!(clustered_upper_bound(&spread, 0.95), independent);
        assert!(clustered_upper_bound(&together, 0.95) > 2.0 * independent);
    }

    /// The bound has to hold at least as often as it says: every outcome that breaks it, weighted with its probability.
    #[test]
    fn the_bound_keeps_its_promise() {
        let (trials, confidence) = (60u64, 0.9);
        for percent in 1..40 {
            let rate = f64::from(percent) / 100.0;
            let mut probability = (1.0 - rate).powi(trials as i32);
            let mut broken = 0.0;
            for errors in 0..=trials {
                if upper_bound(errors, trials, confidence) < rate {
                    broken += probability;
                }
                probability *= (trials - errors) as f64 / (errors + 1) as f64 * rate / (1.0 - rate);
            }
            assert!(broken <= 1.0 - confidence + 1e-9, "rate {rate}: broken with probability {broken}");
        }
    }

    proptest! {
        #[test]
        fn a_bound_lies_above_what_was_seen(answers in prop::collection::vec((0u64..9, 0u64..30), 1..20)) {
            let answers: Vec<(u64, u64)> = answers.into_iter().map(|(errors, more)| (errors, errors + more)).collect();
            let (errors, trials) = answers.iter().fold((0, 0), |sum, answer| (sum.0 + answer.0, sum.1 + answer.1));
            let bound = clustered_upper_bound(&answers, 0.95);
            prop_assert!(bound <= 1.0 && bound >= upper_bound(errors, trials, 0.95) - 1e-12);
            prop_assert!(trials == 0 || bound >= errors as f64 / trials as f64);
        }
    }
}
