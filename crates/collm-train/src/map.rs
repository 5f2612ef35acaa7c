//! An affine map from the states of an early layer to those that the LM head is used to.
//!
//! The early layers of a model that was not trained with exits say nothing that its LM head understands. Of all affine maps the one is
//! taken that comes closest to what the last layer makes of the same positions: least squares, in closed form. (The tuned lens, Belrose
//! et al., arXiv 2303.08112, fits such a map by gradient.)

use collm_model::ModelFile;
use nalgebra::{DMatrix, DVector};

use crate::moments::{columns, products, ridged, rows};
use crate::{HealError, weights};

/// Affine map behind an exit's norm.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitMap {
    /// `width` rows of `width` values, a row for each result.
    pub weight: Vec<f32>,
    /// `width` values.
    pub bias: Vec<f32>,
}

/// Fits the map from the hidden states `early` to `last`, those after the last layer at the same positions; both as layers make them,
/// `width` floats a position. The model's own norm comes before the map, and before what the map is fitted to.
///
/// # Errors
/// [`HealError::Config`] for no states, for states of other positions, and for such as are not finite.
pub fn fit_map(file: &ModelFile, early: &[f32], last: &[f32]) -> Result<ExitMap, HealError> {
    let h = file.hyperparameters();
    let width = h.width as usize;
    if early.len() != last.len() || early.len() < width || !early.len().is_multiple_of(width) {
        let (early, last) = (early.len(), last.len());
        return Err(HealError::Config(format!("a map from {early} values of states to {last} of width {width}")));
    }
    let gain = weights::vector(file, "output_norm.weight").expect("checked when the file was opened");
    let [early, last] = [early, last].map(|states| columns(&normed(states, &gain, h.rms_eps), width));
    let [(early, early_mean), (last, last_mean)] = [early, last].map(centred);
    let unfit = || HealError::Config("the states that a map is fitted to are not finite".into());
    let inverse = ridged(&early).cholesky().ok_or_else(unfit)?;
    // The moments are symmetric, so that these are the rows of the map, as columns.
    let weight = inverse.solve(&(products(&early, &last) / early.ncols() as f64));
    let bias = last_mean.map(f64::from) - weight.tr_mul(&early_mean.map(f64::from));
    if !weight.iter().chain(&bias).all(|value| value.is_finite()) {
        return Err(unfit());
    }
    Ok(ExitMap { weight: rows(&weight), bias: bias.iter().map(|value| *value as f32).collect() })
}

/// Root-mean-square norm with a gain.
fn normed(states: &[f32], gain: &[f32], epsilon: f32) -> Vec<f32> {
    let of_state = |state: &[f32]| -> Vec<f32> {
        let mean = state.iter().map(|value| value * value).sum::<f32>() / state.len() as f32;
        let scale = (mean + epsilon).sqrt().recip();
        state.iter().zip(gain).map(|(value, gain)| value * scale * gain).collect()
    };
    states.chunks_exact(gain.len()).flat_map(of_state).collect()
}

/// Columns about their mean, and the mean.
fn centred(mut columns: DMatrix<f32>) -> (DMatrix<f32>, DVector<f32>) {
    let mean = columns.column_mean();
    columns.column_iter_mut().for_each(|mut column| column -= &mean);
    (columns, mean)
}

#[cfg(test)]
mod tests {
    use collm_model::{Architecture, synthetic::SyntheticModel};

    use super::*;

    fn model() -> ModelFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        SyntheticModel::new(Architecture::Llama).write(&path).unwrap();
        ModelFile::open(&path).unwrap()
    }

    /// States of `count` positions that point in all directions.
    fn states(count: usize, width: usize) -> Vec<f32> {
        let mut seed = 1_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed as f32 / u32::MAX as f32 - 0.5
        };
        (0..count * width).map(|_| next()).collect()
    }

    /// Later states that are the earlier ones backwards, and somewhere else: a map can say so, and nothing simpler.
    #[test]
    fn an_affine_relation_is_found() {
        let file = model();
        let width = file.hyperparameters().width as usize;
        let gain = weights::vector(&file, "output_norm.weight").unwrap();
        let epsilon = file.hyperparameters().rms_eps;
        let early = states(40 * width, width);
        let last: Vec<f32> = early.chunks_exact(width).flat_map(|state| state.iter().rev().copied()).collect();
        let map = fit_map(&file, &early, &last).unwrap();
        let [from, to] = [&early, &last].map(|states| normed(states, &gain, epsilon));
        let (mut missed, mut all) = (0.0, 0.0);
        for (from, to) in from.chunks_exact(width).zip(to.chunks_exact(width)) {
            for ((row, bias), expected) in map.weight.chunks_exact(width).zip(&map.bias).zip(to) {
                let found: f32 = row.iter().zip(from).map(|(weight, value)| weight * value).sum::<f32>() + bias;
                missed += (found - expected).powi(2);
                all += expected.powi(2);
            }
        }
        assert!(missed < 1e-4 * all, "{missed} of {all} is missed");
    }

    #[test]
    fn what_no_map_fits_is_refused() {
        let file = model();
        let width = file.hyperparameters().width as usize;
        let good = states(8, width);
        assert!(fit_map(&file, &good, &good).is_ok());
        for (early, last) in [
            (&good[..], &good[width..]),
            (&[], &[]),
            (&good[1..], &good[1..]),
            (&vec![f32::NAN; 8 * width], &good),
            (&good, &vec![f32::INFINITY; 8 * width]),
        ] {
            assert!(matches!(fit_map(&file, early, last), Err(HealError::Config(_))), "{} values", early.len());
        }
    }
}
