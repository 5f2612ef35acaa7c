//! Hidden states on their way from edge to cloud: opaque bytes of a known encoding, one row a position.
//!
//! The core moves, keeps and drops them, and never looks at a number except to refuse those that are not finite.

pub mod encoding;
mod log;

use bytes::Bytes;
pub use encoding::Encoding;
pub use log::StateLog;

/// Why bytes are not a block of hidden states.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatesError {
    /// Not a whole number of rows, or none.
    #[error("{bytes} bytes are not one or more rows of {row_bytes} bytes")]
    Length {
        /// Bytes given.
        bytes: usize,
        /// Bytes of a row.
        row_bytes: usize,
    },
    /// A NaN or an infinity.
    #[error(
        "row {row} of the block has a value that is not finite; the sender computed garbage or the encoding overflowed"
    )]
    NotFinite {
        /// Index of the row in the block.
        row: usize,
    },
}

/// Hidden states of consecutive positions. At least one row, every value finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBlock {
    encoding: Encoding,
    width: u32,
    bytes: Bytes,
}

impl StateBlock {
    /// Takes bytes as rows of `width` floats each.
    ///
    /// # Errors
    /// When they are not whole rows, or not finite.
    pub fn parse(encoding: Encoding, width: u32, bytes: Bytes) -> Result<Self, StatesError> {
        let row_bytes = encoding.row_bytes(width);
        if bytes.is_empty() || row_bytes == 0 || !bytes.len().is_multiple_of(row_bytes) {
            return Err(StatesError::Length { bytes: bytes.len(), row_bytes });
        }
        let damaged = bytes.chunks_exact(row_bytes).position(|row| !encoding.is_finite(row, width));
        match damaged {
            Some(row) => Err(StatesError::NotFinite { row }),
            None => Ok(Self { encoding, width, bytes }),
        }
    }

    /// How its floats are written.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether its rows have `width` floats.
    pub fn has_width(&self, width: u32) -> bool {
        self.width == width
    }

    /// Floats of a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    fn row_bytes(&self) -> usize {
        self.encoding.row_bytes(self.width)
    }

    /// Positions in the block.
    pub fn rows(&self) -> u32 {
        u32::try_from(self.bytes.len() / self.row_bytes()).expect("blocks are bounded by the frame limit")
    }

    /// The encoded rows.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The first rows of the block, in memory of their own: what is kept must not hold on to what is not.
    #[must_use]
    pub fn copy_first(&self, rows: u32) -> Self {
        let bytes = Bytes::copy_from_slice(self.slice(0, rows).bytes());
        Self { bytes, ..*self }
    }

    /// Rows `[from, to)` of the block, sharing its memory. Panics if the range is empty or outside.
    #[must_use]
    pub fn slice(&self, from: u32, to: u32) -> Self {
        assert!(from < to && to <= self.rows(), "rows {from}..{to} of a block of {}", self.rows());
        let bytes = self.bytes.slice(from as usize * self.row_bytes()..to as usize * self.row_bytes());
        Self { bytes, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f16(bits: &[u16]) -> Bytes {
        bits.iter().flat_map(|b| b.to_le_bytes()).collect::<Vec<_>>().into()
    }

    #[test]
    fn refuses_what_is_not_whole_rows() {
        for bytes in [0, 1, 3, 7] {
            let result = StateBlock::parse(Encoding::F16, 2, Bytes::from(vec![0; bytes]));
            assert_eq!(result, Err(StatesError::Length { bytes, row_bytes: 4 }), "{bytes} bytes");
        }
    }

    #[test]
    fn names_the_row_that_is_not_finite() {
        const ONE: u16 = 0x3c00;
        for bad in [0x7c00, 0xfc00, 0x7e01] {
            let result = StateBlock::parse(Encoding::F16, 2, f16(&[ONE, ONE, ONE, bad]));
            assert_eq!(result, Err(StatesError::NotFinite { row: 1 }));
        }
        let largest = StateBlock::parse(Encoding::F16, 1, f16(&[0x7bff])).map(|b| b.rows());
        assert_eq!(largest, Ok(1), "the largest finite value passes");
        let bytes: Vec<u8> = [1.0f32, f32::MAX, f32::INFINITY].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(StateBlock::parse(Encoding::F32, 1, bytes.into()), Err(StatesError::NotFinite { row: 2 }));
    }

    #[test]
    fn slices_share_rows() {
        let block = StateBlock::parse(Encoding::F16, 1, f16(&[1, 2, 3])).expect("three finite rows");
        assert_eq!(block.slice(1, 3).bytes(), &f16(&[2, 3]));
        assert_eq!(block.slice(0, 1).rows(), 1);
    }
}
