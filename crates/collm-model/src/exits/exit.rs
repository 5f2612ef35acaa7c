//! What one fitted exit consists of: the `exit.n.*` tensors and `collm.exit.n.*` keys of exits files and edge parts.
//!
//! Norm, map, MLP and what makes shortlists stay tensors, for the engine to multiply with; everything else is small and read into
//! numbers here.

use collm_core::confidence::ConfidenceMeasure;
use collm_core::gate::GateWeights;
use collm_core::policy::Threshold;

use super::shortlist::{self, Home};
use super::{ExitsFault, Promise, fitted, gate};
use crate::gguf::Gguf;
use crate::hyperparameters::Hyperparameters;
use crate::layout::{self, Shape};
use crate::model_file::TensorError;
use crate::part::ExitNumber;

/// Far above any width times the usual factor of four.
const HIDDEN_MAX: u64 = 1 << 20;

/// What was fitted for an exit, besides the matrices that its head may have.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitInfo {
    /// How its confidence is measured unless somebody says otherwise.
    pub measure: ConfidenceMeasure,
    /// Confidence from which on its guess keeps the [`promise`](Self::promise), in `[0, 1]`.
    pub threshold: Option<Threshold>,
    /// What the threshold promises.
    pub promise: Promise,
    /// Tokens in the shortlist that its cheap check makes for a state. `None`: the whole vocabulary is scored.
    pub shortlist: Option<u32>,
    /// Predictor of its guesses being right.
    pub gate: Option<GateWeights>,
}

impl Default for ExitInfo {
    /// An exit of which nothing was fitted: the paper's measure over the whole vocabulary.
    fn default() -> Self {
        Self {
            measure: ConfidenceMeasure::MaxProb,
            threshold: None,
            promise: Promise::default(),
            shortlist: None,
            gate: None,
        }
    }
}

/// Whether a file says anything about an exit.
fn is_fitted(gguf: &Gguf, exit: ExitNumber) -> bool {
    let (tensors, keys) = (exit.tensor(""), exit.key(""));
    gguf.tensors().iter().any(|info| info.name.starts_with(&tensors))
        || gguf.metadata().any(|(key, _)| key.starts_with(&keys))
}

/// Whether an exit has a norm, map or MLP of its own.
pub(crate) fn has_head(gguf: &Gguf, exit: ExitNumber) -> bool {
    layout::EXIT_HEAD.iter().any(|suffix| gguf.tensor(&exit.tensor(suffix)).is_some())
}

/// Whether a tensor is part of an [`ExitInfo`].
pub(super) fn is_info(name: &str) -> bool {
    ExitNumber::ALL.iter().any(|exit| gate::NAMES.iter().any(|suffix| exit.tensor(suffix) == name))
}

/// Reads what a file says about an exit and checks all that can be checked without the model. `None` if it says nothing.
pub(crate) fn read(gguf: &Gguf, exit: ExitNumber) -> Result<Option<ExitInfo>, ExitsFault> {
    if !is_fitted(gguf, exit) {
        return Ok(None);
    }
    let info = ExitInfo {
        measure: measure(gguf, exit)?,
        threshold: threshold(gguf, exit)?,
        promise: Promise::read(gguf, exit)?,
        shortlist: shortlist::read(gguf, exit)?,
        gate: gate::read(gguf, exit)?,
    };
    if info.measure == ConfidenceMeasure::Gate && info.gate.is_none() {
        return Err(ExitsFault::NoGate { exit: exit.number() });
    }
    Ok(Some(info))
}

/// Checks what [`read`] gave against the model, and the head. Returns the names of all tensors that the exit may have.
pub(crate) fn check(
    gguf: &Gguf,
    exit: ExitNumber,
    info: &ExitInfo,
    h: &Hyperparameters,
    home: Home,
) -> Result<Vec<String>, ExitsFault> {
    check_head(gguf, exit, h)?;
    let mut names = shortlist::check(gguf, exit, info.shortlist, h, home)?;
    if let Some(look) = info.gate.as_ref().and_then(|gate| gate.look.as_ref()) {
        fitted::required(gguf, &exit.tensor("gate.look.weight"), Shape::Matrix(h.width, look.rank as u32))?;
    }
    names.extend(layout::EXIT_HEAD.iter().chain(&gate::NAMES).map(|suffix| exit.tensor(suffix)));
    Ok(names)
}

/// Any subset that can be computed: a bias needs its map, and the two halves of an MLP each other.
fn check_head(gguf: &Gguf, exit: ExitNumber, h: &Hyperparameters) -> Result<(), ExitsFault> {
    for (part, needed) in
        [("map.bias", "map.weight"), ("mlp.up.weight", "mlp.down.weight"), ("mlp.down.weight", "mlp.up.weight")]
    {
        let [part, needed] = [part, needed].map(|suffix| exit.tensor(suffix));
        if gguf.tensor(&part).is_some() && gguf.tensor(&needed).is_none() {
            return Err(TensorError::Missing(needed).into());
        }
    }
    let hidden = gguf.tensor(&exit.tensor("mlp.up.weight")).map_or(0, |up| up.dims[1].min(HIDDEN_MAX) as u32);
    for expected in layout::exit_head(h, hidden) {
        fitted::optional(gguf, &exit.tensor(expected.name), expected.shape)?;
    }
    Ok(())
}

fn measure(gguf: &Gguf, exit: ExitNumber) -> Result<ConfidenceMeasure, ExitsFault> {
    let key = exit.key("confidence");
    let Some(value) = gguf.value(&key) else { return Ok(ConfidenceMeasure::MaxProb) };
    value.as_str().and_then(|text| text.parse().ok()).ok_or(ExitsFault::Key(key))
}

fn threshold(gguf: &Gguf, exit: ExitNumber) -> Result<Option<Threshold>, ExitsFault> {
    let key = exit.key("threshold");
    let Some(value) = gguf.value(&key) else { return Ok(None) };
    let number = value.as_f32().filter(|number| (0.0..=1.0).contains(number));
    number.and_then(Threshold::new).map(Some).ok_or(ExitsFault::Key(key))
}
