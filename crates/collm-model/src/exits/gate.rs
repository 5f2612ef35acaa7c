//! The gate of an exit in a file: tensors under `exit.n.gate.`, all but the look required.
//!
//! `look.weight` `[width, k]` f32, f16 or q8_0; `mean` and `scale` `[s]`; `up.weight` `[k + s, h]`, `up.bias` `[h]`, `down.weight`
//! `[h]`, `down.bias` `[1]`; `calibration` `[m, 2]`: a row of scores, a row of probabilities. `s` is [`GATE_SCALARS`].

use collm_core::gate::{GATE_SCALARS, GateLook, GateWeights};

use super::{ExitsFault, fitted};
use crate::gguf::Gguf;
use crate::layout::Shape;
use crate::model_file::TensorError;
use crate::part::ExitNumber;

/// Values of a hidden state: far above any model's, to be compared with the model's own later.
const WIDTH_MAX: u32 = 1 << 20;
/// Rank of the look at the hidden state.
const LOOK_MAX: u32 = 1 << 10;
/// Inner width.
const HIDDEN_MAX: u32 = 1 << 12;
/// Points of a calibration.
const CALIBRATION_MAX: u32 = 1 << 12;

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
        fitted::required(self.gguf, &self.name(suffix), shape)
    }
}
