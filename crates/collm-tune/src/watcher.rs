//! An edge part that reads texts, and what one of its exits sees there.

use std::sync::Arc;

use collm_core::confidence::ConfidenceMeasure;
use collm_engine::{Scope, TokenId};
use collm_ggml::{GgmlEngine, LoadOptions, Threads};
use collm_model::{ExitNumber, ModelFile};
use collm_stats::Guess;
use collm_train::GateExample;

use crate::{
    Sequence, TuneError,
    observe::{Confidences, ExitObserver},
    reader::{PROMPT_ROWS, Reader, View},
};

/// How far reading is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Texts that were read.
    pub read: usize,
    /// Of how many.
    pub texts: usize,
}

/// An edge part that reads texts.
pub(crate) struct Watcher {
    reader: Reader<GgmlEngine>,
    observer: ExitObserver,
}

/// What the exit sees after a position.
pub(crate) struct Seen {
    pub(crate) example: GateExample,
    pub(crate) confidences: Confidences,
    /// Whether its shortlist has the likeliest token of all, if all were looked at.
    pub(crate) listed: bool,
}

impl Seen {
    /// `None` by the gate of an exit that has none.
    pub(crate) fn guess(&self, measure: ConfidenceMeasure) -> Option<Guess> {
        Some(Guess { confidence: self.confidences.by(measure)?, right: self.example.right })
    }
}

impl Watcher {
    pub(crate) fn load(
        part: &Arc<ModelFile>,
        exit: ExitNumber,
        (context, threads): (usize, Threads),
    ) -> Result<Self, TuneError> {
        let options = LoadOptions { context, batch_rows_max: PROMPT_ROWS, threads, ..LoadOptions::default() };
        let info = part.exit(exit).cloned().unwrap_or_default();
        let observer = ExitObserver::new(exit, info, part.hyperparameters().width as usize)?;
        let reader = Reader::new(GgmlEngine::load(part, &options)?, vec![observer.head()]);
        Ok(Self { reader, observer })
    }

    /// One a token of the answer, of which the exit looks at its shortlist or at everything.
    pub(crate) fn read(&mut self, text: &Sequence, scope: Scope) -> Result<Vec<Seen>, TuneError> {
        self.reader.look_at(scope);
        let (prompt, answer) = text.tokens.split_at(text.answer_start);
        let mut all = Vec::with_capacity(answer.len());
        let observer = &self.observer;
        let mut see = |view: View<'_>| {
            let expected = text.expected(view.position.index() + 1 - prompt.len());
            all.push(seen(observer, &view, expected)?);
            Ok::<_, TuneError>(())
        };
        self.reader.begin(prompt, &mut see)?;
        self.reader.go_on(&answer[..answer.len().saturating_sub(1)], &mut see)?;
        Ok(all)
    }
}

fn seen(observer: &ExitObserver, view: &View<'_>, expected: TokenId) -> Result<Seen, TuneError> {
    let said = observer.observe(view)?;
    let example = GateExample { features: said.features, state: view.state.to_vec(), right: said.guess == expected };
    let listed = view.shortlist.is_none_or(|(tokens, _)| tokens.binary_search(&said.whole_guess).is_ok());
    Ok(Seen { example, confidences: said.confidences, listed })
}
