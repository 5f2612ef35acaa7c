//! Weights of a model file as numbers, through whoever can convert them.

use collm_model::ModelFile;
use collm_model::gguf::{TensorType, TensorView};
use collm_model::split::Requantize;

use crate::HealError;

/// Converts storage types; shared by threads.
pub(crate) type Converter<'a> = &'a (dyn Requantize + Sync);

/// The values of a tensor, row after row.
pub(crate) fn values(converter: Converter<'_>, name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, HealError> {
    if tensor.ty == TensorType::F32 {
        return Ok(from_bytes(tensor.data));
    }
    convert(converter, name, [tensor.ty, TensorType::F32], tensor.dims[0], tensor.data).map(|data| from_bytes(&data))
}

/// The values as they are after having been stored as `ty`.
pub(crate) fn rounded(
    converter: Converter<'_>,
    name: &str,
    values: &[f32],
    row: usize,
    ty: TensorType,
) -> Result<Vec<f32>, HealError> {
    if ty == TensorType::F32 {
        return Ok(values.to_vec());
    }
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let stored = convert(converter, name, [TensorType::F32, ty], row as u64, &bytes)?;
    convert(converter, name, [ty, TensorType::F32], row as u64, &stored).map(|data| from_bytes(&data))
}

/// A vector of the model, which is always f32.
pub(crate) fn vector(file: &ModelFile, name: &str) -> Option<Vec<f32>> {
    file.tensor(name).map(|tensor| from_bytes(tensor.data))
}

fn convert(
    converter: Converter<'_>,
    name: &str,
    [from, to]: [TensorType; 2],
    row: u64,
    data: &[u8],
) -> Result<Vec<u8>, HealError> {
    let converted = converter.requantize(from, to, row, data);
    converted.map_err(|source| HealError::Convert { tensor: name.to_owned(), from, to, source })
}

fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
