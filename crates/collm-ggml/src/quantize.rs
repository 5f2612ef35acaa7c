//! Conversion between storage types of weights, by ggml's own routines.

use std::error::Error;

use collm_model::gguf::TensorType;
use collm_model::split::Requantize;
use llama_cpp_sys_2 as sys;

use crate::weights::type_id;

/// Requantises rows when a model is split.
#[derive(Debug, Clone, Copy, Default)]
pub struct GgmlRequantize;

/// Why rows cannot be requantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantizeError {
    /// No routine reads the type.
    #[error("weights of type {0} cannot be read as numbers")]
    Unreadable(TensorType),
    /// No routine writes the type without data about the importance of weights.
    #[error("cannot quantise to {0}; choose for example q8_0")]
    Unwritable(TensorType),
    /// Rows are not whole blocks of the type.
    #[error("rows of {row_values} values cannot be stored as {ty}; choose for example q8_0")]
    Row {
        /// The type.
        ty: TensorType,
        /// Values in a row.
        row_values: u64,
    },
}

impl Requantize for GgmlRequantize {
    fn requantize(
        &self,
        from: TensorType,
        to: TensorType,
        row_values: u64,
        rows: &[u8],
    ) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let row_bytes = row_bytes(from, row_values)?;
        let row_count = rows.len() / row_bytes;
        let mut values = Vec::new();
        for row in rows.chunks_exact(row_bytes) {
            dequantize(from, row, row_values as usize, &mut values).ok_or(QuantizeError::Unreadable(from))?;
        }
        Ok(quantize(to, &values, row_count, row_values)?)
    }
}

/// Appends the values of `data`, whole blocks of type `ty`, to `values`. `None` if ggml cannot read the type.
pub(crate) fn dequantize(ty: TensorType, data: &[u8], count: usize, values: &mut Vec<f32>) -> Option<()> {
    let expected = ty.row_bytes(count as u64).and_then(|bytes| usize::try_from(bytes).ok());
    assert_eq!(expected, Some(data.len()), "as many bytes as the values take");
    if ty == TensorType::F32 {
        values.extend(data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        return Some(());
    }
    let start = values.len();
    values.resize(start + count, 0.0);
    // SAFETY: the traits are static; the routine reads `data` and writes `count` floats, as asserted and resized above.
    unsafe {
        let read = (*sys::ggml_get_type_traits(type_id(ty))).to_float?;
        read(data.as_ptr().cast(), values[start..].as_mut_ptr(), count as i64);
    }
    Some(())
}

/// `values` as rows of type `ty`.
fn quantize(ty: TensorType, values: &[f32], row_count: usize, row_values: u64) -> Result<Vec<u8>, QuantizeError> {
    if ty == TensorType::F32 {
        return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
    // SAFETY: pure function of the type.
    let needs_importance = unsafe { sys::ggml_quantize_requires_imatrix(type_id(ty)) };
    if !is_target(ty) || needs_importance {
        return Err(QuantizeError::Unwritable(ty));
    }
    let mut data = vec![0; row_bytes(ty, row_values)? * row_count];
    // SAFETY: `data` has room for the rows, `values` holds them, no importance is given.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            type_id(ty),
            values.as_ptr(),
            data.as_mut_ptr().cast(),
            0,
            row_count as i64,
            row_values as i64,
            std::ptr::null(),
        )
    };
    debug_assert_eq!(written, data.len(), "ggml wrote what the type takes");
    Ok(data)
}

/// What `ggml_quantize_chunk` can write; it aborts on anything else.
fn is_target(ty: TensorType) -> bool {
    use TensorType as T;
    matches!(
        ty,
        T::F16
            | T::BF16
            | T::Q4_0
            | T::Q4_1
            | T::Q5_0
            | T::Q5_1
            | T::Q8_0
            | T::Q2_K
            | T::Q3_K
            | T::Q4_K
            | T::Q5_K
            | T::Q6_K
            | T::IQ4_NL
            | T::IQ4_XS
    )
}

fn row_bytes(ty: TensorType, row_values: u64) -> Result<usize, QuantizeError> {
    let bytes = ty.row_bytes(row_values).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.filter(|bytes| *bytes > 0).ok_or(QuantizeError::Row { ty, row_values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(count: usize) -> Vec<f32> {
        (0..count).map(|index| (index as f32 * 0.7).sin()).collect()
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn requantised_values_are_close() {
        let values = wave(512);
        for (ty, tolerance) in [(TensorType::F16, 1e-3), (TensorType::Q8_0, 0.01), (TensorType::Q4_K, 0.15)] {
            let data = GgmlRequantize.requantize(TensorType::F32, ty, 256, &bytes(&values)).unwrap();
            let back = GgmlRequantize.requantize(ty, TensorType::F32, 256, &data).unwrap();
            for (value, found) in values.iter().zip(back.as_chunks::<4>().0) {
                assert!((value - f32::from_le_bytes(*found)).abs() < tolerance, "{ty}: {value}");
            }
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let refuse = |to, row| {
            let error = GgmlRequantize.requantize(TensorType::F32, to, row, &bytes(&wave(row as usize))).unwrap_err();
            *error.downcast::<QuantizeError>().unwrap()
        };
        assert_eq!(refuse(TensorType::IQ2_XXS, 256), QuantizeError::Unwritable(TensorType::IQ2_XXS));
        assert_eq!(refuse(TensorType::Q4_K, 64), QuantizeError::Row { ty: TensorType::Q4_K, row_values: 64 });
    }
}
