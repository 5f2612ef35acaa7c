//! The logistic function that fits scores best (Platt, 1999): calibrates without ties, so that every score keeps its place.

/// Steps of Newton's method, which doubles its digits with each.
const STEPS: usize = 50;

/// `probability = 1 / (1 + e^-(slope * score + intercept))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logistic {
    /// Positive for scores that mean something.
    pub slope: f64,
    /// Log-odds at a score of 0.
    pub intercept: f64,
}

impl Logistic {
    /// Fits the function to finite scores and whether each was right, by maximum likelihood with one imagined error and one
    /// imagined success, which keeps the slope finite. `None` without observations.
    pub fn fit(observations: &[(f64, bool)]) -> Option<Self> {
        if observations.is_empty() {
            return None;
        }
        let right = observations.iter().filter(|(_, right)| *right).count() as f64;
        let wrong = observations.len() as f64 - right;
        // Platt's targets.
        let (high, low) = ((right + 1.0) / (right + 2.0), 1.0 / (wrong + 2.0));
        let mut fitted = Self { slope: 0.0, intercept: ((right + 1.0) / (wrong + 1.0)).ln() };
        let mut loss = fitted.loss(observations, [low, high]);
        for _ in 0..STEPS {
            let Some(step) = fitted.newton(observations, [low, high]) else { break };
            // Halved until it helps: far from the bottom a whole step may overshoot.
            let shorter = (0..30).map(|halvings| fitted.moved(step, 0.5f64.powi(halvings)));
            let better = shorter.map(|next| (next, next.loss(observations, [low, high]))).find(|next| next.1 < loss);
            let Some((next, next_loss)) = better else { break };
            (fitted, loss) = (next, next_loss);
        }
        Some(fitted)
    }

    /// The probability at a score.
    pub fn at(self, score: f64) -> f64 {
        1.0 / (1.0 + (-(self.slope * score + self.intercept)).exp())
    }

    fn loss(self, observations: &[(f64, bool)], [low, high]: [f64; 2]) -> f64 {
        let surprise = |&(score, right): &(f64, bool)| {
            let odds = self.slope * score + self.intercept;
            let target = if right { high } else { low };
            odds.max(0.0) - odds * target + (-odds.abs()).exp().ln_1p()
        };
        observations.iter().map(surprise).sum()
    }

    /// Where to go; `None` where the bottom is flat.
    fn newton(self, observations: &[(f64, bool)], [low, high]: [f64; 2]) -> Option<[f64; 2]> {
        let (mut gradient, mut curvature) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
        for &(score, right) in observations {
            let probability = self.at(score);
            let error = probability - if right { high } else { low };
            let weight = probability * (1.0 - probability);
            gradient = [gradient[0] + error * score, gradient[1] + error];
            curvature = [curvature[0] + weight * score * score, curvature[1] + weight * score, curvature[2] + weight];
        }
        let determinant = curvature[0] * curvature[2] - curvature[1] * curvature[1];
        let slope = (curvature[2] * gradient[0] - curvature[1] * gradient[1]) / determinant;
        let intercept = (curvature[0] * gradient[1] - curvature[1] * gradient[0]) / determinant;
        (slope.is_finite() && intercept.is_finite()).then_some([slope, intercept])
    }

    fn moved(self, [slope, intercept]: [f64; 2], share: f64) -> Self {
        Self { slope: self.slope - share * slope, intercept: self.intercept - share * intercept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_that_made_the_observations_is_found() {
        // At each score, as many right ones as the function says.
        let truth = Logistic { slope: 1.5, intercept: -0.7 };
        let observations: Vec<(f64, bool)> = (-30..=30)
            .flat_map(|step| {
                let score = f64::from(step) / 10.0;
                (0..1000).map(move |index| (score, f64::from(index) < 1000.0 * truth.at(score)))
            })
            .collect();
        let fitted = Logistic::fit(&observations).expect("observations");
        assert!((fitted.slope - truth.slope).abs() < 0.02, "{fitted:?}");
        assert!((fitted.intercept - truth.intercept).abs() < 0.02, "{fitted:?}");
    }

    #[test]
    fn certainty_stays_finite() {
        assert_eq!(Logistic::fit(&[]), None);
        let apart: Vec<(f64, bool)> = (-5..5).map(|score| (f64::from(score), score >= 0)).collect();
        let fitted = Logistic::fit(&apart).expect("observations");
        assert!(fitted.slope > 0.0 && fitted.slope.is_finite() && fitted.at(1e9) <= 1.0, "{fitted:?}");
        let same = Logistic::fit(&[(2.0, true), (2.0, true), (2.0, false)]).expect("observations");
        assert!((same.at(2.0) - 0.5).abs() < 0.2, "{same:?}");
    }
}
