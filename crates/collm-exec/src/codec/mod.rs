//! Between the floats of an engine and the bytes of an upload: one file an encoding.
//!
//! A row is encoded and decoded for itself, so that a position's bits do not depend on what else is in its upload. Decoding cannot
//! fail: what would not read as numbers does not parse.

mod floats;
mod int8;
mod rotated;
mod rotation;

use collm_core::{
    ids::Position,
    states::{Encoding, StateBlock, StatesError},
};

use self::{
    floats::{Halves, decode_singles, encode_singles},
    rotated::Rotated,
};
use crate::{ExecError, offset};

/// Encodes and decodes; owns the buffers in between.
#[derive(Debug, Default)]
pub struct Codec {
    halves: Halves,
    /// For the encoding and width in use.
    rotated: Vec<((Encoding, usize), Rotated)>,
}

impl Codec {
    /// Rows of `width` floats as a block for upload. The first row is at `first`.
    ///
    /// # Errors
    /// [`ExecError::Empty`], [`ExecError::NotFinite`] or [`ExecError::Beyond`]: there are no rows, or a value is not finite or too large for the encoding.
    pub fn encode(
        &mut self,
        encoding: Encoding,
        width: usize,
        first: Position,
        states: &[f32],
    ) -> Result<StateBlock, ExecError> {
        let floats = u32::try_from(width).expect("a hidden state has fewer than 2^32 floats");
        let rows = states.chunks_exact(width);
        if let Some(row) = rows.clone().position(|state| !state.iter().all(|value| value.is_finite())) {
            return Err(ExecError::NotFinite(offset(first, row)));
        }
        let mut bytes = Vec::with_capacity(rows.len() * encoding.row_bytes(floats));
        match encoding {
            Encoding::F16 => self.halves.encode(states, &mut bytes),
            Encoding::F32 => encode_singles(states, &mut bytes),
            Encoding::Int8 => rows.for_each(|state| int8::encode_row(state, &mut bytes)),
            Encoding::Rotated32 | Encoding::Rotated22 => {
                let rotated = self.rotated(encoding, width);
                rows.for_each(|state| rotated.encode_row(state, &mut bytes));
            }
        }
        StateBlock::parse(encoding, floats, bytes.into()).map_err(|error| match error {
            StatesError::NotFinite { row } => {
                let value = largest(&states[row * width..][..width]);
                ExecError::Beyond { encoding, position: offset(first, row), value }
            }
            StatesError::Length { .. } => ExecError::Empty(first),
        })
    }

    /// Appends rows `[from, to)` of a block to `states`.
    pub fn decode(&mut self, block: &StateBlock, from: u32, to: u32, states: &mut Vec<f32>) {
        let (encoding, width) = (block.encoding(), block.width() as usize);
        let block = block.slice(from, to);
        let rows = block.bytes().chunks_exact(encoding.row_bytes(block.width()));
        match encoding {
            Encoding::F16 => self.halves.decode(block.bytes(), states),
            Encoding::F32 => decode_singles(block.bytes(), states),
            Encoding::Int8 => rows.for_each(|row| int8::decode_row(row, width, states)),
            Encoding::Rotated32 | Encoding::Rotated22 => {
                let rotated = self.rotated(encoding, width);
                rows.for_each(|row| rotated.decode_row(row, states));
            }
        }
    }

    fn rotated(&mut self, encoding: Encoding, width: usize) -> &mut Rotated {
        let key = (encoding, width);
        let index = self.rotated.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            let digits = encoding.digits().expect("only encodings with levels are asked for");
            self.rotated.push((key, Rotated::new(digits, width)));
            self.rotated.len() - 1
        });
        &mut self.rotated[index].1
    }
}

/// The value that is furthest from zero.
fn largest(state: &[f32]) -> f32 {
    state.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The encodings that round all values of a group, or of a row, by the same measure.
    const SCALED: [Encoding; 3] = [Encoding::Int8, Encoding::Rotated32, Encoding::Rotated22];

    fn there_and_back(codec: &mut Codec, encoding: Encoding, state: &[f32]) -> Vec<f32> {
        let block = codec.encode(encoding, state.len(), Position(0), state).unwrap();
        assert_eq!(block.bytes().len(), encoding.row_bytes(state.len() as u32));
        let mut decoded = vec![];
        codec.decode(&block, 0, 1, &mut decoded);
        assert_eq!(decoded.len(), state.len());
        decoded
    }

    /// The length of what is lost, as a share of the length of the state.
    fn lost(state: &[f32], decoded: &[f32]) -> f64 {
        let square = |value: f32| f64::from(value) * f64::from(value);
        let lost: f64 = state.iter().zip(decoded).map(|(a, b)| square(a - b)).sum();
        (lost / state.iter().map(|value| square(*value)).sum::<f64>().max(1e-60)).sqrt()
    }

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
        let expected = ExecError::Beyond { encoding: Encoding::F16, position: Position(8), value: -7e4 };
        assert_eq!(result, Err(expected));
        assert!(codec.encode(Encoding::F32, 2, Position(7), &[1.0, -7e4]).is_ok());
    }

    #[test]
    fn what_is_not_finite_is_the_models_fault() {
        let mut codec = Codec::default();
        for encoding in Encoding::ALL {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let result = codec.encode(encoding, 1, Position(3), &[0.0, bad]);
                assert_eq!(result, Err(ExecError::NotFinite(Position(4))));
            }
        }
        let nothing = codec.encode(Encoding::F16, 1, Position(3), &[]);
        assert_eq!(nothing, Err(ExecError::Empty(Position(3))));
    }

    #[test]
    fn encodings_lose_what_they_promise() {
        let mut codec = Codec::default();
        // Nearly normally distributed, with some values that stand out, as states have them.
        let mut state: Vec<f32> =
            (0..576).map(|i| (0..12).map(|k| ((i * 12 + k) as f32 * 2.399).sin()).sum()).collect();
        (state[7], state[300], state[570]) = (40.0, -25.0, 30.0);
        for (encoding, most) in
            [(Encoding::F16, 4e-4), (Encoding::Int8, 0.012), (Encoding::Rotated32, 0.052), (Encoding::Rotated22, 0.075)]
        {
            let share = lost(&state, &there_and_back(&mut codec, encoding, &state));
            assert!(share > 0.0 && share < most, "{encoding:?} loses {share}");
        }
    }

    #[test]
    fn states_beyond_half_precision_are_carried_by_scales() {
        let mut codec = Codec::default();
        let mut state = vec![0.5; 640];
        state[3] = 98_407.0;
        for encoding in SCALED {
            let decoded = there_and_back(&mut codec, encoding, &state);
            assert!(lost(&state, &decoded) < 0.1, "{encoding:?}");
        }
        state[3] = f32::MAX;
        for encoding in SCALED {
            let result = codec.encode(encoding, 640, Position(2), &state);
            assert_eq!(result, Err(ExecError::Beyond { encoding, position: Position(2), value: f32::MAX }));
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let mut codec = Codec::default();
        let states: Vec<f32> = (0..3 * 45).map(|i| (i as f32).sin() * i as f32).collect();
        for encoding in Encoding::ALL {
            let block = codec.encode(encoding, 45, Position(0), &states).unwrap();
            for row in 0..3 {
                let alone = codec.encode(encoding, 45, Position(9), &states[row * 45..][..45]).unwrap();
                assert_eq!(block.slice(row as u32, row as u32 + 1), alone, "{encoding:?}");
                let mut decoded = vec![];
                codec.decode(&block, row as u32, row as u32 + 1, &mut decoded);
                assert_eq!(decoded, there_and_back(&mut codec, encoding, &states[row * 45..][..45]), "{encoding:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_near(state in vec(-1e5f32..1e5, 1..200)) {
            let mut codec = Codec::default();
            for (encoding, most) in [(Encoding::Int8, 0.02), (Encoding::Rotated32, 0.3), (Encoding::Rotated22, 0.3)] {
                let share = lost(&state, &there_and_back(&mut codec, encoding, &state));
                prop_assert!(share < most, "{encoding:?} loses {share}");
            }
        }

        #[test]
        fn whatever_parses_reads_as_numbers(width in 1u32..100, bytes in vec(any::<u8>(), 1..500)) {
            let mut codec = Codec::default();
            for encoding in Encoding::ALL {
                let row_bytes = encoding.row_bytes(width);
                let bytes: Vec<u8> = bytes.iter().copied().cycle().take(2 * row_bytes).collect();
                let Ok(block) = StateBlock::parse(encoding, width, bytes.into()) else { continue };
                let mut states = vec![];
                codec.decode(&block, 0, 2, &mut states);
                prop_assert_eq!(states.len(), 2 * width as usize);
                prop_assert!(states.iter().all(|value| value.is_finite()), "{:?}", encoding);
            }
        }
    }
}
