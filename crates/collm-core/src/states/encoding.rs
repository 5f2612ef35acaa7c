//! How hidden states are written: the bytes of a row, and what in them would not be a number.
//!
//! Every row stands for itself: whoever has it needs no other row to read it. What the numbers mean is `collm-exec`'s business.

/// How a hidden state is written. Little-endian. `docs/protocol.md` has the layout of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// Half precision (paper section IV-C): 2 bytes a float. Not lossless: it may decide near-ties anew.
    F16,
    /// Single precision: 4 bytes a float, equal to the last bit to what the edge computed.
    F32,
    /// A signed byte a float, and a scale for [`INT8_GROUP`] of them.
    Int8,
    /// The four largest values apart, the rest rotated, then one of 32 levels a float and a scale for all: 5 bits.
    Rotated32,
    /// The same with 22 levels: 4.5 bits.
    Rotated22,
}

/// Floats that share a scale in [`Encoding::Int8`].
pub const INT8_GROUP: usize = 32;

/// Bytes of a scale in [`Encoding::Int8`]: the upper half of an f32 (bfloat16), since half precision ends below what some models compute.
pub const INT8_SCALE_BYTES: usize = 2;

/// Bytes of the scale, an f32, that a row of a rotated encoding begins with.
pub const ROTATED_SCALE_BYTES: usize = 4;

/// The largest values of a row, which a rotated encoding keeps apart: they follow the scale.
pub const ROTATED_OUTLIERS: usize = 4;

/// Bytes of each: an index of two bytes and a bfloat16.
pub const ROTATED_OUTLIER_BYTES: usize = 4;

/// Scales and outliers end here: whatever is read back is a number, and so are sums over a row of it.
pub const SCALE_MAX: f32 = 1e30;

/// How the levels of a rotated encoding are packed: groups of digits, one group after the other from the lowest bit on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digits {
    /// Levels.
    pub base: u32,
    /// Digits in a group, the first the least significant.
    pub per_group: usize,
    /// Bits of a group.
    pub group_bits: usize,
}

impl Digits {
    const BASE_32: Self = Self { base: 32, per_group: 1, group_bits: 5 };
    const BASE_22: Self = Self { base: 22, per_group: 2, group_bits: 9 };
}

impl Encoding {
    /// All of them, the ones with more bytes first.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Int8, Self::Rotated32, Self::Rotated22];

    /// The word people type.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::Int8 => "int8",
            Self::Rotated32 => "rotated32",
            Self::Rotated22 => "rotated22",
        }
    }

    /// Bytes that one hidden state of `width` floats takes.
    pub fn row_bytes(self, width: u32) -> usize {
        let floats = width as usize;
        match self {
            Self::F16 => 2 * floats,
            Self::F32 => 4 * floats,
            Self::Int8 => floats + floats.div_ceil(INT8_GROUP) * INT8_SCALE_BYTES,
            Self::Rotated32 | Self::Rotated22 if floats == 0 => 0,
            Self::Rotated32 => rotated_bytes(Digits::BASE_32, floats),
            Self::Rotated22 => rotated_bytes(Digits::BASE_22, floats),
        }
    }

    /// How its levels are packed, if it has any.
    pub fn digits(self) -> Option<Digits> {
        match self {
            Self::F16 | Self::F32 | Self::Int8 => None,
            Self::Rotated32 => Some(Digits::BASE_32),
            Self::Rotated22 => Some(Digits::BASE_22),
        }
    }

    /// Whether a row of this encoding reads as numbers. `row` has [`Self::row_bytes`] of them.
    pub(super) fn is_finite(self, row: &[u8], width: u32) -> bool {
        match self {
            Self::F16 => row.as_chunks().0.iter().all(|&[_, high]: &[u8; 2]| high & 0x7c != 0x7c),
            Self::F32 => row.as_chunks().0.iter().all(|&bytes| f32::from_le_bytes(bytes).is_finite()),
            Self::Int8 => {
                row[..row.len() - width as usize].as_chunks().0.iter().all(|&[low, high]| is_scale([0, 0, low, high]))
            }
            Self::Rotated32 | Self::Rotated22 => {
                row.first_chunk().is_some_and(|&scale| is_scale(scale))
                    && outliers(row).all(|(index, value)| u32::from(index) < width && value.abs() <= SCALE_MAX)
            }
        }
    }
}

fn rotated_bytes(digits: Digits, floats: usize) -> usize {
    let group_bits = floats.div_ceil(digits.per_group) * digits.group_bits;
    ROTATED_SCALE_BYTES + ROTATED_OUTLIERS * ROTATED_OUTLIER_BYTES + group_bits.div_ceil(8)
}

/// Index and value of each float that a row of a rotated encoding keeps apart.
pub fn outliers(row: &[u8]) -> impl Iterator<Item = (u16, f32)> {
    let entries = row.get(ROTATED_SCALE_BYTES..).unwrap_or_default().as_chunks::<ROTATED_OUTLIER_BYTES>().0;
    entries
        .iter()
        .take(ROTATED_OUTLIERS)
        .map(|&[a, b, low, high]| (u16::from_le_bytes([a, b]), f32::from_le_bytes([0, 0, low, high])))
}

fn is_scale(bytes: [u8; 4]) -> bool {
    (0.0..=SCALE_MAX).contains(&f32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::states::{StateBlock, StatesError};

    /// A row of zeros with an f32 scale, or the upper half of it, at the place where the encoding has its last one.
    fn row(encoding: Encoding, width: u32, scale: f32) -> Vec<u8> {
        let mut row = vec![0; encoding.row_bytes(width)];
        let bytes = scale.to_le_bytes();
        match encoding {
            Encoding::Int8 => {
                row[INT8_SCALE_BYTES * ((width as usize - 1) / INT8_GROUP)..][..2].copy_from_slice(&bytes[2..]);
            }
            _ => row[..ROTATED_SCALE_BYTES].copy_from_slice(&bytes),
        }
        row
    }

    #[test]
    fn a_row_is_as_long_as_its_encoding_says() {
        for encoding in Encoding::ALL {
            for width in [1, 7, 8, 12, 13, 31, 32, 33, 576, 577, 640, 2048] {
                let bytes = encoding.row_bytes(width);
                for rows in [1, 3] {
                    let block = StateBlock::parse(encoding, width, vec![0; rows * bytes].into()).expect("whole rows");
                    assert_eq!((block.rows() as usize, block.has_width(width)), (rows, true), "{encoding:?}, {width}");
                    assert!(!block.has_width(width + 1), "rows of another width may be as long");
                }
                for wrong in [0, bytes - 1, bytes + 1] {
                    let result = StateBlock::parse(encoding, width, vec![0; wrong].into());
                    let expected = StatesError::Length { bytes: wrong, row_bytes: bytes };
                    assert_eq!(result, Err(expected), "{encoding:?}, {width}");
                }
            }
            assert_eq!(encoding.row_bytes(0), 0, "{encoding:?}");
        }
    }

    #[test]
    fn what_the_targets_were_set_in() {
        let bytes = Encoding::ALL.map(|encoding| encoding.row_bytes(576));
        assert_eq!(bytes, [2304, 1152, 612, 380, 344]);
    }

    #[test]
    fn an_outlier_that_is_none_is_refused() {
        let width = 33;
        for encoding in [Encoding::Rotated32, Encoding::Rotated22] {
            for (index, value, is_one) in [
                (32, 1e5f32, true),
                (32, -1e5, true),
                (33, 1.0, false),
                (0, f32::NAN, false),
                (0, f32::INFINITY, false),
            ] {
                let mut row = row(encoding, width, 1.0);
                let last = ROTATED_SCALE_BYTES + (ROTATED_OUTLIERS - 1) * ROTATED_OUTLIER_BYTES;
                row[last..last + 2].copy_from_slice(&u16::to_le_bytes(index));
                row[last + 2..last + 4].copy_from_slice(&value.to_le_bytes()[2..]);
                let parsed = StateBlock::parse(encoding, width, row.into());
                assert_eq!(parsed.is_ok(), is_one, "{encoding:?}, {value} at {index}");
            }
        }
    }

    #[test]
    fn a_scale_that_is_no_scale_is_refused() {
        for encoding in [Encoding::Int8, Encoding::Rotated32, Encoding::Rotated22] {
            for width in [5, 33] {
                let parse = |scale| StateBlock::parse(encoding, width, row(encoding, width, scale).into());
                assert!(parse(98_000.0).is_ok() && parse(0.0).is_ok(), "{encoding:?}");
                for bad in [f32::NAN, f32::INFINITY, -1.0, 2e30] {
                    assert_eq!(parse(bad), Err(StatesError::NotFinite { row: 0 }), "{encoding:?}, {bad}");
                }
            }
        }
    }
}
