//! What finds the likeliest tokens at a low rank: the best two factors for the states that an exit's LM head reads.
//!
//! Of all products `key^T query` of rank `r`, the one is wanted that changes the logits `head state` the least, summed over all
//! states and all tokens. With `C = L L^T` the states' second moments and `G` those of the LM head's rows
//! about their mean (what moves all logits alike changes no order), it comes from the `r` greatest eigenvectors `V` of `L^T G L`: `key^T = L V` and
//! `query = V^T L^-1`. Queries then have moments of 1 in every direction, which is what eight bits hold best. Scoring at a low rank first and
//! exactly after it is the idea of SVD-softmax (Shim et al. 2017); to weigh by the states' moments is that of activation-aware
//! compression (for example ASVD, arXiv 2312.05821).

use collm_model::ModelFile;
use nalgebra::{DMatrix, DVector, SymmetricEigen};

use crate::HealError;
use crate::moments::{columns, products, ridged, rows};
use crate::weights::{self, Converter};

/// Rows of the LM head multiplied at a time.
const ROWS: usize = 4096;

/// The two matrices, `rank` rows of `width` values each.
#[derive(Debug, Clone, PartialEq)]
pub struct ShortlistFactors {
    /// Turns a state into a query.
    pub query: Vec<f32>,
    /// Turns a token's row of the LM head into its key.
    pub key: Vec<f32>,
}

/// Fits the factors for the LM head of `file` to `states`, row after row as the LM head reads them.
///
/// # Errors
/// [`HealError::Config`] for a rank that the model does not have and for no states, and what reading the LM head fails with.
pub fn fit_shortlist(
    file: &ModelFile,
    converter: Converter<'_>,
    states: &[f32],
    rank: usize,
) -> Result<ShortlistFactors, HealError> {
    let width = file.hyperparameters().width as usize;
    if !(1..=width).contains(&rank) || states.len() < width {
        return Err(HealError::Config(format!("a shortlist of rank {rank} from {} values of states", states.len())));
    }
    let unfit = || HealError::Config("the states that an exit sees are all zero, or not finite".into());
    let root = ridged(&columns(states, width)).cholesky().ok_or_else(unfit)?.l();
    let inner = root.tr_mul(&head_moments(file, converter)?) * &root;
    let directions = greatest(inner, rank);
    let key = &root * &directions;
    let query = root.transpose().solve_upper_triangular(&directions).ok_or_else(unfit)?;
    Ok(ShortlistFactors { query: rows(&query), key: rows(&key) })
}

/// Of the LM head's rows about their mean. Frequent tokens count no more than others: to weigh them finds fewer of the likeliest.
fn head_moments(file: &ModelFile, converter: Converter<'_>) -> Result<DMatrix<f64>, HealError> {
    let output = file.output();
    let width = output.dims[0] as usize;
    let values = weights::values(converter, output.name, &output)?;
    let mut moments = DMatrix::zeros(width, width);
    let mut sum = DVector::<f64>::zeros(width);
    for rows in values.chunks(ROWS * width) {
        let columns = columns(rows, width);
        moments += products(&columns, &columns);
        for row in rows.chunks_exact(width) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
    }
    let tokens = (values.len() / width) as f64;
    Ok(moments - &sum * sum.transpose() / tokens)
}

/// The eigenvectors of the `count` greatest eigenvalues, the greatest first, as columns.
fn greatest(matrix: DMatrix<f64>, count: usize) -> DMatrix<f64> {
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(matrix);
    let mut order: Vec<usize> = (0..eigenvalues.len()).collect();
    order.sort_by(|one, other| eigenvalues[*other].total_cmp(&eigenvalues[*one]));
    eigenvectors.select_columns(&order[..count])
}

#[cfg(test)]
mod tests {
    use collm_ggml::GgmlRequantize;
    use collm_model::{Architecture, synthetic::SyntheticModel};

    use super::*;

    /// States that lie in a few directions are all that the factors must get right, however few these are.
    #[test]
    fn few_directions_need_no_higher_rank() {
        const DIRECTIONS: usize = 6;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        SyntheticModel::new(Architecture::Llama).write(&path).unwrap();
        let file = ModelFile::open(&path).unwrap();
        let width = file.hyperparameters().width as usize;
        let wave = |at: usize, index: usize| ((at * 31 + index * 17) as f32 * 0.37).sin();
        let states: Vec<f32> = (0..200)
            .flat_map(|at| {
                (0..width).map(move |index| {
                    (0..DIRECTIONS).map(|direction| wave(at, direction) * wave(100 + direction, index)).sum::<f32>()
                })
            })
            .collect();
        let factors = fit_shortlist(&file, &GgmlRequantize, &states, DIRECTIONS).unwrap();
        let head = crate::weights::values(&GgmlRequantize, "head", &file.output()).unwrap();
        let dot = |one: &[f32], other: &[f32]| -> f32 { one.iter().zip(other).map(|(a, b)| a * b).sum() };
        let times = |matrix: &[f32], x: &[f32]| matrix.chunks_exact(width).map(|row| dot(row, x)).collect::<Vec<f32>>();
        for state in states.chunks_exact(width).take(20) {
            let query = times(&factors.query, state);
            let exact = times(&head, state);
            let near: Vec<f32> = head.chunks_exact(width).map(|row| dot(&times(&factors.key, row), &query)).collect();
            let offset = exact[0] - near[0];
            let worst = exact.iter().zip(&near).map(|(exact, near)| (exact - near - offset).abs()).fold(0.0, f32::max);
            let largest = exact.iter().fold(0.0, |largest: f32, logit| largest.max(logit.abs()));
            assert!(worst < 0.02 * largest, "off by {worst} of {largest}");
        }
    }

    #[test]
    fn what_makes_no_shortlist_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        SyntheticModel::new(Architecture::Llama).write(&path).unwrap();
        let file = ModelFile::open(&path).unwrap();
        let width = file.hyperparameters().width as usize;
        let fits = |states: usize, rank| fit_shortlist(&file, &GgmlRequantize, &vec![1.0; states], rank).is_ok();
        assert!(fits(4 * width, 8));
        assert!(!fits(4 * width, 0) && !fits(4 * width, width + 1) && !fits(0, 8));
    }
}
