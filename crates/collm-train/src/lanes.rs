//! Sums, maxima and exponentials over slices, written in sixteen independent lanes so that the compiler vectorises them.
//! The order of additions is fixed: the same numbers give the same sum.

const LANES: usize = 16;

/// Sum of products.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len(), "as many factors on both sides");
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Sum.
pub(crate) fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// Largest value, negative infinity of none.
pub(crate) fn max(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane].max(chunk[lane]);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `a[i] += b[i]`.
pub(crate) fn add(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// Replaces values by `exp(value - largest)` and returns their sum. Divided by it they are the softmax.
pub(crate) fn exponentials(values: &mut [f32], largest: f32) -> f32 {
    for value in values.iter_mut() {
        *value = exp(*value - largest);
    }
    sum(values)
}

/// `e^x` within two units in the last place: the polynomial of Cephes, without branches, so that it vectorises. Results
/// that no normal float can hold are cut off at the ends of that range.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// Adding it leaves the rounded value in the lowest bits of a float.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let r = x - power * LN_2_HIGH - power * LN_2_LOW;
    let mut sum = 1.987_569_1e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * r + coefficient;
    }
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (sum * r * r + r + 1.0) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_rest_are_all_counted() {
        let values: Vec<f32> = (1..=37).map(|value| value as f32).collect();
        assert_eq!(sum(&values), 703.0);
        assert_eq!(dot(&values, &values), 17_575.0);
        assert_eq!(max(&values), 37.0);
        assert_eq!(max(&[]), f32::NEG_INFINITY);
    }

    #[test]
    fn exponential_is_exact_to_a_few_bits() {
        for step in -8600..8700 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!(((f64::from(exp(x)) - exact) / exact).abs() < 3e-7, "{x}: {} {exact}", exp(x));
        }
        assert!(exp(-1e30) < 1e-37);
    }
}
