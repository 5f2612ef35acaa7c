//! Changing the type of weights on the way, through whoever can compute it.

use std::error::Error;
use std::io::Write;

use crate::exits::Delta;
use crate::gguf::{TensorType, TensorView};
use crate::values;

/// Changes the storage type of matrix rows. Nothing in this crate computes; the tensor library's crate implements it.
pub trait Requantize {
    /// Converts whole rows of `row_values` values each. The result has one row of type `to` for each row of type `from`.
    fn requantize(
        &self,
        from: TensorType,
        to: TensorType,
        row_values: u64,
        rows: &[u8],
    ) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;
}

/// Bytes converted at a time, so that memory stays small however large the matrix is.
const CHUNK_BYTES: u64 = 4 << 20;

/// Writes `tensor` as type `to`, a few rows at a time.
pub(super) fn write_requantized(
    requantize: &dyn Requantize,
    tensor: &TensorView<'_>,
    to: TensorType,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    for rows in tensor.data.chunks(chunk_rows(tensor) * row_bytes(tensor)) {
        out.write_all(&requantize.requantize(tensor.ty, to, tensor.dims[0], rows)?)?;
    }
    Ok(())
}

/// Writes `tensor` changed by `delta` as type `to`, a few rows at a time.
pub(super) fn write_merged(
    requantize: &dyn Requantize,
    tensor: &TensorView<'_>,
    delta: &Delta<'_>,
    to: TensorType,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let [row, rank] = [tensor.dims[0], delta.b.dims[0]].map(|values| values as usize);
    let (a, b) = (numbers(&delta.a)?, numbers(&delta.b)?);
    let chunk_rows = chunk_rows(tensor);
    for (rows, b) in tensor.data.chunks(chunk_rows * row_bytes(tensor)).zip(b.chunks(chunk_rows * rank)) {
        let mut weights = floats(requantize, tensor, rows)?;
        for (weights, b) in weights.chunks_exact_mut(row).zip(b.chunks_exact(rank)) {
            add_row(weights, &a, b);
        }
        let merged = values::encode_f32(&weights);
        out.write_all(&requantize.requantize(TensorType::F32, to, tensor.dims[0], &merged)?)?;
    }
    Ok(())
}

/// Writes the products of every row of `tensor` with the rows of `matrix`, as rows of type `to`, a few at a time.
pub(super) fn write_product(
    requantize: &dyn Requantize,
    tensor: &TensorView<'_>,
    matrix: &TensorView<'_>,
    to: TensorType,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (row, factors) = (matrix.dims[0] as usize, numbers(matrix)?);
    for rows in tensor.data.chunks(chunk_rows(tensor) * row_bytes(tensor)) {
        let weights = floats(requantize, tensor, rows)?;
        let products =
            weights.chunks_exact(row).flat_map(|weights| factors.chunks_exact(row).map(|factor| dot(weights, factor)));
        let products = values::encode_f32(&products.collect::<Vec<f32>>());
        out.write_all(&requantize.requantize(TensorType::F32, to, matrix.dims[1], &products)?)?;
    }
    Ok(())
}

/// Of a tensor that was fitted.
fn numbers(fitted: &TensorView<'_>) -> Result<Vec<f32>, String> {
    values::decode(fitted).ok_or_else(|| format!("{} of type {} cannot be read", fitted.name, fitted.ty))
}

fn row_bytes(tensor: &TensorView<'_>) -> usize {
    let bytes = tensor.ty.row_bytes(tensor.dims[0]).expect("the reader checked that rows are whole blocks");
    bytes as usize
}

/// Rows converted at a time.
fn chunk_rows(tensor: &TensorView<'_>) -> usize {
    (CHUNK_BYTES as usize / row_bytes(tensor)).max(1)
}

fn floats(
    requantize: &dyn Requantize,
    tensor: &TensorView<'_>,
    rows: &[u8],
) -> Result<Vec<f32>, Box<dyn Error + Send + Sync>> {
    let values = requantize.requantize(tensor.ty, TensorType::F32, tensor.dims[0], rows)?;
    Ok(values::decode_f32(&values))
}

/// In as many sums as vector units like to have under way.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 32;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `weights += sum_r b[r] * a[r]`.
fn add_row(weights: &mut [f32], a: &[f32], b: &[f32]) {
    for (a, &factor) in a.chunks_exact(weights.len()).zip(b) {
        for (weight, a) in weights.iter_mut().zip(a) {
            *weight += factor * a;
        }
    }
}
