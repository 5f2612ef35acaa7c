//! Fitted tensors as numbers: f32, f16 and q8_0, the types that exits files may hold.
//!
//! Deliberately absent: every other type. A model's own weights are bytes to this crate; the tensor library converts them.

use half::f16;

use crate::gguf::{TensorType, TensorView};

/// Values that share a scale in q8_0.
const Q8_0_VALUES: usize = 32;
/// Bytes of a q8_0 block: an f16 scale, then one signed byte a value.
const Q8_0_BYTES: usize = 34;

/// All values of a tensor, row by row. `None` for other types than f32, f16 and q8_0.
pub(crate) fn decode(tensor: &TensorView<'_>) -> Option<Vec<f32>> {
    match tensor.ty {
        TensorType::F32 => Some(decode_f32(tensor.data)),
        TensorType::F16 => {
            Some(tensor.data.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect())
        }
        TensorType::Q8_0 => Some(tensor.data.as_chunks::<Q8_0_BYTES>().0.iter().flat_map(decode_q8_0).collect()),
        _ => None,
    }
}

/// Whether all values of a tensor are finite; those of a block in q8_0 are if its scale is. `None` for types other than in [`decode`].
pub(crate) fn are_finite(tensor: &TensorView<'_>) -> Option<bool> {
    let half = |bytes: [u8; 2]| f16::from_le_bytes(bytes).is_finite();
    match tensor.ty {
        TensorType::F32 => Some(tensor.data.as_chunks::<4>().0.iter().all(|&b| f32::from_le_bytes(b).is_finite())),
        TensorType::F16 => Some(tensor.data.as_chunks::<2>().0.iter().all(|&b| half(b))),
        TensorType::Q8_0 => Some(tensor.data.as_chunks::<Q8_0_BYTES>().0.iter().all(|b| half([b[0], b[1]]))),
        _ => None,
    }
}

/// Little-endian f32 values.
pub(crate) fn decode_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn decode_q8_0(block: &[u8; Q8_0_BYTES]) -> impl Iterator<Item = f32> {
    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
    block[2..].iter().map(move |&value| scale * f32::from(value as i8))
}

/// The bytes of `values`, whole rows of type `ty`. `None` for other types than f32, f16 and q8_0, and for broken blocks.
pub(crate) fn encode(ty: TensorType, values: &[f32]) -> Option<Vec<u8>> {
    match ty {
        TensorType::F32 => Some(encode_f32(values)),
        TensorType::F16 => Some(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()),
        TensorType::Q8_0 if values.len().is_multiple_of(Q8_0_VALUES) => {
            Some(values.chunks_exact(Q8_0_VALUES).flat_map(encode_q8_0).collect())
        }
        _ => None,
    }
}

/// The bytes of `values` as little-endian f32.
pub(crate) fn encode_f32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn encode_q8_0(block: &[f32]) -> Vec<u8> {
    let largest = block.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let quantise = |value: &f32| rounded_quotient(*value, scale).clamp(-127.0, 127.0) as i8 as u8;
    scale.to_le_bytes().into_iter().chain(block.iter().map(quantise)).collect()
}

/// How many times `scale` goes into `value`, rounded; nothing divides by the scale of a block of zeros.
pub(crate) fn rounded_quotient(value: f32, scale: f16) -> f32 {
    if scale == f16::ZERO { 0.0 } else { (value / scale.to_f32()).round() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Gguf, GgufWriter};

    fn round_trip(ty: TensorType, values: &[f32]) -> Vec<f32> {
        let mut writer = GgufWriter::new();
        writer.add_tensor("x", ty, &[values.len() as u64]).unwrap();
        let bytes = writer.to_bytes(|_, out| out.write_all(&encode(ty, values).unwrap())).unwrap();
        decode(&Gguf::from_bytes(bytes).unwrap().tensor("x").unwrap()).unwrap()
    }

    #[test]
    fn values_read_back() {
        let values: Vec<f32> = (0..64).map(|index| (index as f32 * 0.7).sin()).collect();
        for (ty, tolerance) in [(TensorType::F32, 0.0), (TensorType::F16, 1e-3), (TensorType::Q8_0, 0.01)] {
            let back = round_trip(ty, &values);
            assert!(values.iter().zip(&back).all(|(value, back)| (value - back).abs() <= tolerance), "{ty}: {back:?}");
        }
        assert_eq!(round_trip(TensorType::Q8_0, &[0.0; 32]), [0.0; 32]);
    }

    #[test]
    fn other_types_and_broken_blocks_are_refused() {
        assert_eq!(encode(TensorType::Q4_0, &[0.0; 32]), None);
        assert_eq!(encode(TensorType::Q8_0, &[0.0; 31]), None);
    }
}
