//! What a model would say next: its most likely tokens with their log-probabilities, and drawing from them.

use collm_core::distribution::Distribution;
use collm_core::ids::TokenId;

use crate::TuneError;
use crate::observe::most_likely;

/// The most likely tokens of one position, most likely first.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates {
    /// Token ids.
    pub ids: Vec<TokenId>,
    /// Natural logarithms of their probabilities, of the whole vocabulary.
    pub log_probabilities: Vec<f32>,
}

impl Candidates {
    /// The `count` most likely of a row of logits; ties go to the lower id.
    ///
    /// # Errors
    /// [`TuneError::Logits`] if one of them is no number or there are none.
    pub fn of(logits: &[f32], count: usize) -> Result<Self, TuneError> {
        most_likely(logits)?;
        let log_sum = Distribution::of(logits).log_sum_exp();
        let best = largest(logits, count);
        Ok(Self {
            log_probabilities: best.iter().map(|&token| logits[token as usize] - log_sum).collect(),
            ids: best.into_iter().map(TokenId).collect(),
        })
    }

    /// The most likely token.
    pub fn best(&self) -> TokenId {
        self.ids[0]
    }

    /// The probability of the most likely token.
    pub fn confidence(&self) -> f32 {
        self.log_probabilities[0].exp().min(1.0)
    }

    /// A token from those that together reach `top_p`, at `temperature`, chosen by `uniform` in `[0, 1)`.
    pub fn draw(&self, temperature: f32, top_p: f32, uniform: f32) -> TokenId {
        let mut reached = 0.0;
        let kept = self.log_probabilities.iter().take_while(|log_probability| {
            let more = reached < top_p;
            reached += log_probability.exp();
            more
        });
        let weights: Vec<f32> = kept.map(|log_probability| (log_probability / temperature).exp()).collect();
        let mut rest = uniform * weights.iter().sum::<f32>();
        let drawn = weights.iter().position(|weight| {
            rest -= weight;
            rest < 0.0
        });
        self.ids[drawn.unwrap_or(0)]
    }
}

/// Indexes of the `count` largest values, largest first.
fn largest(values: &[f32], count: usize) -> Vec<u32> {
    let order = |&a: &u32, &b: &u32| values[b as usize].total_cmp(&values[a as usize]).then(a.cmp(&b));
    let (mut kept, mut floor) = (Vec::with_capacity(2 * count), f32::NEG_INFINITY);
    for (index, &value) in (0..).zip(values) {
        if value <= floor {
            continue;
        }
        kept.push(index);
        if kept.len() == 2 * count {
            kept.select_nth_unstable_by(count - 1, order);
            kept.truncate(count);
            floor = values[kept[count - 1] as usize];
        }
    }
    kept.sort_unstable_by(order);
    kept.truncate(count);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_found_in_order_whatever_theirs() {
        let values: Vec<f32> = (0..1000).map(|index| (index * 7919 % 1009) as f32).collect();
        let mut expected: Vec<u32> = (0..1000).collect();
        expected.sort_by(|&a, &b| values[b as usize].total_cmp(&values[a as usize]));
        for count in [1, 3, 32, 1000] {
            assert_eq!(largest(&values, count), expected[..count]);
        }
        assert_eq!(largest(&[1.0, 5.0, 5.0, 5.0, 0.0, 5.0], 2), [1, 2]);
    }

    #[test]
    fn probabilities_are_of_the_whole_vocabulary() {
        let logits = [0.0, 3.0, 1.0, 2.0];
        let total: f32 = logits.iter().map(|logit: &f32| logit.exp()).sum();
        let candidates = Candidates::of(&logits, 2).unwrap();
        assert_eq!(candidates.ids, [TokenId(1), TokenId(3)]);
        for (log_probability, logit) in candidates.log_probabilities.iter().zip([3.0_f32, 2.0]) {
            assert!((log_probability.exp() - logit.exp() / total).abs() < 1e-5);
        }
        for damaged in [vec![], vec![1.0, f32::NAN], vec![f32::INFINITY]] {
            assert!(matches!(Candidates::of(&damaged, 2), Err(TuneError::Logits)), "{damaged:?}");
        }
    }

    #[test]
    fn draws_follow_temperature_and_stay_in_the_nucleus() {
        let candidates = Candidates::of(&[0.0, 3.0, 1.0, 2.0], 4).unwrap();
        let share = |temperature, top_p, token| {
            let draws = (0..1000).map(|step| candidates.draw(temperature, top_p, step as f32 / 1000.0));
            draws.filter(|drawn| *drawn == TokenId(token)).count()
        };
        assert!(share(1.0, 1.0, 1).abs_diff(644) < 5, "{}", share(1.0, 1.0, 1));
        assert!(share(0.5, 1.0, 1) > 800);
        assert_eq!(share(1.0, 0.6, 1), 1000);
        assert_eq!(share(1.0, 0.7, 0), 0);
    }
}
