//! Rotated rows in a few bits a float: a scale, then digits, each the nearest of a fixed set of levels.
//!
//! The levels are those that lose least of normally distributed values (Lloyd, "Least squares quantization in PCM", 1982; Max,
//! "Quantizing for minimum distortion", 1960), which rotated values nearly are. Their number need not be a power of two.

use collm_core::states::encoding::{Digits, ROTATED_SCALE_BYTES};

use super::rotation::Rotation;

/// Levels at or above zero for 32 levels; the others are the same below it.
const UPPER_OF_32: [f32; 16] = [
    0.0659, 0.1981, 0.3314, 0.4667, 0.6049, 0.7471, 0.8946, 1.0488, 1.2118, 1.3863, 1.5762, 1.7872, 2.0287, 2.3177,
    2.6911, 3.2607,
];

/// The same for 25 levels, of which zero is one.
const UPPER_OF_25: [f32; 13] =
    [0.0, 0.1676, 0.3368, 0.5093, 0.6870, 0.8722, 1.0680, 1.2785, 1.5099, 1.7719, 2.0822, 2.4791, 3.0782];

/// Writes and reads rows of one width with one set of levels.
#[derive(Debug, Clone)]
pub(super) struct Rotated {
    digits: Digits,
    /// Ascending.
    levels: Vec<f32>,
    /// Between two levels the one after the boundary is nearer.
    boundaries: Vec<f32>,
    rotation: Rotation,
    turned: Vec<f32>,
    indexes: Vec<u8>,
}

impl Rotated {
    pub(super) fn new(digits: Digits, width: usize) -> Self {
        let upper: &[f32] = if digits.base == 32 { &UPPER_OF_32 } else { &UPPER_OF_25 };
        let lower = upper.iter().rev().filter(|level| **level > 0.0).map(|level| -level);
        let levels: Vec<f32> = lower.chain(upper.iter().copied()).collect();
        let boundaries = levels.windows(2).map(|pair| f32::midpoint(pair[0], pair[1])).collect();
        Self {
            digits,
            levels,
            boundaries,
            rotation: Rotation::new(width),
            turned: vec![0.0; width],
            indexes: vec![0; width],
        }
    }

    /// Appends one row.
    pub(super) fn encode_row(&mut self, state: &[f32], bytes: &mut Vec<u8>) {
        self.turned.copy_from_slice(state);
        self.rotation.forth(&mut self.turned);
        let squares: f32 = self.turned.iter().map(|value| value * value).sum();
        let scale = (squares / state.len() as f32).sqrt();
        bytes.extend(scale.to_le_bytes());
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (index, value) in self.indexes.iter_mut().zip(&self.turned) {
            let value = value * inverse;
            *index = self.boundaries.iter().map(|boundary| u8::from(value > *boundary)).sum();
        }
        for indexes in self.indexes.chunks(self.digits.per_word) {
            let word = indexes.iter().rev().fold(0, |word, index| word * self.digits.base + u64::from(*index));
            bytes.extend(&word.to_le_bytes()[..self.digits.word_bytes]);
        }
    }

    /// Appends the floats of one row.
    pub(super) fn decode_row(&mut self, row: &[u8], state: &mut Vec<f32>) {
        let (scale, words) = row.split_at(ROTATED_SCALE_BYTES);
        let scale = scale.first_chunk().map_or(0.0, |&bytes| f32::from_le_bytes(bytes));
        let words = words.chunks_exact(self.digits.word_bytes);
        for (values, word) in self.turned.chunks_mut(self.digits.per_word).zip(words) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            let mut rest = u64::from_le_bytes(bytes);
            for value in values {
                *value = self.levels[(rest % self.digits.base) as usize] * scale;
                rest /= self.digits.base;
            }
        }
        self.rotation.back(&mut self.turned);
        state.extend_from_slice(&self.turned);
    }
}
