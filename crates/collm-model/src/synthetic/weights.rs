//! Random values and their encodings.

use half::f16;

use crate::gguf::TensorType;
use crate::values::{self, rounded_quotient};

/// SplitMix64: small, seeded, the same on every machine.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [-1, 1).
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `count` uniform values with this mean and standard deviation.
    pub(super) fn spread(&mut self, count: usize, mean: f32, deviation: f32) -> Vec<f32> {
        (0..count).map(|_| mean + self.uniform() * deviation * 3_f32.sqrt()).collect()
    }
}

/// The bytes of `values` in type `ty`.
///
/// # Panics
/// For types other than f32, f16, q8_0 and q4_0.
pub(super) fn encode(ty: TensorType, values: &[f32]) -> Vec<u8> {
    match ty {
        TensorType::Q4_0 => values.chunks(32).flat_map(encode_q4_0).collect(),
        other => values::encode(other, values).expect("synthetic models are made in f32, f16, q8_0 and q4_0"),
    }
}

/// A scale, then half a byte a value, offset by 8; a byte holds values `i` and `i + 16`.
fn encode_q4_0(block: &[f32]) -> Vec<u8> {
    let largest = block.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
    let scale = f16::from_f32(largest / 7.0);
    let quantise = |value: f32| (rounded_quotient(value, scale) + 8.0).clamp(0.0, 15.0) as u8;
    let pairs = (0..16).map(|index| quantise(block[index]) | quantise(block[index + 16]) << 4);
    scale.to_le_bytes().into_iter().chain(pairs).collect()
}
