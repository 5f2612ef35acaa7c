//! A gate for an exit of an edge part: examples from all text that may be fitted to, judged by what is held back, then a calibration
//! from text of its own.
//!
//! The exit was fitted to the same text and is right there a little more often than elsewhere. Eight times as many examples are worth
//! more than that, and the calibration sets right what it costs.

use std::sync::Arc;

use collm_core::gate::GateWeights;
use collm_engine::Scope;
use collm_exec::gate::Gate;
use collm_ggml::Threads;
use collm_model::{ExitNumber, ModelFile};
use collm_stats::Logistic;
use collm_train::{FittedGate, GateExample, fit_gate};

use crate::{
    Corpus, Share, TuneError,
    watcher::{Reading, Watcher},
};

/// Examples to learn from, at most: each keeps a state.
const EXAMPLES_MAX: usize = 1 << 17;

/// Points of a calibration: finer than anyone chooses thresholds.
const POINTS: usize = 65;

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct GateFit {
    /// The gate. `None` if nothing tells right guesses from wrong ones, as where all are right.
    pub weights: Option<GateWeights>,
    /// Share of the positions whose shortlist has the likeliest token of all, in text that nothing was fitted to.
    pub listed: f64,
}

/// Fits a gate for an exit of an edge part, whose head and shortlists are what they will be.
///
/// # Errors
/// [`TuneError::TooLittleText`], or what keeps the part from reading the text.
pub fn fit(
    part: &Arc<ModelFile>,
    corpus: &Corpus,
    (exit, seed): (ExitNumber, u64),
    (context, threads): (usize, Threads),
    mut show: impl FnMut(Reading),
) -> Result<GateFit, TuneError> {
    let mut texts = Texts::of((part, exit), corpus, (context, threads), &mut show)?;
    let (learnt, _) = texts.examples(Share::Train, Scope::Shortlist)?;
    let (judged, listed) = texts.examples(Share::HeldBack, Scope::Full)?;
    let (examples, more_listed) = texts.examples(Share::Calibration, Scope::Full)?;
    let fitted = fit_gate(&learnt, &judged, seed).filter(|_| !examples.is_empty());
    let FittedGate { weights, .. } = fitted.ok_or(TuneError::TooLittleText("the gate"))?;
    let listed = (listed + more_listed) as f64 / (judged.len() + examples.len()) as f64;
    let weights = calibrated(weights, part.hyperparameters().width as usize, &examples)?;
    Ok(GateFit { weights, listed })
}

/// A gate whose confidence is how often it is right on these examples.
fn calibrated(weights: GateWeights, width: usize, examples: &[GateExample]) -> Result<Option<GateWeights>, TuneError> {
    let gate = Gate::new(weights.clone(), width)?;
    let score = |example: &GateExample| (f64::from(gate.score(&example.state, &example.features)), example.right);
    let scores: Vec<(f64, bool)> = examples.iter().map(score).collect();
    Ok(calibration_of(&scores).map(|calibration| GateWeights { calibration, ..weights }))
}

/// The text of a corpus that the part has room for, as its exit sees it.
struct Texts<'a> {
    corpus: &'a Corpus,
    context: usize,
    watcher: Watcher,
    progress: Reading,
    show: &'a mut dyn FnMut(Reading),
}

impl<'a> Texts<'a> {
    fn of(
        (part, exit): (&Arc<ModelFile>, ExitNumber),
        corpus: &'a Corpus,
        (context, threads): (usize, Threads),
        show: &'a mut dyn FnMut(Reading),
    ) -> Result<Self, TuneError> {
        let watcher = Watcher::load(part, exit, (context, threads))?;
        let shares = [Share::Train, Share::HeldBack, Share::Calibration];
        let texts = shares.map(|share| corpus.fitting(share, context).count()).iter().sum();
        Ok(Self { corpus, context, watcher, progress: Reading { read: 0, texts }, show })
    }

    /// Of a share, and how many of the positions have the likeliest token of all that are looked at in their shortlist.
    fn examples(&mut self, share: Share, scope: Scope) -> Result<(Vec<GateExample>, usize), TuneError> {
        let (mut examples, mut listed) = (Vec::new(), 0);
        for text in self.corpus.fitting(share, self.context) {
            (self.show)(self.progress);
            self.progress.read += 1;
            if examples.len() >= EXAMPLES_MAX {
                continue;
            }
            let seen = self.watcher.read(text, scope)?;
            listed += seen.iter().filter(|seen| seen.listed).count();
            examples.extend(seen.into_iter().map(|seen| seen.example));
        }
        Ok((examples, listed))
    }
}

/// The logistic function that fits scores, from the lowest to the highest.
fn calibration_of(scores: &[(f64, bool)]) -> Option<Vec<(f32, f32)>> {
    let fitted = Logistic::fit(scores).filter(|fitted| fitted.slope > 0.0)?;
    let lowest = scores.iter().map(|(score, _)| *score).fold(f64::INFINITY, f64::min);
    let highest = scores.iter().map(|(score, _)| *score).fold(f64::NEG_INFINITY, f64::max);
    let at = |index: usize| lowest + (highest - lowest) * index as f64 / (POINTS - 1) as f64;
    let mut points: Vec<(f32, f32)> =
        (0..POINTS).map(|index| (at(index) as f32, fitted.at(at(index)) as f32)).collect();
    points.dedup_by_key(|point| point.0);
    Some(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_rises_without_ties() {
        let scores: Vec<(f64, bool)> =
            (0..400).map(|index| (f64::from(index % 40) / 8.0, index * 7 % 40 < index % 40)).collect();
        let points = calibration_of(&scores).unwrap();
        assert_eq!(points.len(), POINTS);
        assert!(points.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1), "{points:?}");
        assert_eq!(calibration_of(&[]), None);
        let backwards: Vec<(f64, bool)> = (0..100).map(|index| (f64::from(index), index < 50)).collect();
        assert_eq!(calibration_of(&backwards), None, "a gate that is surer when it is wrong is none");
    }
}
