//! The weights of a gate: a small predictor of "this guess is the whole model's token". Files hold them, fitting makes them, the
//! runtime computes with them.
//!
//! `score = down . silu (up (look ++ scalars) + up_bias) + down_bias`; a calibration makes a probability of the score.

/// Features that a gate takes from the logits: `l1`, `l1 - Z`, `l1 - l2`, `l1 - l3`, `l1 - l8`, `Z`, the entropy in nats and
/// `ln(1 + position)`, where `l1 >= l2 >= ...` are the logits of the shortlist and `Z` is their log-sum-exp.
pub const GATE_SCALARS: usize = 8;

/// The weights of a gate, matrices row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct GateWeights {
    /// Low-rank look at the hidden state, if the gate has one.
    pub look: Option<GateLook>,
    /// `[GATE_SCALARS]`: what is subtracted from each scalar feature.
    pub mean: Vec<f32>,
    /// `[GATE_SCALARS]`: what the difference is multiplied by.
    pub scale: Vec<f32>,
    /// `[hidden][rank of the look + GATE_SCALARS]`.
    pub up: Vec<f32>,
    /// `[hidden]`.
    pub up_bias: Vec<f32>,
    /// `[hidden]`.
    pub down: Vec<f32>,
    /// Added to the score.
    pub down_bias: f32,
    /// Scores, strictly rising, and the probability at each, never falling and in `[0, 1]`; linear between, constant outside.
    /// At least one.
    pub calibration: Vec<(f32, f32)>,
}

/// What a gate sees of the hidden state after the exit's norm and map.
#[derive(Debug, Clone, PartialEq)]
pub struct GateLook {
    /// Values it is reduced to.
    pub rank: usize,
    /// `[rank][width]`.
    pub weight: Vec<f32>,
}

impl GateWeights {
    /// Inner width.
    pub fn hidden(&self) -> usize {
        self.up_bias.len()
    }

    /// Values the gate computes with: the look and the scalar features.
    pub fn inputs(&self) -> usize {
        self.look.as_ref().map_or(0, |look| look.rank) + GATE_SCALARS
    }
}
