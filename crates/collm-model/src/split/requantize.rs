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
    let row_bytes = tensor.ty.row_bytes(tensor.dims[0]).expect("the reader checked that rows are whole blocks");
    let chunk = (CHUNK_BYTES / row_bytes).max(1) * row_bytes;
    for rows in tensor.data.chunks(chunk as usize) {
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
    let unreadable = || format!("a delta of type {} cannot be read", delta.a.ty);
    let a = values::decode(&delta.a).ok_or_else(unreadable)?;
    let b = values::decode(&delta.b).ok_or_else(unreadable)?;
    let row_bytes = tensor.ty.row_bytes(tensor.dims[0]).expect("the reader checked that rows are whole blocks");
    let chunk_rows = (CHUNK_BYTES / row_bytes).max(1) as usize;
    for (rows, b) in tensor.data.chunks(chunk_rows * row_bytes as usize).zip(b.chunks(chunk_rows * rank)) {
        let source = requantize.requantize(tensor.ty, TensorType::F32, tensor.dims[0], rows)?;
        let mut weights = values::decode_f32(&source);
        for (weights, b) in weights.chunks_exact_mut(row).zip(b.chunks_exact(rank)) {
            add_row(weights, &a, b);
        }
        let merged = values::encode_f32(&weights);
        out.write_all(&requantize.requantize(TensorType::F32, to, tensor.dims[0], &merged)?)?;
    }
    Ok(())
}

/// `weights += sum_r b[r] * a[r]`.
fn add_row(weights: &mut [f32], a: &[f32], b: &[f32]) {
    for (a, &factor) in a.chunks_exact(weights.len()).zip(b) {
        for (weight, a) in weights.iter_mut().zip(a) {
            *weight += factor * a;
        }
    }
}
