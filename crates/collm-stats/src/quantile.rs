//! Where the middle of some numbers lies.

/// The middle half of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quartiles {
    /// A quarter lies below.
    pub lower: f64,
    /// Half lies below.
    pub median: f64,
    /// A quarter lies above.
    pub upper: f64,
}

impl Quartiles {
    /// Of these numbers; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(values);
        let at = |share| between(&sorted, share);
        Some(Self { lower: at(0.25)?, median: at(0.5)?, upper: at(0.75)? })
    }
}

/// Of an even number, the mean of the middle two; `None` if there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    quantile(values, 0.5)
}

/// The number below which `share` of them lie, linear between neighbours (type 7 of Hyndman and Fan); `None` if there are none.
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> Option<f64> {
    between(&sorted(values), share)
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

fn between(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_lie_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        let values = [7.0, 1.0, 10.0, 4.0];
        for (share, expected) in [(0.0, 1.0), (0.1, 1.9), (0.25, 3.25), (0.75, 7.75), (1.0, 10.0)] {
            let found = quantile(values, share).expect("numbers");
            assert!((found - expected).abs() < 1e-12, "{share}: {found}");
        }
        assert_eq!(Quartiles::of(values), Some(Quartiles { lower: 3.25, median: 5.5, upper: 7.75 }));
    }
}
