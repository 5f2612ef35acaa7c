//! What an exit says after a position: its guess, and how sure of it each measure is.
//!
//! Calibration, evaluation and the fitting of gates all look through here, so that a confidence is the same number everywhere.

use collm_core::{confidence::ConfidenceMeasure, gate::GATE_SCALARS};
use collm_engine::{Head, Position, TokenId};
use collm_exec::{
    Judge,
    gate::{Gate, features},
};
use collm_model::{ExitInfo, ExitNumber, Holding, ModelFile};

use crate::{TuneError, reader::View};

/// One exit of an edge part.
#[derive(Debug, Clone)]
pub struct ExitObserver {
    /// Which one.
    pub exit: ExitNumber,
    /// What was fitted for it.
    pub info: ExitInfo,
    gate: Option<Judge>,
}

/// What an exit says after a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// The last position that was read.
    pub position: Position,
    /// What the exit's check proposes: the likeliest token of the shortlist, if it makes one.
    pub guess: TokenId,
    /// The likeliest token of the whole vocabulary: what the exit says where it must answer. The guess where only that was looked for.
    pub whole_guess: TokenId,
    /// How sure the check is.
    pub confidences: Confidences,
    /// What a gate takes from the check's logits.
    pub features: [f32; GATE_SCALARS],
}

/// A confidence by every measure, each in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidences {
    max_prob: f32,
    margin: f32,
    entropy: f32,
    gate: Option<f32>,
}

impl Confidences {
    /// By one measure; `None` for the gate of an exit that has none.
    pub fn by(&self, measure: ConfidenceMeasure) -> Option<f32> {
        match measure {
            ConfidenceMeasure::MaxProb => Some(self.max_prob),
            ConfidenceMeasure::Margin => Some(self.margin),
            ConfidenceMeasure::Entropy => Some(self.entropy),
            ConfidenceMeasure::Gate => self.gate,
        }
    }
}

impl ExitObserver {
    /// The exits at which this edge part may stop, in order; none for other files.
    ///
    /// # Errors
    /// [`TuneError::Gate`].
    pub fn of_part(file: &ModelFile) -> Result<Vec<Self>, TuneError> {
        let Holding::Edge(part) = file.holding() else { return Ok(Vec::new()) };
        let exits = ExitNumber::ALL.into_iter().filter(|exit| part.exit1 || *exit == ExitNumber::Two);
        let width = file.hyperparameters().width as usize;
        exits.map(|exit| Self::new(exit, file.exit(exit).cloned().unwrap_or_default(), width)).collect()
    }

    /// An exit of which this was fitted, of a model whose hidden states are `width` wide.
    ///
    /// # Errors
    /// [`TuneError::Gate`].
    pub fn new(exit: ExitNumber, info: ExitInfo, width: usize) -> Result<Self, TuneError> {
        let gate = info.gate.clone().map(|weights| Gate::new(weights, width)).transpose()?;
        Ok(Self { exit, info, gate: gate.map(Judge::Gate) })
    }

    /// The engine's name for it.
    pub fn head(&self) -> Head {
        match self.exit {
            ExitNumber::One => Head::Exit1,
            ExitNumber::Two => Head::Exit2,
        }
    }

    /// What it says, seen what its head says.
    ///
    /// # Errors
    /// [`TuneError::Logits`].
    pub fn observe(&self, view: &View<'_>) -> Result<Observation, TuneError> {
        let Some((tokens, logits)) = view.shortlist else {
            let guess = most_likely(view.logits)?;
            return Ok(self.observation(view, view.logits, guess, guess));
        };
        let guess = tokens[most_likely(logits)?.0 as usize];
        let whole_guess = if view.logits.is_empty() { guess } else { most_likely(view.logits)? };
        Ok(self.observation(view, logits, guess, whole_guess))
    }

    fn observation(&self, view: &View<'_>, checked: &[f32], guess: TokenId, whole_guess: TokenId) -> Observation {
        let by = |judge: &Judge| judge.confidence(checked, view.state, view.position);
        let confidences = Confidences {
            max_prob: by(&Judge::MaxProb),
            margin: by(&Judge::Margin),
            entropy: by(&Judge::Entropy),
            gate: self.gate.as_ref().map(by),
        };
        let position = view.position;
        Observation { position, guess, whole_guess, confidences, features: features(checked, position) }
    }
}

/// The first of the highest.
///
/// # Errors
/// [`TuneError::Logits`] if one is not finite, or there are none.
pub fn most_likely(logits: &[f32]) -> Result<TokenId, TuneError> {
    // Passes without branches, which compile to vector code.
    let finite = logits.iter().fold(true, |finite, logit| finite & logit.is_finite());
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let first = logits.iter().position(|logit| *logit == highest).filter(|_| finite);
    first.map(|index| TokenId(index as u32)).ok_or(TuneError::Logits)
}

/// The natural logarithm of a token's probability.
pub fn log_probability(logits: &[f32], token: TokenId) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from((logit - highest).exp())).sum();
    f64::from(logits[token.0 as usize] - highest) - sum.ln()
}

#[cfg(test)]
mod tests {
    use collm_core::gate::GateWeights;

    use super::*;

    fn close(found: Option<f32>, expected: f32) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-6), "{found:?} is not {expected}");
    }

    fn view(logits: &[f32]) -> View<'_> {
        View { head: Head::Exit2, position: Position(7), logits, shortlist: None, state: &[] }
    }

    /// Confident by the lead of the guess over the runner-up alone: `silu (lead)`, itself where it is large.
    fn gate() -> GateWeights {
        let mut up = vec![0.0; GATE_SCALARS];
        up[2] = 1.0;
        GateWeights {
            look: None,
            mean: vec![0.0; GATE_SCALARS],
            scale: vec![1.0; GATE_SCALARS],
            up,
            up_bias: vec![0.0],
            down: vec![1.0],
            down_bias: 0.0,
            calibration: vec![(0.0, 0.0), (100.0, 1.0)],
        }
    }

    #[test]
    fn every_measure_is_the_runtimes() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits = [2.0f32.ln(), 4.0f32.ln(), 0.0, 0.0];
        let observer = ExitObserver::new(ExitNumber::Two, ExitInfo::default(), 1).expect("no gate");
        let found = observer.observe(&view(&logits)).expect("finite logits");
        close(found.confidences.by(ConfidenceMeasure::MaxProb), 0.5);
        close(found.confidences.by(ConfidenceMeasure::Margin), 0.25);
        close(found.confidences.by(ConfidenceMeasure::Entropy), 1.0 - 1.75 / 2.0);
        assert_eq!(found.confidences.by(ConfidenceMeasure::Gate), None);
        assert_eq!(found.features, features(&logits, Position(7)));
        assert!((log_probability(&logits, TokenId(2)) - 0.125f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_shortlist_restricts_the_check_but_not_the_answer() {
        let info = ExitInfo { gate: Some(gate()), ..ExitInfo::default() };
        let observer = ExitObserver::new(ExitNumber::One, info, 1).expect("a gate that fits");
        let listed = ([0, 2, 3].map(TokenId), [80.0, 30.0, 0.0]);
        let view = View { shortlist: Some((&listed.0, &listed.1)), ..view(&[80.0, 99.0, 30.0, 0.0]) };
        let seen = observer.observe(&view).expect("finite logits");
        assert_eq!((seen.guess, seen.whole_guess, seen.position), (TokenId(0), TokenId(1), Position(7)));
        close(seen.confidences.by(ConfidenceMeasure::MaxProb), 1.0);
        close(seen.confidences.by(ConfidenceMeasure::Gate), 0.5);
        let alone = observer.observe(&View { logits: &[], ..view }).expect("finite logits");
        assert_eq!(alone, Observation { whole_guess: TokenId(0), ..seen });
    }

    #[test]
    fn damaged_logits_are_refused() {
        assert_eq!(most_likely(&[1.0, 3.0, 3.0]).ok(), Some(TokenId(1)));
        for damaged in [&[1.0, f32::NAN][..], &[f32::INFINITY], &[]] {
            assert!(matches!(most_likely(damaged), Err(TuneError::Logits)));
        }
    }
}
