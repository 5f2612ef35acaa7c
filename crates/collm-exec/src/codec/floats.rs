//! States as floats, each for itself.

use half::{
    f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};

/// Half precision, with the buffer that the conversion needs.
#[derive(Debug, Default)]
pub(super) struct Halves {
    bits: Vec<u16>,
}

impl Halves {
    pub(super) fn encode(&mut self, states: &[f32], bytes: &mut Vec<u8>) {
        self.bits.clear();
        self.bits.resize(states.len(), 0);
        self.bits.reinterpret_cast_mut::<f16>().convert_from_f32_slice(states);
        bytes.extend(self.bits.iter().flat_map(|bits| bits.to_le_bytes()));
    }

    pub(super) fn decode(&mut self, bytes: &[u8], states: &mut Vec<f32>) {
        self.bits.clear();
        let pairs = bytes.as_chunks().0;
        self.bits.extend(pairs.iter().map(|bytes| u16::from_le_bytes(*bytes)));
        let start = states.len();
        states.resize(start + self.bits.len(), 0.0);
        self.bits.reinterpret_cast::<f16>().convert_to_f32_slice(&mut states[start..]);
    }
}

pub(super) fn encode_singles(states: &[f32], bytes: &mut Vec<u8>) {
    bytes.extend(states.iter().flat_map(|value| value.to_le_bytes()));
}

pub(super) fn decode_singles(bytes: &[u8], states: &mut Vec<f32>) {
    let floats = bytes.as_chunks().0;
    states.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
}
