//! Where one measured line passes another.

/// The places along `x` where two lines meet that run straight between their points, in order. `points` are `(x, one, other)`, by
/// rising `x`. Lines that touch and part again on the same side do not cross; lines that cross along a stretch where they are equal
/// cross at its beginning.
pub fn crossings(points: &[(f64, f64, f64)]) -> Vec<f64> {
    let mut crossings = Vec::new();
    // The last point at which one line was above, and where they have been equal since.
    let mut apart: Option<(f64, f64)> = None;
    let mut equal_from: Option<f64> = None;
    for &(x, one, other) in points {
        let gap = one - other;
        if gap == 0.0 {
            equal_from = equal_from.or(Some(x));
            continue;
        }
        if let Some((before_x, before)) = apart.filter(|(_, before)| before.signum() != gap.signum()) {
            let between = before_x + (x - before_x) * before / (before - gap);
            crossings.push(equal_from.unwrap_or(between));
        }
        (apart, equal_from) = (Some((x, gap)), None);
    }
    crossings
}

#[cfg(test)]
mod tests {
    use super::*;

    type Points = &'static [(f64, f64, f64)];

    #[test]
    fn lines_cross_where_straight_lines_between_their_points_do() {
        let cases: [(Points, &[f64]); 8] = [
            // From 1 above to 3 below: a quarter of the way.
            (&[(0.0, 11.0, 10.0), (40.0, 10.0, 13.0)], &[10.0]),
            (&[(0.0, 1.0, 2.0), (5.0, 1.0, 2.0)], &[]),
            (&[(0.0, 1.0, 2.0), (10.0, 3.0, 2.0), (20.0, 1.0, 2.0)], &[5.0, 15.0]),
            // At a point, along a stretch, and not at all when they only touch.
            (&[(0.0, 1.0, 2.0), (10.0, 2.0, 2.0), (20.0, 3.0, 2.0)], &[10.0]),
            (&[(0.0, 1.0, 2.0), (10.0, 2.0, 2.0), (20.0, 2.0, 2.0), (30.0, 3.0, 2.0)], &[10.0]),
            (&[(0.0, 1.0, 2.0), (10.0, 2.0, 2.0), (20.0, 1.0, 2.0)], &[]),
            // Equal at the start is no crossing.
            (&[(0.0, 2.0, 2.0), (10.0, 3.0, 2.0)], &[]),
            (&[], &[]),
        ];
        for (points, expected) in cases {
            assert_eq!(crossings(points), expected, "{points:?}");
        }
    }
}
