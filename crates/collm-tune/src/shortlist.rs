//! The matrices that make the shortlists of an exit, from the states that it sees in its own text.

use std::sync::Arc;

use collm_engine::Scope;
use collm_ggml::{GgmlRequantize, Threads};
use collm_model::{ExitNumber, ModelFile};
use collm_train::{ShortlistFactors, fit_shortlist};

use crate::{Corpus, Share, TuneError, watcher::Watcher};

/// States to fit to: several times as many as those of models for an edge have directions.
const STATES: usize = 8192;

/// Fits them for an exit of an edge part, whose head is what it will be.
///
/// # Errors
/// [`TuneError::TooLittleText`] without any text, [`TuneError::Heal`] for a rank that the model does not have, or what keeps the part
/// from reading the text.
pub fn fit(
    part: &Arc<ModelFile>,
    corpus: &Corpus,
    (exit, rank): (ExitNumber, usize),
    (context, threads): (usize, Threads),
    mut show: impl FnMut(usize, usize),
) -> Result<ShortlistFactors, TuneError> {
    let mut watcher = Watcher::load(part, exit, (context, threads))?;
    let (width, mut states) = (part.hyperparameters().width as usize, Vec::new());
    for text in corpus.fitting(Share::Train, context) {
        show((states.len() / width).min(STATES), STATES);
        if states.len() >= STATES * width {
            break;
        }
        states.extend(watcher.read(text, Scope::Full)?.into_iter().flat_map(|seen| seen.example.state));
    }
    if states.is_empty() {
        return Err(TuneError::TooLittleText("the shortlist"));
    }
    Ok(fit_shortlist(part, &GgmlRequantize, &states, rank)?)
}
