//! What is learnt from: a sequence of states, and what the whole model says after each.

use crate::PieceError;

/// The teacher's most likely tokens for every position, most likely first.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates {
    /// Candidates of a position.
    pub per_position: usize,
    /// Tokens, position after position.
    pub ids: Vec<u32>,
    /// Natural logarithms of their probabilities in the whole vocabulary.
    pub log_probabilities: Vec<f32>,
}

/// One sequence from its first position on.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    width: usize,
    states: Vec<f32>,
    candidates: Candidates,
    weights: Vec<f32>,
}

impl Piece {
    /// `states` are the hidden states that enter what learns, `width` values a position; `weights` say how much each position
    /// matters (0 not at all).
    pub fn new(width: usize, states: Vec<f32>, candidates: Candidates, weights: Vec<f32>) -> Result<Self, PieceError> {
        let positions = weights.len();
        let expected = [positions * width, positions * candidates.per_position, positions * candidates.per_position];
        let found = [states.len(), candidates.ids.len(), candidates.log_probabilities.len()];
        if found != expected || positions == 0 || width == 0 || candidates.per_position == 0 {
            return Err(PieceError::Lengths {
                states: states.len(),
                width,
                candidates: candidates.ids.len().min(candidates.log_probabilities.len()),
                per_position: candidates.per_position,
                weights: positions,
            });
        }
        let piece = Self { width, states, candidates, weights };
        match (0..positions).find(|&position| !piece.is_sound(position)) {
            Some(position) => Err(PieceError::Value { position }),
            None => Ok(piece),
        }
    }

    fn is_sound(&self, position: usize) -> bool {
        let state = &self.states[position * self.width..][..self.width];
        let weight = self.weights[position];
        let mut likely = self.candidates(position).map(|(_, log_probability)| log_probability);
        state.iter().all(|value| value.is_finite()) && weight.is_finite() && weight >= 0.0 && likely.all(f32::is_finite)
    }

    /// Positions.
    pub fn positions(&self) -> usize {
        self.weights.len()
    }

    /// Values of a state.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The states, position after position.
    pub fn states(&self) -> &[f32] {
        &self.states
    }

    /// The same sequence at another place in the network: as many states, as wide.
    pub(crate) fn with_states(&self, states: Vec<f32>) -> Result<Self, PieceError> {
        Self::new(self.width, states, self.candidates.clone(), self.weights.clone())
    }

    /// How much each position matters.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Tokens and log-probabilities of a position, most likely first.
    pub(crate) fn candidates(&self, position: usize) -> impl Iterator<Item = (u32, f32)> {
        let Candidates { per_position, ids, log_probabilities } = &self.candidates;
        let range = position * per_position..(position + 1) * per_position;
        ids[range.clone()].iter().copied().zip(log_probabilities[range].iter().copied())
    }

    /// Largest token id among the candidates.
    pub(crate) fn largest_id(&self) -> u32 {
        self.candidates.ids.iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(states: usize, candidates: usize, weights: Vec<f32>) -> Result<Piece, PieceError> {
        let candidates =
            Candidates { per_position: 2, ids: vec![1; candidates], log_probabilities: vec![-1.0; candidates] };
        Piece::new(3, vec![0.5; states], candidates, weights)
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(piece(6, 4, vec![1.0, 0.0]).is_ok());
        assert!(matches!(piece(7, 4, vec![1.0, 0.0]), Err(PieceError::Lengths { states: 7, .. })));
        assert!(matches!(piece(6, 5, vec![1.0, 0.0]), Err(PieceError::Lengths { candidates: 5, .. })));
        assert!(matches!(piece(0, 0, vec![]), Err(PieceError::Lengths { .. })));
        assert_eq!(piece(6, 4, vec![1.0, f32::NAN]), Err(PieceError::Value { position: 1 }));
        assert_eq!(piece(6, 4, vec![-1.0, 0.0]), Err(PieceError::Value { position: 0 }));
    }
}
