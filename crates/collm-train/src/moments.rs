//! Second moments of states, which everything that is fitted in closed form is made of.

use nalgebra::DMatrix;

/// Share of the mean moment that is added in every direction, so that directions in which no state lies have one, too.
const RIDGE: f64 = 1e-3;

/// Rows of `width` values as the columns of a matrix.
pub(crate) fn columns(rows: &[f32], width: usize) -> DMatrix<f32> {
    let count = rows.len() / width;
    DMatrix::from_column_slice(width, count, &rows[..count * width])
}

/// The sum over all columns of the products of `one` with `other`.
pub(crate) fn products(one: &DMatrix<f32>, other: &DMatrix<f32>) -> DMatrix<f64> {
    (one * other.transpose()).map(f64::from)
}

/// Mean of the products of every column with itself, and a little in every direction.
pub(crate) fn ridged(columns: &DMatrix<f32>) -> DMatrix<f64> {
    let (width, count) = columns.shape();
    let mean = products(columns, columns) / count as f64;
    let ridge = RIDGE * mean.trace() / width as f64;
    mean + DMatrix::identity(width, width) * ridge
}

/// The columns of a matrix, one after the other.
pub(crate) fn rows(columns: &DMatrix<f64>) -> Vec<f32> {
    columns.iter().map(|value| *value as f32).collect()
}
