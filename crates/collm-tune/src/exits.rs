//! What was fitted, as an exits file in the making.

use collm_model::ExitNumber;
use collm_model::exits::{ExitsDraft, ExitsError, FittedCut};
use collm_model::gguf::TensorType;
use collm_train::{Deltas, ExitMap, ShortlistFactors};

use crate::TuneError;

/// Values in a block of `q8_0`.
const BLOCK: usize = 32;

/// A draft with these deltas.
///
/// # Errors
/// [`TuneError::Exits`] for deltas that fit no tensor.
pub fn draft(cut: FittedCut, deltas: Option<&Deltas>) -> Result<ExitsDraft, TuneError> {
    let mut draft = ExitsDraft::new(cut);
    let Some(deltas) = deltas else { return Ok(draft) };
    for (index, layer) in (0..).zip(&deltas.layers) {
        for delta in &layer.low_rank {
            let factors = [stored(&delta.a, delta.input), stored(&delta.b, delta.rank)];
            draft.set_delta(index, &delta.suffix, delta.rank, factors).map_err(ExitsError::from)?;
        }
        layer.vectors.iter().for_each(|(suffix, values)| draft.set_vector(index, suffix, values));
    }
    draft.set_head_vector(ExitNumber::Two, "norm.weight", &deltas.exit.norm);
    deltas.exit.map.as_ref().map_or(Ok(()), |map| set_map(&mut draft, ExitNumber::Two, map))?;
    Ok(draft)
}

/// Gives an exit a map behind its norm.
///
/// # Errors
/// [`TuneError::Exits`] for a map that is none.
pub fn set_map(draft: &mut ExitsDraft, exit: ExitNumber, map: &ExitMap) -> Result<(), TuneError> {
    let (weight, ty) = stored(&map.weight, map.bias.len());
    draft.set_head_matrix(exit, "map.weight", map.bias.len(), weight, ty).map_err(ExitsError::from)?;
    draft.set_head_vector(exit, "map.bias", &map.bias);
    Ok(())
}

/// Has an exit make shortlists of `length` tokens by these matrices, of rows of `width` values.
///
/// # Errors
/// [`TuneError::Exits`] for matrices of other rows.
pub fn set_shortlist(
    draft: &mut ExitsDraft,
    exit: ExitNumber,
    length: u32,
    width: usize,
    factors: &ShortlistFactors,
) -> Result<(), TuneError> {
    let (query, ty) = stored(&factors.query, width);
    let matrices = [query, &factors.key];
    Ok(draft.set_shortlist(exit, length, width, matrices, ty).map_err(ExitsError::from)?)
}

/// In the smallest type that rows of this length can have: deltas are small corrections, which eight bits serve.
fn stored(values: &[f32], row: usize) -> (&[f32], TensorType) {
    (values, if row.is_multiple_of(BLOCK) { TensorType::Q8_0 } else { TensorType::F16 })
}
