//! Multiplication with a frozen matrix and its low-rank delta, which have been merged into one.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{Held, gradient};
use crate::dense::{View, product};

/// `y = x (W + b a)^T + bias` of a state `x` `[rows, in]` and the delta `a` `[rank, in]`, `b` `[out, rank]`. Only the inputs
/// get gradients.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    /// `W + b a`, `[out, in]`, rounded to the tail's type if it is to be.
    pub(crate) merged: Arc<CpuStorage>,
    pub(crate) bias: Option<Arc<[f32]>>,
    pub(crate) dims: [usize; 2],
}

impl Projection {
    fn weights(&self) -> View<'_> {
        View::new(&self.merged, self.dims[0], self.dims[1])
    }
}

impl CustomOp3 for Projection {
    fn name(&self) -> &'static str {
        "projection"
    }

    fn cpu_fwd(
        &self,
        states: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = self.dims[0];
        let mut values = product(View::of(states, layout)?, self.weights().transposed())?;
        if let Some(bias) = &self.bias {
            values.chunks_exact_mut(out).for_each(|row| crate::lanes::add(row, bias));
        }
        let rows = values.len() / out;
        Ok((CpuStorage::F32(values), (rows, out).into()))
    }

    /// The gradients of `a` and `b` never pass through one of `W`, which would cost as much as a whole forward pass.
    fn bwd(
        &self,
        states: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _result: &Tensor,
        given: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rank, rows) = (a.dim(0)?, states.dim(0)?);
        let (held_states, held_a, held_b, held_given) =
            (Held::new(states), Held::new(a), Held::new(b), Held::new(given));
        let (x, y) = (held_states.view()?, held_given.view()?);
        let down = CpuStorage::F32(product(x, held_a.view()?.transposed())?);
        let up = CpuStorage::F32(product(y, held_b.view()?)?);
        Ok((
            gradient(product(y, self.weights())?, states)?,
            gradient(product(View::new(&up, rows, rank).transposed(), x)?, a)?,
            gradient(product(y.transposed(), View::new(&down, rows, rank))?, b)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::checks::{check_gradients, random};

    #[test]
    fn gradients_are_slopes() {
        let (rows, input, output, rank) = (5, 6, 4, 2);
        let base = random(1, output, input);
        check_gradients(&[random(2, rows, input), random(3, rank, input), random(4, output, rank)], |inputs| {
            let merged = (base.as_tensor() + inputs[2].matmul(&inputs[1])?)?.flatten_all()?.to_vec1()?;
            let merged = Arc::new(CpuStorage::F32(merged));
            let bias = Some(Arc::from(vec![0.5; output]));
            inputs[0].apply_op3(&inputs[1], &inputs[2], Projection { merged, bias, dims: [output, input] })
        });
    }
}
