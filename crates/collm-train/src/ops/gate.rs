//! The gated activation of the feed-forward network.

use crate::dense::Matrix;
use crate::lanes::exp;

/// What is done to the gate. Both are `x * sigmoid(inner(x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `inner(x) = x`.
    Silu,
    /// GELU by its tanh formula.
    Gelu,
}

/// `activation(gate) * up`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate(pub(crate) Activation);

/// Twice the root of 2 / pi, since `tanh(u) = 2 sigmoid(2u) - 1`.
const GELU_FACTOR: f32 = 1.595_769;
const GELU_CUBE: f32 = 0.044_715;

fn gelu_inner(x: f32) -> f32 {
    GELU_FACTOR * (x + GELU_CUBE * x * x * x)
}

fn gelu_inner_slope(x: f32) -> f32 {
    GELU_FACTOR * (1.0 + 3.0 * GELU_CUBE * x * x)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `values`, the gates, become the gated values.
#[inline(always)]
fn forward(values: &mut [f32], up: &[f32], inner: impl Fn(f32) -> f32) {
    for (value, up) in values.iter_mut().zip(up) {
        *value *= sigmoid(inner(*value)) * up;
    }
}

/// `to_gate` and `to_up`, both the given gradient, become those of the gate and of what it scales.
#[inline(always)]
fn backward(
    [gate, up]: [&[f32]; 2],
    [to_gate, to_up]: [&mut [f32]; 2],
    inner: impl Fn(f32) -> f32,
    slope: impl Fn(f32) -> f32,
) {
    for ((x, up), (to_gate, to_up)) in gate.iter().zip(up).zip(to_gate.iter_mut().zip(to_up)) {
        let open = sigmoid(inner(*x));
        *to_gate *= up * open * (1.0 + x * (1.0 - open) * slope(*x));
        *to_up *= x * open;
    }
}

impl Gate {
    pub(crate) fn forward(self, gate: &Matrix, up: &Matrix) -> Matrix {
        let mut result = gate.clone();
        match self.0 {
            Activation::Silu => forward(result.values_mut(), up.values(), |x| x),
            Activation::Gelu => forward(result.values_mut(), up.values(), gelu_inner),
        }
        result
    }

    /// The gradients of the gate and of what it scales.
    pub(crate) fn backward(self, gate: &Matrix, up: &Matrix, given: Matrix) -> [Matrix; 2] {
        let (mut to_gate, mut to_up) = (given.clone(), given);
        let inputs = [gate.values(), up.values()];
        let outputs = [to_gate.values_mut(), to_up.values_mut()];
        match self.0 {
            Activation::Silu => backward(inputs, outputs, |x| x, |_| 1.0),
            Activation::Gelu => backward(inputs, outputs, gelu_inner, gelu_inner_slope),
        }
        [to_gate, to_up]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::checks::{check_gradients, random};

    #[test]
    fn gradients_are_slopes() {
        for activation in [Activation::Silu, Activation::Gelu] {
            check_gradients(
                &[random(1, 3, 20), random(2, 3, 20)],
                |inputs| Gate(activation).forward(&inputs[0], &inputs[1]),
                |inputs, given| {
                    Gate(activation).backward(&inputs[0], &inputs[1], given.clone()).map(Matrix::into_values).into()
                },
            );
        }
    }

    #[test]
    fn activations_are_those_of_their_names() {
        let gates = Matrix::new(vec![-3.0, -0.5, 0.0, 1.0, 2.5], 5);
        let values = |activation| Gate(activation).forward(&gates, &Matrix::new(vec![1.0; 5], 5)).into_values();
        let close = |found: Vec<f32>, expected: [f32; 5]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(values(Activation::Silu), [-0.142_277_6, -0.188_770_3, 0.0, 0.731_058_6, 2.310_355]));
        assert!(close(values(Activation::Gelu), [-0.003_637_4, -0.154_286, 0.0, 0.841_192, 2.484_915_7]));
    }
}
