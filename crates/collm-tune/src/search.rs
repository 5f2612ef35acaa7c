//! Which layers a tail can do without: beam search over what is left out, judged by the tokens that the whole model said.
//!
//! A step leaves out one more layer. Every way to do so is tried on a few texts, the most promising ones on all, and the best few go
//! on. What comes before the layer left out is not computed again: its states are kept. Deliberately absent: fitting a tail, which
//! changes what it can do without, and the cost of layers, which is the caller's.

mod trial;

use std::sync::Arc;

use collm_ggml::Threads;
use collm_model::ModelFile;
use collm_stats::{Guess, RiskCoverage};

use crate::{Corpus, Share, TuneError};
use trial::{Text, Trial};

/// Shares of right tokens at which coverage is told.
pub const TARGETS: [f64; 3] = [0.95, 0.97, 0.99];

/// How tails are looked for.
#[derive(Debug, Clone)]
pub struct SearchOptions {
    /// Layers before the upload.
    pub upload_at: u32,
    /// Tails that each step goes on with.
    pub beam: usize,
    /// Positions that a tail is judged by.
    pub positions: usize,
    /// Positions that every tail is tried on first.
    pub positions_first: usize,
    /// The shortest tail to look for.
    pub layers_min: usize,
    /// Who computes.
    pub threads: Threads,
}

/// A tail and how often it is right.
#[derive(Debug, Clone, PartialEq)]
pub struct TailScore {
    /// Layers of the model, in order.
    pub tail: Vec<u32>,
    /// Share of positions where its most likely token is the whole model's.
    pub agreement: f64,
    /// Share of positions that its highest probability tells to be right, so that of those told at least as many are as in [`TARGETS`].
    pub coverage: [f64; 3],
    /// Positions it was judged by.
    pub positions: usize,
}

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchProgress<'a> {
    /// The best tail of the length just finished.
    pub best: &'a TailScore,
    /// Share of the work that is done.
    pub done: f64,
}

/// The best tails found, longest first, one of each number of layers.
///
/// # Errors
/// When there is too little text, or the model cannot be loaded or run.
pub fn search(
    file: &Arc<ModelFile>,
    corpus: &Corpus,
    options: &SearchOptions,
    progress: &mut dyn FnMut(SearchProgress<'_>),
) -> Result<Vec<TailScore>, TuneError> {
    let whole: Vec<u32> = (options.upload_at..file.hyperparameters().layers).collect();
    let mut trial = Trial::load(file, &whole, options.threads.clone())?;
    let texts = judging(&mut trial, corpus, options.positions)?;
    let uploaded: Vec<Vec<f32>> = texts.iter().map(|text| text.uploaded.clone()).collect();
    let mut beam = vec![TailScore::of(whole.clone(), &trial.guesses(&whole, &uploaded, &texts)?)];
    let mut frontier = beam.clone();
    let work = |length: usize| (1..=length).sum::<usize>() as f64;
    let all = work(whole.len()) - work(options.layers_min);
    for length in (options.layers_min..whole.len()).rev() {
        beam = step(&mut trial, &beam, &texts, options)?;
        frontier.push(beam[0].clone());
        progress(SearchProgress { best: &beam[0], done: 1.0 - (work(length) - work(options.layers_min)) / all });
    }
    Ok(frontier)
}

/// How good one tail is, on the positions that a search would judge it by.
///
/// # Errors
/// As [`search`], and [`TuneError::Load`] if the model has no such layers or fewer of them.
pub fn judge(
    file: &Arc<ModelFile>,
    corpus: &Corpus,
    options: &SearchOptions,
    tail: &[u32],
) -> Result<TailScore, TuneError> {
    let whole: Vec<u32> = (options.upload_at..file.hyperparameters().layers).collect();
    let mut trial = Trial::load(file, &whole, options.threads.clone())?;
    let texts = judging(&mut trial, corpus, options.positions)?;
    let uploaded: Vec<Vec<f32>> = texts.iter().map(|text| text.uploaded.clone()).collect();
    Ok(TailScore::of(tail.to_vec(), &trial.guesses(tail, &uploaded, &texts)?))
}

/// The best tails that are one layer shorter than those of `beam`, best first.
fn step(
    trial: &mut Trial,
    beam: &[TailScore],
    texts: &[Text],
    options: &SearchOptions,
) -> Result<Vec<TailScore>, TuneError> {
    let first = few(texts, options.positions_first);
    let mut shorter: Vec<TailScore> = Vec::new();
    for known in beam {
        let prefixes = trial.prefixes(&known.tail, texts)?;
        let mut promising: Vec<(usize, TailScore)> = Vec::new();
        for (skipped, prefix) in prefixes.iter().enumerate().take(known.tail.len()) {
            let tail = without(&known.tail, skipped);
            if shorter.iter().all(|found| found.tail != tail) {
                let guesses = trial.guesses(&known.tail[skipped + 1..], prefix, first)?;
                promising.push((skipped, TailScore::of(tail, &guesses)));
            }
        }
        promising.sort_by(|one, other| other.1.agreement.total_cmp(&one.1.agreement));
        for (skipped, found) in promising.into_iter().take(2 * options.beam) {
            let guesses = trial.guesses(&known.tail[skipped + 1..], &prefixes[skipped], texts)?;
            shorter.push(TailScore::of(found.tail, &guesses));
        }
    }
    shorter.sort_by(|one, other| other.agreement.total_cmp(&one.agreement));
    shorter.truncate(options.beam);
    Ok(shorter)
}

impl TailScore {
    /// Of guesses, those of each text by themselves.
    fn of(tail: Vec<u32>, guesses: &[Vec<Guess>]) -> Self {
        let positions = guesses.iter().map(Vec::len).sum();
        let right = guesses.iter().flatten().filter(|guess| guess.right).count();
        let curve = RiskCoverage::of(guesses);
        let coverage = TARGETS.map(|target| curve.coverage_at(1.0 - target));
        Self { tail, agreement: right as f64 / positions as f64, coverage, positions }
    }
}

/// Held-back texts with so many positions, and their states after the upload.
fn judging(trial: &mut Trial, corpus: &Corpus, positions: usize) -> Result<Vec<Text>, TuneError> {
    let (mut texts, mut found) = (Vec::new(), 0);
    for sequence in corpus.share(Share::HeldBack).take_while(|sequence| {
        let wanted = found < positions;
        found += sequence.answer().len();
        wanted
    }) {
        texts.push(trial.read(sequence)?);
    }
    if texts.is_empty() { Err(TuneError::TooLittleText("a search of tails")) } else { Ok(texts) }
}

/// The first texts, with so many positions.
fn few(texts: &[Text], positions: usize) -> &[Text] {
    let mut found = 0;
    let wanted = texts.iter().take_while(|text| {
        let wanted = found < positions;
        found += text.expected.len();
        wanted
    });
    &texts[..wanted.count()]
}

fn without(tail: &[u32], skipped: usize) -> Vec<u32> {
    [&tail[..skipped], &tail[skipped + 1..]].concat()
}

#[cfg(test)]
mod tests;
