//! Root-mean-square norm with a gain.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{Held, floats, gradient};
use crate::lanes::dot;

/// Norm of every run of as many values as there are gains `[1, width]`: of whole states, or of every head in them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RmsNorm {
    pub(crate) epsilon: f32,
}

impl RmsNorm {
    fn factor(self, values: &[f32]) -> f32 {
        1.0 / (dot(values, values) / values.len() as f32 + self.epsilon).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        states: &CpuStorage,
        layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let gain = floats(gain, gain_layout)?;
        let mut values = floats(states, layout)?.to_vec();
        for row in values.chunks_exact_mut(gain.len()) {
            let factor = self.factor(row);
            row.iter_mut().zip(gain).for_each(|(value, gain)| *value *= factor * gain);
        }
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(
        &self,
        states: &Tensor,
        gain: &Tensor,
        _result: &Tensor,
        given: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (held_states, held_gain, held_given) = (Held::new(states), Held::new(gain), Held::new(given));
        let (x, gains) = (held_states.floats()?, held_gain.floats()?);
        let width = gains.len();
        // First the gradient of the gained values; then, row by row, that of the states.
        let mut to_states = held_given.floats()?.to_vec();
        let mut to_gains = vec![0.0; width];
        for (x, row) in x.chunks_exact(width).zip(to_states.chunks_exact_mut(width)) {
            let factor = self.factor(x);
            for ((to_gain, given), (x, gain)) in to_gains.iter_mut().zip(row.iter_mut()).zip(x.iter().zip(gains)) {
                *to_gain += *given * x * factor;
                *given *= gain;
            }
            let along = dot(row, x) * factor * factor / width as f32;
            row.iter_mut().zip(x).for_each(|(value, x)| *value = (*value - x * along) * factor);
        }
        Ok((gradient(to_states, states)?, gradient(to_gains, gain)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::checks::{check_gradients, random};

    #[test]
    fn gradients_are_slopes() {
        check_gradients(&[random(1, 5, 12), random(2, 1, 4)], |inputs| {
            inputs[0].apply_op2(&inputs[1], RmsNorm { epsilon: 1e-5 })
        });
    }

    #[test]
    fn values_have_the_size_of_the_gain() {
        let (states, gain) = (random(1, 3, 8), random(2, 1, 8));
        let normed = states.apply_op2(&gain, RmsNorm { epsilon: 0.0 }).unwrap();
        let plain = normed.broadcast_div(&gain).unwrap().sqr().unwrap().mean(1).unwrap().to_vec1::<f32>().unwrap();
        assert!(plain.iter().all(|mean| (mean - 1.0).abs() < 1e-5), "{plain:?}");
    }
}
