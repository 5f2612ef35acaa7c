//! A signed byte a float, and a scale for every group of them.
//!
//! A row is the scales of its groups, then its bytes. The last group may be short.

use collm_core::states::encoding::{INT8_GROUP, INT8_SCALE_BYTES};
use half::bf16;

/// The largest byte in use: the range is symmetric.
const BYTE_MAX: f32 = 127.0;

/// Appends one row.
pub(super) fn encode_row(state: &[f32], bytes: &mut Vec<u8>) {
    let groups = || state.chunks(INT8_GROUP).map(|group| (group, scale(group)));
    bytes.extend(groups().flat_map(|(_, scale)| scale.to_le_bytes()));
    for (group, scale) in groups() {
        let scale = scale.to_f32();
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        // The scale may have been rounded down: the cast then stops at the ends of the range.
        bytes.extend(group.iter().map(|value| ((value * inverse).round_ties_even() as i8).max(-127).cast_unsigned()));
    }
}

/// Appends the floats of one row.
pub(super) fn decode_row(row: &[u8], width: usize, state: &mut Vec<f32>) {
    let (scales, bytes) = row.split_at(row.len() - width);
    let scales = scales.as_chunks::<INT8_SCALE_BYTES>().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32());
    for (group, scale) in bytes.chunks(INT8_GROUP).zip(scales) {
        state.extend(group.iter().map(|byte| f32::from(byte.cast_signed()) * scale));
    }
}

fn scale(group: &[f32]) -> bf16 {
    let largest = group.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    bf16::from_f32(largest / BYTE_MAX)
}
