//! Changing the type of weights on the way, through whoever can compute it.

use std::error::Error;
use std::io::Write;

use crate::gguf::{TensorType, TensorView};

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
