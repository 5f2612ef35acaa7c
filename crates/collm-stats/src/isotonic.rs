//! The best rising function: pools adjacent violators (Ayer and others, 1955).

/// A rising function, linear between its points and constant outside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Isotonic {
    points: Vec<(f64, f64)>,
}

/// Scores that were pooled, and the mean of what was observed with them.
struct Block {
    first: f64,
    last: f64,
    sum: f64,
    count: f64,
}

impl Block {
    fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The values of equal scores are one observation, and so are neighbours that would fall.
    fn takes_in(&self, next: &Self) -> bool {
        self.last == next.first || self.mean() >= next.mean()
    }

    fn take_in(&mut self, next: &Self) {
        self.last = next.last;
        self.sum += next.sum;
        self.count += next.count;
    }
}

/// Fits a rising function to `(score, value)` by least squares; `None` without observations. Scores are finite.
pub fn isotonic(observations: &[(f64, f64)]) -> Option<Isotonic> {
    let mut observations = observations.to_vec();
    observations.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut blocks: Vec<Block> = Vec::new();
    for same in observations.chunk_by(|one, other| one.0 == other.0) {
        let sum = same.iter().map(|observation| observation.1).sum();
        let mut next = Block { first: same[0].0, last: same[0].0, sum, count: same.len() as f64 };
        while let Some(mut last) = blocks.pop_if(|last| last.takes_in(&next)) {
            last.take_in(&next);
            next = last;
        }
        blocks.push(next);
    }
    let ends = |block: &Block| match block.first == block.last {
        true => vec![(block.first, block.mean())],
        false => vec![(block.first, block.mean()), (block.last, block.mean())],
    };
    let points: Vec<(f64, f64)> = blocks.iter().flat_map(ends).collect();
    (!points.is_empty()).then_some(Isotonic { points })
}

impl Isotonic {
    /// By rising score; values never fall.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The value at a score.
    pub fn at(&self, score: f64) -> f64 {
        let above = self.points.partition_point(|point| point.0 <= score);
        match (above.checked_sub(1).map(|below| self.points[below]), self.points.get(above)) {
            (None, Some(first)) => first.1,
            (Some(last), None) => last.1,
            (Some(below), Some(above)) => below.1 + (score - below.0) / (above.0 - below.0) * (above.1 - below.1),
            (None, None) => unreachable!("a fitted function has points"),
        }
    }

    /// The same function of at most `count` points (at least 2), spaced evenly among its own: for a table of fixed size.
    #[must_use]
    pub fn thinned(&self, count: usize) -> Self {
        let (last, count) = (self.points.len() - 1, count.max(2));
        if last < count {
            return self.clone();
        }
        let points = (0..count).map(|index| self.points[index * last / (count - 1)]).collect();
        Self { points }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn violators_are_pooled() {
        let values = [1.0, 3.0, 2.0, 4.0, 3.5, 3.0, 5.0];
        let observations: Vec<(f64, f64)> = (0..).map(f64::from).zip(values).collect();
        let fitted = isotonic(&observations).expect("observations");
        let found: Vec<f64> = (0..7).map(|score| fitted.at(f64::from(score))).collect();
        assert_eq!(found, [1.0, 2.5, 2.5, 3.5, 3.5, 3.5, 5.0]);
        assert_eq!((fitted.at(-5.0), fitted.at(0.5), fitted.at(99.0)), (1.0, 1.75, 5.0));
    }

    #[test]
    fn equal_scores_have_one_value() {
        let fitted = isotonic(&[(0.5, 0.0), (0.5, 1.0), (0.7, 1.0)]).expect("observations");
        assert_eq!(fitted.points(), [(0.5, 0.5), (0.7, 1.0)]);
        assert_eq!(isotonic(&[]), None);
    }

    #[test]
    fn a_thinned_function_keeps_its_ends() {
        let observations: Vec<(f64, f64)> =
            (0..100).map(|index| (f64::from(index), f64::from(index * index))).collect();
        let thinned = isotonic(&observations).expect("observations").thinned(10);
        assert_eq!(thinned.points().len(), 10);
        assert_eq!((thinned.points()[0], thinned.points()[9]), ((0.0, 0.0), (99.0, 9801.0)));
    }

    proptest! {
        #[test]
        fn fitted_values_rise_and_keep_the_mean(observations in prop::collection::vec((0u8..20, 0u8..2), 1..60)) {
            let observations: Vec<(f64, f64)> =
                observations.into_iter().map(|(score, right)| (f64::from(score), f64::from(right))).collect();
            let fitted = isotonic(&observations).expect("observations");
            prop_assert!(fitted.points().is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1));
            let mean = |value: &dyn Fn(&(f64, f64)) -> f64| observations.iter().map(value).sum::<f64>();
            prop_assert!((mean(&|o| fitted.at(o.0)) - mean(&|o| o.1)).abs() < 1e-9);
        }
    }
}
