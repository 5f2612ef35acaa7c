//! What a row of logits says about how sure its head is: the numbers that measures of confidence and gates are made of.
//!
//! Computed in two passes, at a few microseconds for sixteen thousand logits, since every check pays for it.

use crate::sampling::softmax::exp;

/// Highest logits that are kept.
const HIGHEST: usize = 8;

/// Running values side by side, so that the compiler may use vectors; the order of additions is fixed all the same.
const LANES: usize = 16;

/// The highest logits of a row and the constants of its softmax.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distribution {
    /// Falling; a row of fewer logits repeats its lowest.
    highest: [f32; HIGHEST],
    /// Sum of `e^x` over all logits, `x` being how far a logit is above the highest; at least 1.
    sum: f32,
    /// Sum of `x e^x`.
    weighted: f32,
    count: usize,
}

impl Distribution {
    /// Of a row of finite logits. Of others the numbers mean nothing.
    pub fn of(logits: &[f32]) -> Self {
        let highest = highest(logits);
        let (mut sums, mut weighted) = ([0.0; LANES], [0.0; LANES]);
        let mut add = |lane: usize, logit: f32| {
            let (term, weight) = terms(logit - highest[0]);
            sums[lane] += term;
            weighted[lane] += weight;
        };
        let (groups, rest) = logits.as_chunks::<LANES>();
        for group in groups {
            (0..LANES).for_each(|lane| add(lane, group[lane]));
        }
        rest.iter().enumerate().for_each(|(lane, &logit)| add(lane, logit));
        let sum = sums.iter().sum::<f32>().max(1.0);
        Self { highest, sum, weighted: weighted.iter().sum(), count: logits.len() }
    }

    /// The logit of this rank, from 0 for the highest to 7.
    pub fn highest(&self, rank: usize) -> f32 {
        self.highest[rank]
    }

    /// `ln` of the sum of `e^logit`.
    pub fn log_sum_exp(&self) -> f32 {
        self.highest[0] + libm::logf(self.sum)
    }

    /// `ln` of the highest probability.
    pub fn highest_log_prob(&self) -> f32 {
        -libm::logf(self.sum)
    }

    /// In nats.
    pub fn entropy(&self) -> f32 {
        (libm::logf(self.sum) - self.weighted / self.sum).max(0.0)
    }

    /// The highest probability.
    pub fn max_prob(&self) -> f32 {
        1.0 / self.sum
    }

    /// How far the highest probability is ahead of the next.
    pub fn margin(&self) -> f32 {
        let next = if self.count > 1 { exp(self.highest[1] - self.highest[0]) } else { 0.0 };
        (1.0 - next) / self.sum
    }

    /// One less the share that the entropy has of its maximum.
    pub fn certainty(&self) -> f32 {
        if self.count < 2 {
            return 1.0;
        }
        (1.0 - self.entropy() / libm::logf(self.count as f32)).clamp(0.0, 1.0)
    }
}

/// `e^x` and `x e^x`. The product takes `x` no lower than the exponential does, so that it stays finite.
fn terms(x: f32) -> (f32, f32) {
    let term = exp(x);
    (term, x.max(-87.0) * term)
}

/// Of most groups of logits none is among the highest so far, which comparing them all at once tells.
fn highest(logits: &[f32]) -> [f32; HIGHEST] {
    let mut highest = [f32::NEG_INFINITY; HIGHEST];
    for group in logits.chunks(4 * LANES) {
        let lowest = highest[HIGHEST - 1];
        if group.iter().fold(false, |found, &logit| found | (logit > lowest)) {
            group.iter().for_each(|&logit| insert(&mut highest, logit));
        }
    }
    let filled = logits.len().min(HIGHEST);
    let lowest = filled.checked_sub(1).map_or(0.0, |last| highest[last]);
    highest[filled..].fill(lowest);
    highest
}

/// Puts a logit in its place, if it is higher than the last.
fn insert(highest: &mut [f32; HIGHEST], logit: f32) {
    if logit > highest[HIGHEST - 1] {
        let rank = highest.partition_point(|&higher| higher >= logit);
        highest[rank..].rotate_right(1);
        highest[rank] = logit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f32, expected: f64) {
        assert!((f64::from(found) - expected).abs() < 1e-5 * expected.abs().max(1.0), "{found} is not {expected}");
    }

    /// Everything again, the slow way.
    fn check(logits: &[f32]) {
        let found = Distribution::of(logits);
        let mut sorted: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let total: f64 = sorted.iter().map(|logit| (logit - sorted[0]).exp()).sum();
        let probabilities: Vec<f64> = sorted.iter().map(|logit| (logit - sorted[0]).exp() / total).collect();
        let entropy: f64 = probabilities.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
        for rank in 0..HIGHEST {
            assert_eq!(f64::from(found.highest(rank)), sorted[rank.min(sorted.len() - 1)], "rank {rank}");
        }
        close(found.log_sum_exp(), sorted[0] + total.ln());
        close(found.highest_log_prob(), probabilities[0].ln());
        close(found.entropy(), entropy);
        close(found.max_prob(), probabilities[0]);
        close(found.margin(), probabilities[0] - probabilities.get(1).unwrap_or(&0.0));
        let certainty = if logits.len() < 2 { 1.0 } else { 1.0 - entropy / (logits.len() as f64).ln() };
        close(found.certainty(), certainty);
    }

    #[test]
    fn rows_of_every_length_are_as_computed_slowly() {
        for count in [1, 2, 3, 7, 8, 9, 15, 16, 17, 64, 65, 500] {
            let wave = |index: usize| ((index * 7919 % 1009) as f32 * 0.37).sin() * 9.0 - 2.0;
            check(&(0..count).map(wave).collect::<Vec<_>>());
            let rising: Vec<f32> = (0..count).map(|index| index as f32).collect();
            check(&rising);
            check(&rising.iter().rev().copied().collect::<Vec<_>>());
            check(&vec![3.0; count]);
        }
    }

    #[test]
    fn numbers_of_extreme_rows_are_finite() {
        for logits in [vec![], vec![f32::MAX, f32::MIN], vec![f32::MIN; 40], vec![f32::MAX; 40]] {
            let d = Distribution::of(&logits);
            let numbers = [d.log_sum_exp(), d.highest_log_prob(), d.entropy(), d.max_prob(), d.margin(), d.certainty()];
            assert!(numbers.iter().all(|number| number.is_finite()), "{numbers:?}");
            assert!([d.max_prob(), d.margin(), d.certainty()].iter().all(|c| (0.0..=1.0).contains(c)), "{numbers:?}");
        }
    }
}
