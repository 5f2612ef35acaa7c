//! A rotation that spreads whatever stands out in a row over all of it.
//!
//! Rotated values are nearly normally distributed, whatever the row was, so that one scale and one set of levels fit them all. It is
//! a Walsh-Hadamard transform with random signs over the first floats of the row, as many as the largest power of two that it has
//! room for, then the same over the last. The two windows overlap in more than half of the row. Both sides build the same signs.

/// For rows of one width.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    /// Factors of the two windows: a sign, and what keeps the length of a row.
    first: Vec<f32>,
    last: Vec<f32>,
}

impl Rotation {
    /// For at least one float.
    pub(super) fn new(width: usize) -> Self {
        let window = 1usize << width.ilog2();
        let unit = 1.0 / (window as f32).sqrt();
        let factors = |seed: u64| -> Vec<f32> {
            let sign = |index| if noise(seed << 32 | index) >> 63 == 0 { unit } else { -unit };
            (0..window as u64).map(sign).collect()
        };
        Self { first: factors(1), last: factors(2) }
    }

    pub(super) fn forth(&self, row: &mut [f32]) {
        let (window, end) = (self.first.len(), row.len());
        multiply(&mut row[..window], &self.first);
        hadamard(&mut row[..window]);
        multiply(&mut row[end - window..], &self.last);
        hadamard(&mut row[end - window..]);
    }

    pub(super) fn back(&self, row: &mut [f32]) {
        let (window, end) = (self.first.len(), row.len());
        hadamard(&mut row[end - window..]);
        multiply(&mut row[end - window..], &self.last);
        hadamard(&mut row[..window]);
        multiply(&mut row[..window], &self.first);
    }
}

fn multiply(row: &mut [f32], factors: &[f32]) {
    for (value, factor) in row.iter_mut().zip(factors) {
        *value *= factor;
    }
}

/// The Walsh-Hadamard transform of a power of two of values, not scaled: its own inverse but for their number.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// SplitMix64 of a counter (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn noise(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_the_same() {
        for width in [1, 2, 3, 5, 64, 65, 127, 576, 640, 1000] {
            let row: Vec<f32> = (0..width).map(|index| (index as f32 * 0.37).sin() * 100.0).collect();
            let mut turned = row.clone();
            let rotation = Rotation::new(width);
            rotation.forth(&mut turned);
            let length = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>();
            assert!((length(&turned) / length(&row) - 1.0).abs() < 1e-4 || length(&row) == 0.0, "width {width}");
            rotation.back(&mut turned);
            assert!(row.iter().zip(&turned).all(|(a, b)| (a - b).abs() < 1e-3), "width {width}");
        }
    }

    #[test]
    fn what_stands_out_is_spread_over_the_row() {
        for at in [0, 100, 300, 511, 512, 575] {
            let mut row = vec![0.0; 576];
            row[at] = 24.0;
            Rotation::new(576).forth(&mut row);
            // A length of 24 over 576 floats is 1 each.
            assert!(row.iter().all(|value| value.abs() <= 4.0), "from float {at}");
        }
    }
}
