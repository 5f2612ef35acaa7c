//! The objective: to say what the teacher says.
//!
//! The student's probabilities are over its classes: some tokens, or the whole vocabulary. The teacher's candidates are
//! taken as a distribution of their own (their probabilities made to sum to 1), mixed with the first of them alone; what lies
//! outside the classes is dropped together with its share of the position's weight, since no state could earn it. The loss is
//! the Kullback-Leibler divergence from that to the student. Logits never leave the cache: a few rows at a time are
//! computed, judged and turned into the gradient of their states.

use candle_core::Result;

use crate::dense::{Matrix, product};
use crate::lanes::{self, exponentials};
use crate::piece::Piece;

/// Positions judged at a time.
const ROWS: usize = 128;

/// How well the student does on some positions, each counted by its weight.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// Mean divergence from the teacher, in nats.
    pub loss: f64,
    /// Share of positions where the student's first token is the teacher's.
    pub agreement: f64,
    /// Sum of the weights.
    pub weight: f64,
}

impl Score {
    /// What these scores are together.
    pub(crate) fn joined(scores: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for score in scores {
            all.loss += score.loss * score.weight;
            all.agreement += score.agreement * score.weight;
            all.weight += score.weight;
        }
        if all.weight > 0.0 {
            all.loss /= all.weight;
            all.agreement /= all.weight;
        }
        all
    }
}

/// What the student should say at one row.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    row: usize,
    weight: f32,
    /// The teacher's first token, if it is a class.
    first: Option<usize>,
    /// Classes and their shares, at most 1 in all.
    shares: Vec<(usize, f32)>,
}

/// The tokens that the student chooses from, with their rows of the LM head.
#[derive(Debug)]
pub(crate) struct Classes {
    /// Class of every token, [`NO_CLASS`] if it has none.
    of_token: Vec<u32>,
    /// `[classes, width]`.
    rows: Matrix,
    /// `[width, classes]`: products with few rows of states are twice as fast with it.
    columns: Matrix,
}

const NO_CLASS: u32 = u32::MAX;

impl Classes {
    /// `head` is the LM head `[vocabulary, width]`; `classes` are ascending and within the vocabulary.
    pub(crate) fn new(head: Vec<f32>, width: usize, classes: Option<&[u32]>) -> Self {
        let vocabulary = head.len() / width;
        let (of_token, rows) = match classes {
            None => ((0..vocabulary as u32).collect(), head),
            Some(ids) => {
                let mut of_token = vec![NO_CLASS; vocabulary];
                ids.iter().zip(0..).for_each(|(id, class)| of_token[*id as usize] = class);
                (of_token, ids.iter().flat_map(|id| &head[*id as usize * width..][..width]).copied().collect())
            }
        };
        let count = rows.len() / width;
        let columns = (0..width).flat_map(|column| (0..count).map(move |row| row * width + column));
        let columns = Matrix::new(columns.map(|index| rows[index]).collect(), count);
        Self { of_token, rows: Matrix::new(rows, width), columns }
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.of_token.len()
    }

    fn class(&self, token: u32) -> Option<usize> {
        let class = self.of_token[token as usize];
        (class != NO_CLASS).then_some(class as usize)
    }

    /// The targets of a piece whose first position is at `row`. Positions without weight have none.
    pub(crate) fn targets(&self, piece: &Piece, row: usize, top_weight: f32) -> Vec<Target> {
        let weighty = piece.weights().iter().enumerate().filter(|(_, weight)| **weight > 0.0);
        weighty.map(|(position, weight)| self.target(piece, position, row, *weight, top_weight)).collect()
    }

    fn target(&self, piece: &Piece, position: usize, row: usize, weight: f32, top_weight: f32) -> Target {
        let all: f32 = piece.candidates(position).map(|(_, log_probability)| log_probability.exp()).sum();
        let share = |log_probability: f32| (1.0 - top_weight) * log_probability.exp() / all.max(f32::MIN_POSITIVE);
        let shares = piece.candidates(position).enumerate().filter_map(|(place, (token, log_probability))| {
            let alone = if place == 0 { top_weight } else { 0.0 };
            Some((self.class(token)?, share(log_probability) + alone))
        });
        let shares = shares.filter(|(_, share)| *share > 0.0).collect();
        let first = piece.candidates(position).next().and_then(|(token, _)| self.class(token));
        Target { row: row + position, weight, first, shares }
    }

    /// Judges `states` (as the LM head takes them, `width` values a row) at the rows of the targets. Where `scale` is given,
    /// the loss times its weights times `scale` is differentiated, and the second result is its gradient, of the shape of the states.
    pub(crate) fn judge(&self, states: &[f32], targets: &[Target], scale: Option<f32>) -> Result<(Score, Vec<f32>)> {
        let width = self.rows.columns();
        let mut gradient = vec![0.0; if scale.is_some() { states.len() } else { 0 }];
        let mut scores = Vec::with_capacity(targets.len());
        for targets in targets.chunks(ROWS) {
            let chosen = targets.iter().flat_map(|target| &states[target.row * width..][..width]);
            let chosen = Matrix::new(chosen.copied().collect(), width);
            let mut logits = product(chosen.view(), self.columns.view())?;
            let rows = logits.values_mut().chunks_exact_mut(self.rows.rows());
            scores.extend(targets.iter().zip(rows).map(|(target, row)| target.judge(row, scale)));
            if scale.is_some() {
                let found = product(logits.view(), self.rows.view())?;
                for (target, row) in targets.iter().zip(found.values().chunks_exact(width)) {
                    gradient[target.row * width..][..width].copy_from_slice(row);
                }
            }
        }
        Ok((Score::joined(scores), gradient))
    }
}

impl Target {
    /// The score of one row of logits; with a scale, the logits become their gradient.
    fn judge(&self, logits: &mut [f32], scale: Option<f32>) -> Score {
        let largest = lanes::max(logits);
        let chosen = logits.iter().position(|logit| *logit == largest);
        let mass: f32 = self.shares.iter().map(|(_, share)| share).sum();
        let hoped: f32 = self.shares.iter().map(|(class, share)| share * ((share / mass).ln() - logits[*class])).sum();
        let sum = exponentials(logits, largest);
        if let Some(scale) = scale {
            let scale = scale * self.weight;
            let factor = scale * mass / sum;
            logits.iter_mut().for_each(|value| *value *= factor);
            self.shares.iter().for_each(|(class, share)| logits[*class] -= share * scale);
        }
        Score {
            loss: f64::from(hoped + mass * (largest + sum.ln())),
            agreement: if chosen.is_some() && chosen == self.first { 1.0 } else { 0.0 },
            weight: f64::from(self.weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::piece::Candidates;

    const WIDTH: usize = 6;

    fn classes(tokens: Option<&[u32]>) -> Classes {
        let mut random = fastrand::Rng::with_seed(3);
        Classes::new((0..10 * WIDTH).map(|_| random.f32() - 0.5).collect(), WIDTH, tokens)
    }

    fn piece() -> Piece {
        let candidates = Candidates {
            per_position: 2,
            ids: vec![3, 7, 8, 1, 2, 3],
            log_probabilities: [0.6f32, 0.3, 0.5, 0.2, 0.9, 0.1].map(f32::ln).to_vec(),
        };
        let mut random = fastrand::Rng::with_seed(4);
        let states = (0..3 * WIDTH).map(|_| random.f32() * 2.0 - 1.0).collect();
        Piece::new(WIDTH, states, candidates, vec![1.0, 0.0, 0.5]).unwrap()
    }

    #[test]
    fn gradients_are_slopes() {
        for tokens in [None, Some([0, 3, 5, 7].as_slice())] {
            let (classes, piece) = (classes(tokens), piece());
            let targets = classes.targets(&piece, 0, 0.25);
            assert_eq!(targets.len(), 2);
            let loss = |states: &[f32]| {
                let score = classes.judge(states, &targets, None).unwrap().0;
                score.loss * score.weight
            };
            let (_, gradient) = classes.judge(piece.states(), &targets, Some(1.0)).unwrap();
            for index in 0..gradient.len() {
                let at = |by: f32| {
                    let mut states = piece.states().to_vec();
                    states[index] += by;
                    loss(&states)
                };
                let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((slope - f64::from(gradient[index])).abs() < 1e-3, "{index}: {slope} {}", gradient[index]);
            }
        }
    }

    #[test]
    fn saying_what_the_teacher_says_costs_nothing() {
        let mut row = [0.0, (0.75f32).ln(), -40.0, (0.25f32).ln()];
        row[0] = -40.0;
        let target = Target { row: 0, weight: 1.0, first: Some(1), shares: vec![(1, 0.6), (3, 0.2)] };
        let score = target.judge(&mut row.clone(), None);
        assert!(score.loss.abs() < 1e-6 && score.agreement == 1.0, "{score:?}");
        let worse = Target { first: Some(3), shares: vec![(1, 0.2), (3, 0.6)], ..target }.judge(&mut row, None);
        assert!(worse.loss > 0.1 && worse.agreement == 0.0);
    }

    #[test]
    fn a_first_candidate_outside_the_classes_is_never_agreed_with() {
        let classes = classes(Some(&[1, 7]));
        let targets = classes.targets(&piece(), 0, 0.5);
        assert!(targets.iter().all(|target| target.first.is_none()));
        assert_eq!(targets[0].shares.len(), 1, "token 7 only");
        assert!((targets[0].shares[0].1 - 0.5 * 0.3 / 0.9).abs() < 1e-6);
        assert!(targets[1].shares.is_empty());
        let (score, gradient) = classes.judge(piece().states(), &targets, Some(1.0)).unwrap();
        assert!(score.agreement == 0.0 && score.loss.is_finite() && gradient.iter().all(|value| value.is_finite()));
    }
}
