//! What was fitted, as an exits file in the making.

use collm_model::ExitNumber;
use collm_model::exits::{ExitsDraft, ExitsError, FittedCut};
use collm_model::gguf::TensorType;
use collm_train::{Deltas, ExitMap, ExitMlp, ShortlistFactors};

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
    deltas.exit.mlp.as_ref().map_or(Ok(()), |mlp| set_mlp(&mut draft, ExitNumber::Two, mlp))?;
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

/// Gives an exit an MLP behind its norm.
fn set_mlp(draft: &mut ExitsDraft, exit: ExitNumber, mlp: &ExitMlp) -> Result<(), TuneError> {
    let rows = [("mlp.up.weight", &mlp.up, mlp.up.len() / mlp.hidden), ("mlp.down.weight", &mlp.down, mlp.hidden)];
    for (suffix, values, row) in rows {
        let (values, ty) = stored(values, row);
        draft.set_head_matrix(exit, suffix, row, values, ty).map_err(ExitsError::from)?;
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use collm_engine::{Engine as _, Head, Scope, Scores};
    use collm_ggml::{GgmlEngine, GgmlRequantize, LoadOptions};
    use collm_model::exits::ExitsFile;
    use collm_model::split::{self, SplitOptions};
    use collm_model::synthetic::SyntheticModel;
    use collm_model::{Architecture, Digest, ModelFile};
    use collm_train::{Candidates, HealConfig, Healer, Piece};

    use super::*;

    const POSITIONS: usize = 40;

    fn likeliest(logits: &[f32]) -> u32 {
        (0..).zip(logits).max_by(|one, other| one.1.total_cmp(other.1)).expect("logits").0
    }

    /// With everything that a head may have: norm, map and MLP.
    #[test]
    fn a_head_says_in_the_engine_what_it_said_when_it_learnt() {
        let folder = tempfile::tempdir().unwrap();
        let [model, edge, cloud] = ["model.gguf", "edge.gguf", "cloud.gguf"].map(|name| folder.path().join(name));
        SyntheticModel::new(Architecture::Llama).write(&model).unwrap();
        let file = ModelFile::open(&model).unwrap();
        let (width, vocabulary) = (file.hyperparameters().width as usize, file.hyperparameters().vocabulary);
        let mut random = fastrand::Rng::with_seed(7);
        let states: Vec<f32> = (0..POSITIONS * width).map(|_| random.f32() * 4.0 - 2.0).collect();
        let ids: Vec<u32> = (0..POSITIONS).map(|_| random.u32(0..vocabulary)).collect();
        let candidates = Candidates { per_position: 1, ids: ids.clone(), log_probabilities: vec![0.0; POSITIONS] };
        let pieces = [Piece::new(width, states.clone(), candidates, vec![1.0; POSITIONS]).unwrap()];
        let config = HealConfig { map: true, mlp: 96, learning_rate: 1e-2, ..HealConfig::new(Vec::new()) };
        let mut healer = Healer::new(&file, &GgmlRequantize, config).unwrap();
        for step in 0..60 {
            healer.step(&pieces, f64::from(step) / 60.0).unwrap();
        }
        let learnt = healer.evaluate(&pieces).unwrap().agreement;

        let source_sha256 = Digest::of(&std::fs::read(&model).unwrap());
        let cut = FittedCut { source_sha256, upload_at: 2, tail: vec![5], exit1: false, tail_type: None };
        let draft = draft(cut, Some(&healer.deltas())).unwrap();
        let fitted = ExitsFile::from_bytes(draft.to_bytes().unwrap()).unwrap();
        let plan = split::plan(&file, &SplitOptions::of_exits(&fitted), &mut |_| ()).unwrap();
        plan.write(&edge, &cloud, Some(&GgmlRequantize), &mut |_| ()).unwrap();
        let part = Arc::new(ModelFile::open(&edge).unwrap());
        let mut engine = GgmlEngine::load(&part, &LoadOptions { context: 64, ..LoadOptions::default() }).unwrap();
        let mut scores = Scores::default();
        engine.score(Head::Exit2, Scope::Full, &states, &mut scores).unwrap();
        let said = scores.rows(width).zip(&ids).filter(|(row, id)| likeliest(row.logits) == **id).count();
        assert!(learnt > 0.9, "{learnt}");
        // Eight bits a weight may change a token or two.
        let said = said as f64 / POSITIONS as f64;
        assert!((said - learnt).abs() <= 2.0 / POSITIONS as f64, "{said} in the engine, {learnt} when it learnt");
    }
}
