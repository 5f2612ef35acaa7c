//! Root-mean-square norm with a gain.

use crate::dense::Matrix;
use crate::lanes::dot;

/// Norm of every run of as many values as there are gains: of whole states, or of every head in them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RmsNorm {
    pub(crate) epsilon: f32,
}

impl RmsNorm {
    fn factor(self, values: &[f32]) -> f32 {
        1.0 / (dot(values, values) / values.len() as f32 + self.epsilon).sqrt()
    }

    pub(crate) fn forward(self, states: &Matrix, gain: &[f32]) -> Matrix {
        let mut normed = states.clone();
        for row in normed.values_mut().chunks_exact_mut(gain.len()) {
            let factor = self.factor(row);
            row.iter_mut().zip(gain).for_each(|(value, gain)| *value *= factor * gain);
        }
        normed
    }

    /// The gradients of the states and of the gain.
    pub(crate) fn backward(self, states: &Matrix, gains: &[f32], mut given: Matrix) -> (Matrix, Vec<f32>) {
        let width = gains.len();
        let mut to_gains = vec![0.0; width];
        for (x, row) in states.values().chunks_exact(width).zip(given.values_mut().chunks_exact_mut(width)) {
            let factor = self.factor(x);
            for ((to_gain, given), (x, gain)) in to_gains.iter_mut().zip(row.iter_mut()).zip(x.iter().zip(gains)) {
                *to_gain += *given * x * factor;
                *given *= gain;
            }
            let along = dot(row, x) * factor * factor / width as f32;
            row.iter_mut().zip(x).for_each(|(value, x)| *value = (*value - x * along) * factor);
        }
        (given, to_gains)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::checks::{check_gradients, random};

    #[test]
    fn gradients_are_slopes() {
        let norm = RmsNorm { epsilon: 1e-5 };
        check_gradients(
            &[random(1, 5, 12), random(2, 1, 4)],
            |inputs| norm.forward(&inputs[0], inputs[1].values()),
            |inputs, given| {
                let (states, gain) = norm.backward(&inputs[0], inputs[1].values(), given.clone());
                vec![states.into_values(), gain]
            },
        );
    }

    #[test]
    fn values_have_the_size_of_the_gain() {
        let normed = RmsNorm { epsilon: 0.0 }.forward(&random(1, 3, 8), &[2.0; 8]);
        for row in normed.values().chunks(8) {
            assert!((dot(row, row) / 8.0 - 4.0).abs() < 1e-4, "{row:?}");
        }
    }
}
