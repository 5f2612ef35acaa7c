//! Multiplication with a frozen matrix and its low-rank delta, which have been merged into one.

use std::sync::Arc;

use candle_core::Result;

use crate::dense::{Matrix, product};
use crate::lanes;

/// `y = x (W + b a)^T + bias` for states `x`, of which only `a` and `b` learn.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    /// `W + b a`, `[out, in]`, rounded to the tail's type if it is to be.
    pub(crate) merged: Matrix,
    pub(crate) bias: Option<Arc<[f32]>>,
    /// `[rank, in]`.
    pub(crate) a: Matrix,
    /// `[out, rank]`.
    pub(crate) b: Matrix,
}

impl Projection {
    pub(crate) fn forward(&self, states: &Matrix) -> Result<Matrix> {
        let mut result = product(states.view(), self.merged.view().transposed())?;
        if let Some(bias) = &self.bias {
            result.values_mut().chunks_exact_mut(bias.len()).for_each(|row| lanes::add(row, bias));
        }
        Ok(result)
    }

    /// The gradients of the states and of `a` and `b`. The latter never pass through one of `W`, which would cost as much
    /// as a whole forward pass.
    pub(crate) fn backward(&self, states: &Matrix, given: &Matrix) -> Result<(Matrix, [Matrix; 2])> {
        let (x, y) = (states.view(), given.view());
        let down = product(x, self.a.view().transposed())?;
        let up = product(y, self.b.view())?;
        let delta = [product(up.view().transposed(), x)?, product(y.transposed(), down.view())?];
        Ok((product(y, self.merged.view())?, delta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::checks::{check_gradients, random};

    #[test]
    fn gradients_are_slopes() {
        let (rows, input, output, rank) = (5, 6, 4, 2);
        let of = |inputs: &[Matrix]| {
            let (a, b) = (inputs[1].clone(), inputs[2].clone());
            let mut merged = product(b.view(), a.view()).unwrap();
            merged.add(&random(1, output, input));
            Projection { merged, bias: Some(Arc::from(vec![0.5; output])), a, b }
        };
        check_gradients(
            &[random(2, rows, input), random(3, rank, input), random(4, output, rank)],
            |inputs| of(inputs).forward(&inputs[0]).unwrap(),
            |inputs, given| {
                let (states, [a, b]) = of(inputs).backward(&inputs[0], given).unwrap();
                vec![states.into_values(), a.into_values(), b.into_values()]
            },
        );
    }
}
