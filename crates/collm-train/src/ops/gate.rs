//! The gated activation of the feed-forward network.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{Held, floats, gradient};
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
const GELU_FACTOR: f32 = 1.595_769_1;
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

impl CustomOp2 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (mut values, up) = (floats(gate, layout)?.to_vec(), floats(up, up_layout)?);
        match self.0 {
            Activation::Silu => forward(&mut values, up, |x| x),
            Activation::Gelu => forward(&mut values, up, gelu_inner),
        }
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _result: &Tensor,
        given: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (held_gate, held_up, held_given) = (Held::new(gate), Held::new(up), Held::new(given));
        let given = held_given.floats()?;
        let (mut to_gate, mut to_up) = (given.to_vec(), given.to_vec());
        let inputs = [held_gate.floats()?, held_up.floats()?];
        let outputs = [to_gate.as_mut_slice(), to_up.as_mut_slice()];
        match self.0 {
            Activation::Silu => backward(inputs, outputs, |x| x, |_| 1.0),
            Activation::Gelu => backward(inputs, outputs, gelu_inner, gelu_inner_slope),
        }
        Ok((gradient(to_gate, gate)?, gradient(to_up, up)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::checks::{check_gradients, random};

    #[test]
    fn gradients_are_slopes() {
        for activation in [Activation::Silu, Activation::Gelu] {
            check_gradients(&[random(1, 3, 20), random(2, 3, 20)], |inputs| {
                inputs[0].apply_op2(&inputs[1], Gate(activation))
            });
        }
    }

    #[test]
    fn activations_are_those_of_their_names() {
        let values = |activation| {
            let input = random(1, 1, 30);
            let ones = input.ones_like().unwrap();
            let found = input.apply_op2(&ones, Gate(activation)).unwrap();
            let expected = if activation == Activation::Silu { input.silu() } else { input.gelu() };
            (found - expected.unwrap()).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
        };
        assert!(values(Activation::Silu) < 1e-6 && values(Activation::Gelu) < 1e-6);
    }
}
