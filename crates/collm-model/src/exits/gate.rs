//! The gate of an exit: a small predictor of "this guess is the whole model's token".
//!
//! `score = down . silu(up (look ++ scalars) + up_bias) + down_bias`; a calibration makes a probability of the score. Here
//! are its weights; the runtime computes it.

use super::{ExitsFault, fitted};
use crate::gguf::Gguf;
use crate::layout::Shape;
use crate::model_file::TensorError;
use crate::part::ExitNumber;

/// Features that the gate takes from the logits: `l1`, `l1 - Z`, `l1 - l2`, `l1 - l3`, `l1 - l8`, `Z`, the entropy in nats and
/// `ln(1 + position)`, where `l1 >= l2 >= ...` are the logits of the shortlist and `Z` is their log-sum-exp.
pub const GATE_SCALARS: usize = 8;

/// Values of a hidden state: far above any model's, to be compared with the model's own later.
const WIDTH_MAX: u32 = 1 << 20;
/// Rank of the look at the hidden state.
const LOOK_MAX: u32 = 1 << 10;
/// Inner width.
const HIDDEN_MAX: u32 = 1 << 12;
/// Points of a calibration.
const CALIBRATION_MAX: u32 = 1 << 12;

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

/// Checks and reads the gate of an exit, of a model of whatever width. `None` if the exit has none.
pub(super) fn read(gguf: &Gguf, exit: ExitNumber) -> Result<Option<GateWeights>, ExitsFault> {
    let prefix = exit.tensor("gate.");
    if !gguf.tensors().iter().any(|info| info.name.starts_with(&prefix)) {
        return Ok(None);
    }
    let source = GateSource { gguf, exit };
    let look = source.look()?;
    let inputs = look.as_ref().map_or(0, |look| look.rank as u32) + GATE_SCALARS as u32;
    let hidden = source.length("up.bias", 0, HIDDEN_MAX)?;
    let vector = |suffix: &str, length| source.values(suffix, Shape::Vector(length));
    Ok(Some(GateWeights {
        look,
        mean: vector("mean", GATE_SCALARS as u32)?,
        scale: vector("scale", GATE_SCALARS as u32)?,
        up: source.values("up.weight", Shape::Matrix(inputs, hidden))?,
        up_bias: vector("up.bias", hidden)?,
        down: vector("down.weight", hidden)?,
        down_bias: vector("down.bias", 1)?[0],
        calibration: source.calibration()?,
    }))
}

/// Every name that a tensor of the gate may have.
pub(super) const NAMES: [&str; 8] = [
    "gate.look.weight",
    "gate.mean",
    "gate.scale",
    "gate.up.weight",
    "gate.up.bias",
    "gate.down.weight",
    "gate.down.bias",
    "gate.calibration",
];

struct GateSource<'a> {
    gguf: &'a Gguf,
    exit: ExitNumber,
}

impl GateSource<'_> {
    fn name(&self, suffix: &str) -> String {
        self.exit.tensor(&format!("gate.{suffix}"))
    }

    fn look(&self) -> Result<Option<GateLook>, ExitsFault> {
        if self.gguf.tensor(&self.name("look.weight")).is_none() {
            return Ok(None);
        }
        let width = self.length("look.weight", 0, WIDTH_MAX)?;
        let rank = self.length("look.weight", 1, LOOK_MAX)?;
        let weight = self.values("look.weight", Shape::Matrix(width, rank))?;
        Ok(Some(GateLook { rank: rank as usize, weight }))
    }

    fn calibration(&self) -> Result<Vec<(f32, f32)>, ExitsFault> {
        let points = self.length("calibration", 0, CALIBRATION_MAX)?;
        let values = self.values("calibration", Shape::Matrix(points, 2))?;
        let (scores, probabilities) = values.split_at(points as usize);
        if !scores.is_sorted_by(|before, after| before < after) {
            return Err(self.senseless("has scores that do not rise"));
        }
        let possible = probabilities.iter().all(|probability| (0.0..=1.0).contains(probability));
        if !possible || !probabilities.is_sorted() {
            return Err(self.senseless("has probabilities that fall, or lie outside 0 to 1"));
        }
        Ok(scores.iter().copied().zip(probabilities.iter().copied()).collect())
    }

    fn senseless(&self, reason: &'static str) -> ExitsFault {
        ExitsFault::Values { name: self.name("calibration"), reason }
    }

    /// A dimension that the file chooses, within its limit.
    fn length(&self, suffix: &str, dimension: usize, max: u32) -> Result<u32, ExitsFault> {
        let name = self.name(suffix);
        let Some(tensor) = self.gguf.tensor(&name) else { return Err(TensorError::Missing(name).into()) };
        let length = u32::try_from(tensor.dims[dimension]).ok().filter(|length| *length <= max);
        length.ok_or(ExitsFault::Values { name, reason: "is larger than any gate needs" })
    }

    fn values(&self, suffix: &str, shape: Shape) -> Result<Vec<f32>, ExitsFault> {
        fitted::required(self.gguf, self.name(suffix), shape)
    }
}
