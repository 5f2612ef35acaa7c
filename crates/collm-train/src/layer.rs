//! One layer of any family, there and back.
//!
//! candle's tape holds a layer as a single operation: between its own operations the tape would add every gradient to zeros, in
//! passes that it spreads over threads which then wait for one another.

use std::sync::Arc;

use candle_core::Result;

use crate::dense::Matrix;
use crate::ops::{Attention, Gate, Projection, RmsNorm};

/// The matrices of a layer, in the order in which a state meets them.
pub(crate) const MATRICES: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
const QUERY: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;
const ATTENTION_OUT: usize = 3;
const GATE: usize = 4;
const UP: usize = 5;
const DOWN: usize = 6;

/// The gains of a layer, in the same order; which of them a layer has depends on the family.
pub(crate) const GAINS: [&str; 6] = [
    "attn_norm.weight",
    "attn_q_norm.weight",
    "attn_k_norm.weight",
    "post_attention_norm.weight",
    "ffn_norm.weight",
    "post_ffw_norm.weight",
];
const ATTENTION_NORM: usize = 0;
const QUERY_NORM: usize = 1;
const KEY_NORM: usize = 2;
const ATTENTION_POST_NORM: usize = 3;
const FFN_NORM: usize = 4;
const FFN_POST_NORM: usize = 5;

/// The weights of a layer as they are in one step.
#[derive(Debug, Clone)]
pub(crate) struct LayerWeights {
    /// As [`MATRICES`].
    pub(crate) projections: Vec<Projection>,
    /// As [`GAINS`].
    pub(crate) gains: Vec<Option<Vec<f32>>>,
}

/// A layer that runs over some sequences.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) weights: Arc<LayerWeights>,
    pub(crate) attention: Attention,
    pub(crate) norm: RmsNorm,
    pub(crate) gate: Gate,
}

/// What the way back needs of the way there.
#[derive(Debug)]
pub(crate) struct Trace {
    states: Matrix,
    attention_in: Matrix,
    queries: Normed,
    keys: Normed,
    values: Matrix,
    attended: Matrix,
    attention_out: Normed,
    middle: Matrix,
    ffn_in: Matrix,
    gate: Matrix,
    up: Matrix,
    gated: Matrix,
    ffn_out: Normed,
}

/// Values before a norm and, where the family has it, after.
#[derive(Debug)]
struct Normed {
    before: Matrix,
    after: Option<Matrix>,
}

impl Normed {
    fn result(&self) -> &Matrix {
        self.after.as_ref().unwrap_or(&self.before)
    }
}

/// The gradients of a layer's parameters.
struct Gradients {
    deltas: [Option<[Matrix; 2]>; MATRICES.len()],
    gains: [Option<Vec<f32>>; GAINS.len()],
}

impl Gradients {
    /// One after another, in the order of [`MATRICES`] (`a` before `b`) and [`GAINS`].
    fn flat(self) -> Vec<f32> {
        let deltas = self.deltas.into_iter().flatten().flatten().flat_map(Matrix::into_values);
        deltas.chain(self.gains.into_iter().flatten().flatten()).collect()
    }
}

impl Layer {
    /// The states after the layer, and what led there.
    pub(crate) fn forward(&self, states: Matrix) -> Result<(Matrix, Trace)> {
        let attention_in = self.norm.forward(&states, self.gain(ATTENTION_NORM));
        let queries = self.normed(self.project(QUERY, &attention_in)?, QUERY_NORM);
        let keys = self.normed(self.project(KEY, &attention_in)?, KEY_NORM);
        let values = self.project(VALUE, &attention_in)?;
        let attended = self.attention.forward(queries.result(), keys.result(), &values)?;
        let attention_out = self.normed(self.project(ATTENTION_OUT, &attended)?, ATTENTION_POST_NORM);
        let mut middle = states.clone();
        middle.add(attention_out.result());
        let ffn_in = self.norm.forward(&middle, self.gain(FFN_NORM));
        let (gate, up) = (self.project(GATE, &ffn_in)?, self.project(UP, &ffn_in)?);
        let gated = self.gate.forward(&gate, &up);
        let ffn_out = self.normed(self.project(DOWN, &gated)?, FFN_POST_NORM);
        let mut result = middle.clone();
        result.add(ffn_out.result());
        #[rustfmt::skip]
        let trace = Trace {
            states, attention_in, queries, keys, values, attended, attention_out, middle, ffn_in, gate, up, gated, ffn_out,
        };
        Ok((result, trace))
    }

    /// From the gradient of the states after the layer to those of the states before it, and of the parameters one after another.
    pub(crate) fn backward(&self, trace: &Trace, given: &Matrix) -> Result<(Matrix, Vec<f32>)> {
        let mut gradients =
            Gradients { deltas: [const { None }; MATRICES.len()], gains: [const { None }; GAINS.len()] };
        let to_middle = self.through_feed_forward(trace, given, &mut gradients)?;
        let to_states = self.through_attention(trace, &to_middle, &mut gradients)?;
        Ok((to_states, gradients.flat()))
    }

    fn through_feed_forward(&self, trace: &Trace, given: &Matrix, gradients: &mut Gradients) -> Result<Matrix> {
        let to_down = self.through_normed(FFN_POST_NORM, &trace.ffn_out, given.clone(), gradients);
        let to_gated = self.through_projection(DOWN, &trace.gated, &to_down, gradients)?;
        let [to_gate, to_up] = self.gate.backward(&trace.gate, &trace.up, to_gated);
        let mut to_in = self.through_projection(GATE, &trace.ffn_in, &to_gate, gradients)?;
        to_in.add(&self.through_projection(UP, &trace.ffn_in, &to_up, gradients)?);
        let mut to_middle = self.through_norm(FFN_NORM, &trace.middle, to_in, gradients);
        to_middle.add(given);
        Ok(to_middle)
    }

    fn through_attention(&self, trace: &Trace, given: &Matrix, gradients: &mut Gradients) -> Result<Matrix> {
        let to_out = self.through_normed(ATTENTION_POST_NORM, &trace.attention_out, given.clone(), gradients);
        let to_attended = self.through_projection(ATTENTION_OUT, &trace.attended, &to_out, gradients)?;
        let (queries, keys) = (trace.queries.result(), trace.keys.result());
        let [to_queries, to_keys, to_values] = self.attention.backward(queries, keys, &trace.values, &to_attended)?;
        let to_queries = self.through_normed(QUERY_NORM, &trace.queries, to_queries, gradients);
        let to_keys = self.through_normed(KEY_NORM, &trace.keys, to_keys, gradients);
        let mut to_in = self.through_projection(QUERY, &trace.attention_in, &to_queries, gradients)?;
        to_in.add(&self.through_projection(KEY, &trace.attention_in, &to_keys, gradients)?);
        to_in.add(&self.through_projection(VALUE, &trace.attention_in, &to_values, gradients)?);
        let mut to_states = self.through_norm(ATTENTION_NORM, &trace.states, to_in, gradients);
        to_states.add(given);
        Ok(to_states)
    }

    fn project(&self, matrix: usize, states: &Matrix) -> Result<Matrix> {
        self.weights.projections[matrix].forward(states)
    }

    fn through_projection(
        &self,
        matrix: usize,
        states: &Matrix,
        given: &Matrix,
        gradients: &mut Gradients,
    ) -> Result<Matrix> {
        let (to_states, to_delta) = self.weights.projections[matrix].backward(states, given)?;
        gradients.deltas[matrix] = Some(to_delta);
        Ok(to_states)
    }

    /// A gain that every family has.
    fn gain(&self, gain: usize) -> &[f32] {
        self.weights.gains[gain].as_ref().expect("checked when the file was opened")
    }

    fn normed(&self, before: Matrix, gain: usize) -> Normed {
        let after = self.weights.gains[gain].as_ref().map(|gain| self.norm.forward(&before, gain));
        Normed { before, after }
    }

    fn through_norm(&self, gain: usize, states: &Matrix, given: Matrix, gradients: &mut Gradients) -> Matrix {
        let (to_states, to_gain) = self.norm.backward(states, self.gain(gain), given);
        gradients.gains[gain] = Some(to_gain);
        to_states
    }

    fn through_normed(&self, gain: usize, normed: &Normed, given: Matrix, gradients: &mut Gradients) -> Matrix {
        match normed.after {
            Some(_) => self.through_norm(gain, &normed.before, given, gradients),
            None => given,
        }
    }
}

#[cfg(test)]
mod tests {
    use collm_model::RopeKind;

    use super::*;
    use crate::dense::product;
    use crate::ops::Activation;
    use crate::ops::checks::{check_gradients, random};

    /// `[out, in]` of every matrix, and the lengths of all gains.
    const DIMS: [[usize; 2]; 7] = [[32, 12], [16, 12], [16, 12], [12, 32], [20, 12], [20, 12], [12, 20]];
    const LENGTHS: [usize; 6] = [12, 8, 8, 12, 12, 12];

    fn layer(parameters: &[Matrix], every_norm: bool) -> Layer {
        let (deltas, gains) = parameters.split_at(2 * DIMS.len());
        let projection = |(index, delta): (usize, &[Matrix])| {
            let (a, b) = (delta[0].clone(), delta[1].clone());
            let mut merged = product(b.view(), a.view()).unwrap();
            merged.add(&random(50 + index as u64, b.rows(), a.columns()));
            Projection { merged, bias: None, a, b }
        };
        let mut gains = gains.iter().map(|gain| gain.values().to_vec());
        let has = |index: usize| every_norm || index == ATTENTION_NORM || index == FFN_NORM;
        let weights = LayerWeights {
            projections: deltas.chunks(2).enumerate().map(projection).collect(),
            gains: (0..LENGTHS.len()).map(|index| has(index).then(|| gains.next()).flatten()).collect(),
        };
        Layer {
            weights: Arc::new(weights),
            attention: crate::ops::small_attention(RopeKind::Halves, 4, &[0..3, 3..9]),
            norm: RmsNorm { epsilon: 1e-5 },
            gate: Gate(if every_norm { Activation::Gelu } else { Activation::Silu }),
        }
    }

    #[test]
    fn gradients_are_slopes() {
        for every_norm in [false, true] {
            let mut inputs = vec![random(1, 9, 12)];
            for (index, [out, input]) in DIMS.into_iter().enumerate() {
                inputs.extend([random(10 + index as u64, 2, input), random(20 + index as u64, out, 2)]);
            }
            let gains =
                LENGTHS.iter().enumerate().filter(|(i, _)| every_norm || matches!(*i, ATTENTION_NORM | FFN_NORM));
            inputs.extend(gains.map(|(index, length)| random(30 + index as u64, 1, *length)));
            check_gradients(
                &inputs,
                |inputs| layer(&inputs[1..], every_norm).forward(inputs[0].clone()).unwrap().0,
                |inputs, given| {
                    let layer = layer(&inputs[1..], every_norm);
                    let (_, trace) = layer.forward(inputs[0].clone()).unwrap();
                    let (to_states, flat) = layer.backward(&trace, given).unwrap();
                    let mut rest = flat.as_slice();
                    let mut parts = vec![to_states.into_values()];
                    parts.extend(
                        inputs[1..].iter().map(|input| rest.split_off(..input.values().len()).unwrap().to_vec()),
                    );
                    assert!(rest.is_empty());
                    parts
                },
            );
        }
    }
}
