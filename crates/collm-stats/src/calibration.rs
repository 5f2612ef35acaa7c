//! Whether a confidence of 0.8 is right eight times in ten.

use crate::Guess;

/// Guesses of neighbouring confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// How many.
    pub guesses: usize,
    /// What they said, on average.
    pub confidence: f64,
    /// The share that was right.
    pub right: f64,
}

/// At most `bins` bins of about equally many guesses, by rising confidence. Guesses of one confidence are never divided, so there
/// may be fewer.
pub fn reliability(guesses: &[Guess], bins: usize) -> Vec<Bin> {
    let mut sorted = guesses.to_vec();
    sorted.sort_by(|one, other| one.confidence.total_cmp(&other.confidence));
    let mut made = Vec::new();
    let mut rest = sorted.as_slice();
    while !rest.is_empty() {
        let left = bins.saturating_sub(made.len()).max(1);
        let aim = rest.len().div_ceil(left);
        let same = |guess: &&Guess| guess.confidence == rest[aim - 1].confidence;
        let (bin, more) = rest.split_at(aim + rest[aim..].iter().take_while(same).count());
        made.push(Bin::of(bin));
        rest = more;
    }
    made
}

impl Bin {
    fn of(guesses: &[Guess]) -> Self {
        let count = guesses.len() as f64;
        let confidence: f64 = guesses.iter().map(|guess| f64::from(guess.confidence)).sum();
        let right = guesses.iter().filter(|guess| guess.right).count() as f64;
        Self { guesses: guesses.len(), confidence: confidence / count, right: right / count }
    }
}

/// The mean distance between confidence and share of right guesses (ECE) over bins of equal mass; `None` without guesses.
pub fn expected_calibration_error(guesses: &[Guess], bins: usize) -> Option<f64> {
    let distance = |bin: Bin| bin.guesses as f64 * (bin.confidence - bin.right).abs();
    let sum: f64 = reliability(guesses, bins).into_iter().map(distance).sum();
    (!guesses.is_empty()).then(|| sum / guesses.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guesses(confidence: f32, right: usize, wrong: usize) -> Vec<Guess> {
        let outcomes = [true].repeat(right).into_iter().chain([false].repeat(wrong));
        outcomes.map(|right| Guess { confidence, right }).collect()
    }

    #[test]
    fn the_error_is_the_distance_from_the_diagonal() {
        let honest = [guesses(0.25, 1, 3), guesses(0.75, 3, 1)].concat();
        assert_eq!(expected_calibration_error(&honest, 2), Some(0.0));
        let proud = [guesses(0.5, 1, 3), guesses(1.0, 3, 1)].concat();
        assert_eq!(expected_calibration_error(&proud, 2), Some(0.25));
        assert_eq!(expected_calibration_error(&[], 10), None);
    }

    #[test]
    fn ties_stay_together() {
        let bins = reliability(&[guesses(0.1, 0, 1), guesses(0.5, 5, 4)].concat(), 5);
        assert_eq!(bins.iter().map(|bin| bin.guesses).collect::<Vec<_>>(), [10]);
        let bins = reliability(&[guesses(0.1, 0, 2), guesses(0.5, 5, 3)].concat(), 5);
        assert_eq!(bins.iter().map(|bin| bin.guesses).collect::<Vec<_>>(), [2, 8]);
    }

    proptest! {
        #[test]
        fn every_guess_is_in_a_bin(confidences in prop::collection::vec(0u8..30, 0..200), bins in 0usize..20) {
            let guesses: Vec<Guess> = confidences
                .iter()
                .map(|confidence| Guess { confidence: f32::from(*confidence) / 30.0, right: confidence % 2 == 0 })
                .collect();
            let made = reliability(&guesses, bins);
            prop_assert_eq!(made.iter().map(|bin| bin.guesses).sum::<usize>(), guesses.len());
            prop_assert!(made.len() <= bins.max(1));
            prop_assert!(made.is_sorted_by(|one, other| one.confidence < other.confidence));
        }
    }
}
