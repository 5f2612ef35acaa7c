//! The gate of an exit, computed: from what its check saw to a calibrated confidence.
//!
//! Plain `f32` code of a few thousand multiplications, beside a check of millions. Fitting uses [`features`] too, so that what was
//! fitted is what is computed. Deliberately absent: files, thresholds.

use collm_core::{
    distribution::Distribution,
    gate::{GATE_SCALARS, GateLook, GateWeights},
    ids::Position,
};

/// A gate whose weights fit one another and a width of hidden states.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    weights: GateWeights,
}

/// Why weights make no gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// Matrices and vectors do not fit one another or the model.
    #[error("the gate's {name} has {found} values and not {expected}; fit the gate again")]
    Length {
        /// Which of the weights.
        name: &'static str,
        /// Values it has.
        found: usize,
        /// Values it should have.
        expected: usize,
    },
    /// A weight is no number.
    #[error("a weight of the gate is not finite; fit the gate again")]
    NotFinite,
    /// The calibration is no function of the score that rises.
    #[error("the gate's calibration is empty, falls, or leaves 0 to 1; calibrate it again")]
    Calibration,
}

/// The scalar features of the gate: see [`GATE_SCALARS`]. Finite for finite logits.
pub fn features(logits: &[f32], position: Position) -> [f32; GATE_SCALARS] {
    features_of(&Distribution::of(logits), position)
}

/// [`features`] of a row that was looked at already.
pub(crate) fn features_of(distribution: &Distribution, position: Position) -> [f32; GATE_SCALARS] {
    let highest = distribution.highest(0);
    // Differences of the largest numbers overflow; the largest number says as much.
    let ahead_of = |rank| (highest - distribution.highest(rank)).min(f32::MAX);
    [
        highest,
        distribution.highest_log_prob(),
        ahead_of(1),
        ahead_of(2),
        ahead_of(7),
        distribution.log_sum_exp(),
        distribution.entropy(),
        libm::log1pf(position.0 as f32),
    ]
}

impl Gate {
    /// The gate of an exit whose states are `width` wide.
    ///
    /// # Errors
    /// When the weights do not fit together, or are no numbers.
    pub fn new(weights: GateWeights, width: usize) -> Result<Self, GateError> {
        let (hidden, inputs) = (weights.hidden(), weights.inputs());
        let look = weights.look.as_ref();
        let lengths = [
            ("look", look.map_or(0, |look| look.weight.len()), look.map_or(0, |look| look.rank * width)),
            ("mean", weights.mean.len(), GATE_SCALARS),
            ("scale", weights.scale.len(), GATE_SCALARS),
            ("up matrix", weights.up.len(), hidden * inputs),
            ("down vector", weights.down.len(), hidden),
        ];
        if let Some((name, found, expected)) = lengths.into_iter().find(|(_, found, expected)| found != expected) {
            return Err(GateError::Length { name, found, expected });
        }
        if !all_finite(&weights) {
            return Err(GateError::NotFinite);
        }
        if !is_rising(&weights.calibration) {
            return Err(GateError::Calibration);
        }
        Ok(Self { weights })
    }

    /// How likely the guess is the whole model's token, in `[0, 1]`. `state` is what the LM head read. Numbers too large to compute
    /// with, which no fitted gate sees, are no reason to be sure: 0.
    pub fn confidence(&self, state: &[f32], features: &[f32; GATE_SCALARS]) -> f32 {
        let score = self.score(state, features);
        if score.is_finite() { calibrated(&self.weights.calibration, score) } else { 0.0 }
    }

    /// What the calibration is fitted to. Finite unless numbers are too large to compute with.
    pub fn score(&self, state: &[f32], features: &[f32; GATE_SCALARS]) -> f32 {
        let weights = &self.weights;
        let mut inputs = Vec::with_capacity(weights.inputs());
        if let Some(GateLook { weight, .. }) = &weights.look {
            inputs.extend(weight.chunks_exact(state.len().max(1)).map(|row| dot(row, state)));
        }
        let standards = weights.mean.iter().zip(&weights.scale);
        inputs.extend(features.iter().zip(standards).map(|(feature, (mean, scale))| (feature - mean) * scale));
        let rows = weights.up.chunks_exact(inputs.len());
        let inner = rows.zip(&weights.up_bias).map(|(row, bias)| silu(dot(row, &inputs) + bias));
        inner.zip(&weights.down).map(|(value, down)| value * down).sum::<f32>() + weights.down_bias
    }
}

fn all_finite(weights: &GateWeights) -> bool {
    let look = weights.look.as_ref().map_or(&[][..], |look| &look.weight);
    let GateWeights { mean, scale, up, up_bias, down, down_bias, .. } = weights;
    let parts = [look, mean, scale, up, up_bias, down, std::slice::from_ref(down_bias)];
    parts.into_iter().flatten().all(|weight| weight.is_finite())
}

/// At least one point; finite scores that rise, probabilities that do not fall.
fn is_rising(calibration: &[(f32, f32)]) -> bool {
    !calibration.is_empty()
        && calibration.iter().all(|(score, probability)| score.is_finite() && (0.0..=1.0).contains(probability))
        && calibration.is_sorted_by(|before, after| before.0 < after.0 && before.1 <= after.1)
}

/// Linear between the points, constant outside.
fn calibrated(calibration: &[(f32, f32)], score: f32) -> f32 {
    let above = calibration.partition_point(|point| point.0 <= score);
    match (above.checked_sub(1).map(|below| calibration[below]), calibration.get(above)) {
        (Some(below), Some(above)) => {
            // Halves, since the difference of the largest numbers overflows.
            let share = (score / 2.0 - below.0 / 2.0) / (above.0 / 2.0 - below.0 / 2.0);
            (below.1 + share * (above.1 - below.1)).clamp(below.1, above.1)
        }
        (Some(last), None) => last.1,
        (None, first) => first.map_or(0.0, |first| first.1),
    }
}

fn silu(x: f32) -> f32 {
    x / (1.0 + libm::expf(-x))
}

/// Sixteen running sums, so that the compiler may use vectors; the order of additions is fixed all the same.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDTH: usize = 3;

    /// Looks at two directions of the state, and has two inner values.
    fn weights() -> GateWeights {
        let mut up = vec![0.0; 2 * 10];
        // The first inner value: twice the first look and the lead over the runner-up; the second: the second look, less one.
        (up[0], up[2 + 2], up[10 + 1]) = (2.0, 1.0, 1.0);
        GateWeights {
            look: Some(GateLook { rank: 2, weight: vec![1.0, 0.0, 0.0, 0.0, 1.0, 1.0] }),
            mean: vec![0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            scale: vec![1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0],
            up,
            up_bias: vec![0.0, -1.0],
            down: vec![1.0, -2.0],
            down_bias: 0.25,
            calibration: vec![(0.0, 0.1), (2.0, 0.5), (4.0, 0.9)],
        }
    }

    #[test]
    fn features_are_what_the_format_says() {
        let logits = [1.0, 4.0, 2.0, 3.0, -1.0, 0.0, -2.0, -3.0, -9.0];
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let probability = |logit: f32| f64::from(logit).exp() / total;
        let entropy: f64 = logits.iter().map(|&logit| -probability(logit) * probability(logit).ln()).sum();
        let expected = [4.0, 4.0 - total.ln(), 1.0, 2.0, 7.0, total.ln(), entropy, 10f64.ln()];
        for (found, expected) in features(&logits, Position(9)).into_iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() < 1e-5, "{found} is not {expected}");
        }
    }

    #[test]
    fn a_score_is_as_computed_by_hand() {
        let gate = Gate::new(weights(), WIDTH).unwrap();
        let mut features = [0.0; GATE_SCALARS];
        features[2] = 3.0;
        // Looks (0.5, 2); the lead becomes (3 - 1) / 2 = 1; inner values 2 * 0.5 + 1 = 2 and 2 - 1 = 1.
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let score = silu(2.0) - 2.0 * silu(1.0) + 0.25;
        assert!((f64::from(gate.score(&[0.5, 3.0, -1.0], &features)) - score).abs() < 1e-6);
        let confidence = 0.1 + score / 2.0 * 0.4;
        assert!((f64::from(gate.confidence(&[0.5, 3.0, -1.0], &features)) - confidence).abs() < 1e-6);
    }

    #[test]
    fn a_calibration_is_linear_between_its_points_and_constant_outside() {
        let calibration = weights().calibration;
        for (score, expected) in [(-9.0, 0.1), (0.0, 0.1), (1.0, 0.3), (2.0, 0.5), (3.5, 0.8), (4.0, 0.9), (1e9, 0.9)] {
            assert!((calibrated(&calibration, score) - expected).abs() < 1e-6, "{score}");
        }
        assert_eq!(calibrated(&[(f32::MIN, 0.0), (f32::MAX, 1.0)], 0.0), 0.5);
        assert_eq!(calibrated(&[(5.0, 0.7)], 4.0), 0.7);
    }

    #[test]
    fn weights_that_do_not_fit_are_named() {
        let refused = |change: fn(&mut GateWeights)| {
            let mut weights = weights();
            change(&mut weights);
            Gate::new(weights, WIDTH).unwrap_err()
        };
        let length = |name, found, expected| GateError::Length { name, found, expected };
        assert_eq!(refused(|w| w.mean.truncate(7)), length("mean", 7, 8));
        assert_eq!(refused(|w| w.up.truncate(18)), length("up matrix", 18, 20));
        assert_eq!(refused(|w| w.look = None), length("up matrix", 20, 16));
        assert_eq!(refused(|w| w.down[0] = f32::NAN), GateError::NotFinite);
        assert_eq!(refused(|w| w.calibration.clear()), GateError::Calibration);
        assert_eq!(refused(|w| w.calibration[1].0 = 0.0), GateError::Calibration);
        assert_eq!(refused(|w| w.calibration[2].1 = 1.5), GateError::Calibration);
        assert_eq!(Gate::new(weights(), 4), Err(length("look", 6, 8)));
    }

    fn any_finite() -> impl Strategy<Value = f32> {
        prop_oneof![
            -30.0..30.0f32,
            any::<f32>().prop_map(|value| if value.is_finite() { value } else { f32::MAX }),
            Just(f32::MIN),
        ]
    }

    fn any_weights() -> impl Strategy<Value = GateWeights> {
        let vector = |length| prop::collection::vec(any_finite(), length);
        let probability = (0.0..=1.0f32, any_finite(), any_finite());
        (vector(2 * WIDTH), vector(8), vector(8), vector(20), vector(2), vector(2), any_finite(), probability).prop_map(
            |(look, mean, scale, up, up_bias, down, down_bias, (low, a, b))| GateWeights {
                look: Some(GateLook { rank: 2, weight: look }),
                mean,
                scale,
                up,
                up_bias,
                down,
                down_bias,
                calibration: if a < b { vec![(a, low), (b, 1.0)] } else { vec![(a, low)] },
            },
        )
    }

    proptest! {
        #[test]
        fn features_of_finite_logits_are_finite(logits in prop::collection::vec(any_finite(), 1..100), position: u32) {
            let features = features(&logits, Position(position));
            prop_assert!(features.iter().all(|feature| feature.is_finite()), "{features:?}");
        }

        #[test]
        fn a_confidence_is_between_0_and_1(
            weights in any_weights(),
            logits in prop::collection::vec(any_finite(), 1..100),
            state in prop::collection::vec(any_finite(), WIDTH),
        ) {
            let gate = Gate::new(weights, WIDTH).unwrap();
            let confidence = gate.confidence(&state, &features(&logits, Position(3)));
            prop_assert!((0.0..=1.0).contains(&confidence), "{confidence}");
        }
    }
}
