//! How far a figure would move with other answers: percentile intervals by resampling whole answers.

use crate::quantile;

/// How to resample. The same settings give the same intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Times the answers are drawn anew.
    pub resamples: usize,
    /// Share of the resamples that an interval covers.
    pub confidence: f64,
    /// Names the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 1,000 resamples, 95 %.
    fn default() -> Self {
        Self { resamples: 1000, confidence: 0.95, seed: 0 }
    }
}

/// A figure, and between which numbers it lies with other answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The figure, of all answers.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Bootstrap {
    /// The interval of a statistic of `answers` answers. It is given how often each answer counts: once for the estimate, as often
    /// as it was drawn (perhaps never) in a resample. `None` where the estimate is `None`; resamples that are `None` are left out.
    pub fn interval(self, answers: usize, statistic: impl Fn(&[u32]) -> Option<f64>) -> Option<Interval> {
        let mut times = vec![1; answers];
        let estimate = statistic(&times)?;
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut drawn = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            times.fill(0);
            (0..answers).for_each(|_| times[random.usize(..answers)] += 1);
            drawn.extend(statistic(&times));
        }
        let outside = (1.0 - self.confidence) / 2.0;
        let end = |share| quantile(drawn.iter().copied(), share).unwrap_or(estimate);
        Some(Interval { estimate, low: end(outside), high: end(1.0 - outside) })
    }

    /// The interval of a ratio of sums: each answer brings a part and a whole. `None` where the whole is 0.
    pub fn ratio(self, answers: &[(f64, f64)]) -> Option<Interval> {
        self.interval(answers.len(), |times| {
            let sum = |part: fn(&(f64, f64)) -> f64| -> f64 {
                answers.iter().zip(times).map(|(answer, times)| part(answer) * f64::from(*times)).sum()
            };
            let whole = sum(|answer| answer.1);
            (whole != 0.0).then(|| sum(|answer| answer.0) / whole)
        })
    }

    /// The interval of a mean of one number an answer. `None` where there are no answers.
    pub fn mean(self, answers: &[f64]) -> Option<Interval> {
        let answers: Vec<(f64, f64)> = answers.iter().map(|value| (*value, 1.0)).collect();
        self.ratio(&answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_moves_by_its_standard_error() {
        // 0, 1, …, 99: standard deviation 28.87, of the mean 2.887, so 95 % within 5.66.
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let interval = Bootstrap { resamples: 4000, ..Bootstrap::default() }.mean(&values).expect("values");
        assert_eq!(interval.estimate, 49.5);
        assert!((interval.low - (49.5 - 5.66)).abs() < 0.5, "{interval:?}");
        assert!((interval.high - (49.5 + 5.66)).abs() < 0.5, "{interval:?}");
    }

    #[test]
    fn answers_are_drawn_whole() {
        // Ten answers, all right or all wrong: as uncertain as ten tokens, however long they are.
        let of_length = |length: f64| -> Vec<(f64, f64)> {
            (0..10).map(|answer| (if answer % 2 == 0 { length } else { 0.0 }, length)).collect()
        };
        let bootstrap = Bootstrap::default();
        assert_eq!(bootstrap.ratio(&of_length(1.0)), bootstrap.ratio(&of_length(1000.0)));
    }

    #[test]
    fn the_seed_names_the_interval() {
        let values: Vec<f64> = (0..30).map(|value| f64::from(value * value)).collect();
        let interval = |seed| Bootstrap { seed, ..Bootstrap::default() }.mean(&values);
        assert_eq!(interval(1), interval(1));
        assert_ne!(interval(1), interval(2));
    }

    #[test]
    fn no_answers_have_no_interval() {
        assert_eq!(Bootstrap::default().mean(&[]), None);
        assert_eq!(Bootstrap::default().ratio(&[(0.0, 0.0)]), None);
    }
}
