//! Rotated rows in a few bits a float: a scale, the four largest values, then digits, each the nearest of a fixed set of levels.
//!
//! The largest few values hold most of a state's length, and kept apart they do not blur the others. The levels are those that
//! lose least of normally distributed values (Lloyd, "Least squares quantization in PCM", 1982; Max, "Quantizing for minimum
//! distortion", 1960), which rotated values nearly are. Their number need not be a power of two.

use collm_core::states::encoding::{Digits, ROTATED_OUTLIER_BYTES, ROTATED_OUTLIERS, ROTATED_SCALE_BYTES, outliers};
use half::bf16;

use super::rotation::Rotation;

/// Levels above zero for 32 levels; the others are the same below it.
const UPPER_OF_32: [f32; 16] = [
    0.0659, 0.1981, 0.3314, 0.4667, 0.6049, 0.7471, 0.8946, 1.0488, 1.2118, 1.3863, 1.5762, 1.7872, 2.0287, 2.3177,
    2.6911, 3.2607,
];

/// The same for 22 levels.
const UPPER_OF_22: [f32; 11] = [0.0947, 0.2852, 0.4792, 0.6795, 0.8893, 1.1130, 1.3571, 1.6316, 1.9547, 2.3654, 2.9813];

/// Bytes before the digits.
const HEAD_BYTES: usize = ROTATED_SCALE_BYTES + ROTATED_OUTLIERS * ROTATED_OUTLIER_BYTES;

/// Writes and reads rows of one width with one set of levels.
#[derive(Debug, Clone)]
pub(super) struct Rotated {
    digits: Digits,
    /// Ascending.
    levels: Vec<f32>,
    /// Between two levels the one after the boundary is nearer.
    boundaries: Vec<f32>,
    rotation: Rotation,
    /// A row under way.
    values: Vec<f32>,
    indexes: Vec<u8>,
}

impl Rotated {
    pub(super) fn new(digits: Digits, width: usize) -> Self {
        let upper: &[f32] = if digits.base == 32 { &UPPER_OF_32 } else { &UPPER_OF_22 };
        let levels: Vec<f32> = upper.iter().rev().map(|level| -level).chain(upper.iter().copied()).collect();
        let boundaries = levels.windows(2).map(|pair| f32::midpoint(pair[0], pair[1])).collect();
        let (values, indexes) = (vec![0.0; width], vec![0; width]);
        Self { digits, levels, boundaries, rotation: Rotation::new(width), values, indexes }
    }

    /// Appends one row.
    pub(super) fn encode_row(&mut self, state: &[f32], bytes: &mut Vec<u8>) {
        self.values.copy_from_slice(state);
        let kept = take_outliers(&mut self.values);
        self.rotation.forth(&mut self.values);
        let squares: f32 = self.values.iter().map(|value| value * value).sum();
        let scale = (squares / state.len() as f32).sqrt();
        bytes.extend(scale.to_le_bytes());
        for (index, value) in kept {
            bytes.extend(index.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (index, value) in self.indexes.iter_mut().zip(&self.values) {
            let value = value * inverse;
            *index = self.boundaries.iter().map(|boundary| u8::from(value > *boundary)).sum();
        }
        pack(self.digits, &self.indexes, bytes);
    }

    /// Appends the floats of one row.
    pub(super) fn decode_row(&mut self, row: &[u8], state: &mut Vec<f32>) {
        let scale = row.first_chunk().map_or(0.0, |&bytes| f32::from_le_bytes(bytes));
        unpack(self.digits, &row[HEAD_BYTES..], &mut self.indexes);
        for (value, index) in self.values.iter_mut().zip(&self.indexes) {
            *value = self.levels[usize::from(*index)] * scale;
        }
        self.rotation.back(&mut self.values);
        for (index, value) in outliers(row) {
            self.values[usize::from(index)] += value;
        }
        state.extend_from_slice(&self.values);
    }
}

/// Takes the values that are furthest from zero out of a row, and leaves there what rounding loses of them.
fn take_outliers(values: &mut [f32]) -> [(u16, bf16); ROTATED_OUTLIERS] {
    let reach = values.len().min(1 << 16);
    let values = &mut values[..reach];
    std::array::from_fn(|_| {
        let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let index = values.iter().position(|value| value.abs() == largest).unwrap_or_default();
        let kept = bf16::from_f32(values[index]);
        values[index] -= kept.to_f32();
        (u16::try_from(index).expect("indexes are below 2^16"), kept)
    })
}

/// Appends digits in groups, from the lowest bit on.
fn pack(digits: Digits, indexes: &[u8], bytes: &mut Vec<u8>) {
    let (mut bits, mut filled) = (0u32, 0);
    for group in indexes.chunks(digits.per_group) {
        let group = group.iter().rev().fold(0, |group, index| group * digits.base + u32::from(*index));
        bits |= group << filled;
        filled += digits.group_bits;
        while filled >= 8 {
            bytes.push((bits & 0xff) as u8);
            bits >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        bytes.push((bits & 0xff) as u8);
    }
}

/// Reads what [`pack`] wrote. Groups that it never writes are digits all the same.
fn unpack(digits: Digits, bytes: &[u8], indexes: &mut [u8]) {
    let (mut bits, mut filled) = (0u32, 0);
    let mut bytes = bytes.iter();
    for indexes in indexes.chunks_mut(digits.per_group) {
        while filled < digits.group_bits {
            bits |= u32::from(bytes.next().copied().unwrap_or_default()) << filled;
            filled += 8;
        }
        let mut group = bits & ((1 << digits.group_bits) - 1);
        for index in indexes {
            *index = (group % digits.base) as u8;
            group /= digits.base;
        }
        bits >>= digits.group_bits;
        filled -= digits.group_bits;
    }
}
