//! Conversion between storage types of weights, by ggml's own routines.

use collm_model::gguf::TensorType;
use llama_cpp_sys_2 as sys;

use crate::weights::type_id;

/// Appends the values of `data`, whole blocks of type `ty`, to `values`. `None` if ggml cannot read the type.
pub(crate) fn dequantize(ty: TensorType, data: &[u8], count: usize, values: &mut Vec<f32>) -> Option<()> {
    let start = values.len();
    values.resize(start + count, 0.0);
    let out = &mut values[start..];
    let expected = ty.row_bytes(count as u64).and_then(|bytes| usize::try_from(bytes).ok());
    assert_eq!(expected, Some(data.len()), "as many bytes as the values take");
    if ty == TensorType::F32 {
        for (value, bytes) in out.iter_mut().zip(data.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        return Some(());
    }
    // SAFETY: the traits are static; the routine reads `data` and writes `count` floats, as asserted above.
    unsafe {
        let read = (*sys::ggml_get_type_traits(type_id(ty))).to_float?;
        read(data.as_ptr().cast(), out.as_mut_ptr(), count as i64);
    }
    Some(())
}
