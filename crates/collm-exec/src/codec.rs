//! Hidden states between the engine's `f32` and the bytes of an upload. Whole slices at a time, so that conversions to and
//! from half precision use the processor's instructions.

use bytes::Bytes;
use collm_core::{
    ids::Position,
    states::{Encoding, StateBlock, StatesError},
};
use half::{
    f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};

use crate::{ExecError, offset};

/// Encodes and decodes; owns the buffer in between.
#[derive(Debug, Default)]
pub(crate) struct Codec {
    bits: Vec<u16>,
}

impl Codec {
    /// Rows of `width` floats as a block for upload. The first row is at `first`.
    ///
    /// # Errors
    /// When there are no rows, or a value is not finite or too large for the encoding.
    pub(crate) fn encode(
        &mut self,
        encoding: Encoding,
        width: usize,
        first: Position,
        states: &[f32],
    ) -> Result<StateBlock, ExecError> {
        let bytes = match encoding {
            Encoding::F16 => self.halves(states),
            Encoding::F32 => states.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        let floats = u32::try_from(width).expect("a hidden state has fewer than 2^32 floats");
        StateBlock::parse(encoding, floats, bytes).map_err(|error| match error {
            StatesError::NotFinite { row } => fault(offset(first, row), &states[row * width..][..width]),
            StatesError::Length { .. } => ExecError::Empty(first),
        })
    }

    /// Appends rows `[from, to)` of a block to `states`.
    pub(crate) fn decode(&mut self, block: &StateBlock, from: u32, to: u32, states: &mut Vec<f32>) {
        let rows = block.slice(from, to);
        match rows.encoding() {
            Encoding::F16 => self.singles(rows.bytes(), states),
            Encoding::F32 => {
                let floats = rows.bytes().as_chunks().0;
                states.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
        }
    }

    fn halves(&mut self, states: &[f32]) -> Bytes {
        self.bits.clear();
        self.bits.resize(states.len(), 0);
        self.bits.reinterpret_cast_mut::<f16>().convert_from_f32_slice(states);
        self.bits.iter().flat_map(|bits| bits.to_le_bytes()).collect()
    }

    fn singles(&mut self, bytes: &[u8], states: &mut Vec<f32>) {
        self.bits.clear();
        let pairs = bytes.as_chunks().0;
        self.bits.extend(pairs.iter().map(|bytes| u16::from_le_bytes(*bytes)));
        let start = states.len();
        states.resize(start + self.bits.len(), 0.0);
        self.bits.reinterpret_cast::<f16>().convert_to_f32_slice(&mut states[start..]);
    }
}

/// Whether the model or the encoding is at fault for a row that came out as not finite.
fn fault(position: Position, state: &[f32]) -> ExecError {
    if !state.iter().all(|value| value.is_finite()) {
        return ExecError::NotFinite(position);
    }
    let beyond = |value: &f32| f16::from_f32(*value).is_infinite();
    let value = state.iter().copied().find(beyond).unwrap_or_default();
    ExecError::BeyondF16 { position, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [f32; 6] = [0.0, -1.5, 127.0, 65504.0, -65504.0, 0.25];

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut codec = Codec::default();
        for encoding in [Encoding::F16, Encoding::F32] {
            let block = codec.encode(encoding, 2, Position(7), &STATES).unwrap();
            assert_eq!(block.rows(), 3);
            let mut decoded = vec![9.0];
            codec.decode(&block, 1, 3, &mut decoded);
            assert_eq!(decoded, [9.0, 127.0, 65504.0, -65504.0, 0.25], "{encoding:?}");
        }
    }

    #[test]
    fn single_precision_keeps_every_bit() {
        let mut codec = Codec::default();
        let states = [f32::MAX, f32::MIN_POSITIVE, 1.0 / 3.0, -0.0];
        let block = codec.encode(Encoding::F32, 4, Position(0), &states).unwrap();
        let mut decoded = vec![];
        codec.decode(&block, 0, 1, &mut decoded);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&decoded), bits(&states));
    }

    #[test]
    fn what_f16_cannot_carry_is_named_with_its_position() {
        let mut codec = Codec::default();
        let result = codec.encode(Encoding::F16, 2, Position(7), &[1.0, 2.0, 3.0, -7e4]);
        let expected = ExecError::BeyondF16 { position: Position(8), value: -7e4 };
        assert_eq!(result, Err(expected));
        assert!(codec.encode(Encoding::F32, 2, Position(7), &[1.0, -7e4]).is_ok());
    }

    #[test]
    fn what_is_not_finite_is_the_models_fault() {
        let mut codec = Codec::default();
        for encoding in [Encoding::F16, Encoding::F32] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let result = codec.encode(encoding, 1, Position(3), &[0.0, bad]);
                assert_eq!(result, Err(ExecError::NotFinite(Position(4))));
            }
        }
        let nothing = codec.encode(Encoding::F16, 1, Position(3), &[]);
        assert_eq!(nothing, Err(ExecError::Empty(Position(3))));
    }
}
