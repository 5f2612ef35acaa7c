//! What a head says about a token beside the token: log-probabilities.

use super::softmax::Softmax;
use crate::ids::TokenId;

/// A token and the natural logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogProb {
    /// The token.
    pub token: TokenId,
    /// Finite and at most 0.
    pub log_prob: f32,
}

/// Log-probabilities after a position, of the head's own distribution: before temperature, penalties, bias and filters, so that
/// they say what the model thinks and not how it was made to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct LogProbs {
    /// Of the token that was chosen, or asked about.
    pub own: f32,
    /// The most likely tokens, the likeliest first; as many as were asked for.
    pub top: Vec<LogProb>,
}

impl LogProbs {
    /// Of `token`, beside the `count` most likely ones, from logits that are finite.
    pub(super) fn of(logits: &[f32], token: usize, count: u32) -> Self {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = Softmax::of(logits, highest);
        let log_prob = |token: usize| LogProb {
            token: TokenId(token as u32),
            // Rounding must not make a probability of more than 1.
            log_prob: scale.log_probability(logits[token]).min(0.0),
        };
        let top = most_likely(logits, count as usize).into_iter().map(log_prob).collect();
        Self { own: log_prob(token).log_prob, top }
    }
}

/// Indexes of the `count` highest, the highest first, ties by index.
fn most_likely(logits: &[f32], count: usize) -> Vec<usize> {
    let mut top: Vec<usize> = Vec::with_capacity(count + 1);
    for (index, logit) in logits.iter().enumerate() {
        if top.len() < count || top.last().is_some_and(|&last| *logit > logits[last]) {
            let at = top.partition_point(|&other| logits[other] >= *logit);
            top.insert(at, index);
            top.truncate(count);
        }
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_likely_come_first_and_ties_by_id() {
        let logits = [1.0, 4.0, 2.0, 4.0, -9.0];
        assert_eq!(most_likely(&logits, 3), [1, 3, 2]);
        assert_eq!(most_likely(&logits, 9), [1, 3, 2, 0, 4]);
        assert_eq!(most_likely(&logits, 0), [0; 0]);
    }

    #[test]
    fn they_are_logarithms_of_a_distribution() {
        let logits = [1.0, 4.0, 2.0, -30.0];
        let told = LogProbs::of(&logits, 3, 4);
        let sum: f32 = told.top.iter().map(|entry| entry.log_prob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{told:?}");
        assert_eq!(told.top[3], LogProb { token: TokenId(3), log_prob: told.own });
        assert!((told.own + 34.2).abs() < 0.1, "small ones are not lost: {told:?}");
    }
}
