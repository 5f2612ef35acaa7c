//! A gate for the last exit of an edge part: examples from text that is held back, then a calibration from text of its own.

use std::sync::Arc;

use collm_core::gate::GateWeights;
use collm_engine::TokenId;
use collm_exec::gate::Gate;
use collm_ggml::{GgmlEngine, LoadOptions, Threads};
use collm_model::{ExitNumber, ModelFile};
use collm_stats::Logistic;
use collm_train::{GateExample, fit_gate};

use crate::observe::ExitObserver;
use crate::reader::{PROMPT_ROWS, Reader, View};
use crate::{Corpus, Sequence, Share, TuneError};

/// Points of a calibration: finer than anyone chooses thresholds.
const POINTS: usize = 65;

/// How far fitting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateProgress {
    /// Texts that were read.
    pub read: usize,
    /// Of how many.
    pub texts: usize,
}

/// Fits a gate for exit 2 of an edge part, whose head and shortlist are what they will be.
///
/// # Errors
/// [`TuneError::TooLittleText`], or what keeps the part from reading the text.
pub fn fit(
    part: &Arc<ModelFile>,
    corpus: &Corpus,
    (context, threads): (usize, Threads),
    seed: u64,
    mut show: impl FnMut(GateProgress),
) -> Result<GateWeights, TuneError> {
    let texts = |share| corpus.share(share).filter(|text| text.tokens.len() <= context).collect::<Vec<_>>();
    let (fitting, calibration) = (texts(Share::HeldBack), texts(Share::Calibration));
    let mut progress = GateProgress { read: 0, texts: fitting.len() + calibration.len() };
    let mut watcher = Watcher::load(part, context, threads)?;
    let mut watch = |texts: Vec<&Sequence>| -> Result<Vec<Vec<GateExample>>, TuneError> {
        let watch = |text| {
            show(progress);
            progress.read += 1;
            watcher.examples(text)
        };
        texts.into_iter().map(watch).collect()
    };
    let fitted = fit_gate(&watch(fitting)?, seed).ok_or(TuneError::TooLittleText("the gate"))?;
    let examples = watch(calibration)?;
    let width = part.hyperparameters().width as usize;
    let gate = Gate::new(fitted.weights.clone(), width)?;
    let score = |example: &GateExample| (f64::from(gate.score(&example.state, &example.features)), example.right);
    let scores: Vec<(f64, bool)> = examples.iter().flatten().map(score).collect();
    let calibration = calibration_of(&scores).ok_or(TuneError::TooLittleText("the gate's calibration"))?;
    Ok(GateWeights { calibration, ..fitted.weights })
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

/// An edge part that reads texts, and what its last exit sees.
struct Watcher {
    reader: Reader<GgmlEngine>,
    observer: ExitObserver,
}

impl Watcher {
    fn load(part: &Arc<ModelFile>, context: usize, threads: Threads) -> Result<Self, TuneError> {
        let options = LoadOptions { context, batch_rows_max: PROMPT_ROWS, threads, ..LoadOptions::default() };
        let info = part.exit(ExitNumber::Two).cloned().unwrap_or_default();
        let observer = ExitObserver::new(ExitNumber::Two, info, part.hyperparameters().width as usize)?;
        let reader = Reader::new(GgmlEngine::load(part, &options)?, vec![observer.head()]);
        Ok(Self { reader, observer })
    }

    /// One a token of the answer.
    fn examples(&mut self, text: &Sequence) -> Result<Vec<GateExample>, TuneError> {
        let (prompt, answer) = text.tokens.split_at(text.answer_start);
        let mut examples = Vec::with_capacity(answer.len());
        let observer = &mut self.observer;
        let mut see = |view: View<'_>| {
            let expected = text.expected(view.position.index() + 1 - prompt.len());
            examples.push(example(observer, &view, expected)?);
            Ok::<_, TuneError>(())
        };
        self.reader.begin(prompt, &mut see)?;
        self.reader.go_on(&answer[..answer.len().saturating_sub(1)], &mut see)?;
        Ok(examples)
    }
}

fn example(observer: &mut ExitObserver, view: &View<'_>, expected: TokenId) -> Result<GateExample, TuneError> {
    let said = observer.observe(view)?;
    Ok(GateExample { features: said.features, state: view.state.to_vec(), right: said.guess == expected })
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
