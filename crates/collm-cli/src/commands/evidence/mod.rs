//! Evidence about an edge part: texts that the whole model wrote, and what the exits say along them (teacher-forced).
//!
//! Evaluation and calibration share it. Deliberately absent: what is concluded from it.

mod answers;
mod subject;

use std::sync::Arc;

use anyhow::Context as _;
use collm_core::confidence::ConfidenceMeasure;
use collm_engine::TokenId;
use collm_ggml::{GgmlEngine, LoadOptions};
use collm_model::{ExitInfo, ExitNumber, ModelFile};
use collm_stats::Guess;
use collm_tune::{
    observe::{ExitObserver, Observation},
    reader::{Reader, View},
};

pub(in crate::commands) use self::{
    answers::{KnownAnswers, WholeAnswer, WholeAnswers},
    subject::Subject,
};
use crate::ui::progress::ProgressMode;

/// A text to look at, and what the whole model says in place of each token of its answer.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Text {
    pub(in crate::commands) prompt: Vec<TokenId>,
    pub(in crate::commands) answer: Vec<TokenId>,
    pub(in crate::commands) expected: Vec<TokenId>,
}

/// All that one exit says along some texts.
#[derive(Debug)]
pub(in crate::commands) struct ExitRecord {
    pub(in crate::commands) exit: ExitNumber,
    pub(in crate::commands) info: ExitInfo,
    /// For each text, one a token of its answer.
    pub(in crate::commands) texts: Vec<Vec<Observed>>,
}

/// What an exit says in place of one token.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct Observed {
    pub(in crate::commands) expected: TokenId,
    pub(in crate::commands) said: Observation,
}

/// Lets an edge part read the texts, and records what each of its exits says.
pub(in crate::commands) fn observe(
    edge: &Arc<ModelFile>,
    options: &LoadOptions,
    texts: &[Text],
    progress: ProgressMode,
) -> anyhow::Result<Vec<ExitRecord>> {
    let observers = ExitObserver::of_part(edge)?;
    let record = |observer: &ExitObserver| ExitRecord {
        exit: observer.exit,
        info: observer.info.clone(),
        texts: vec![Vec::new(); texts.len()],
    };
    let mut records: Vec<ExitRecord> = observers.iter().map(record).collect();
    let mut step = progress.step("reading the answers with the edge part");
    let engine = GgmlEngine::load(edge, options).context("cannot load the edge part")?;
    let mut reader = Reader::new(engine, observers.iter().map(ExitObserver::head).collect());
    for (index, text) in texts.iter().enumerate() {
        step.count(index, texts.len());
        let mut see = |view: View<'_>| {
            let expected = text.expected[view.position.index() + 1 - text.prompt.len()];
            let pairs = observers.iter().zip(&mut records);
            for (observer, record) in pairs.filter(|(observer, _)| observer.head() == view.head) {
                record.texts[index].push(Observed { expected, said: observer.observe(&view)? });
            }
            anyhow::Ok(())
        };
        reader.begin(&text.prompt, &mut see)?;
        reader.go_on(&text.answer[..text.answer.len().saturating_sub(1)], &mut see)?;
    }
    step.done("took");
    Ok(records)
}

impl ExitRecord {
    /// Measures of confidence that it has.
    pub(in crate::commands) fn measures(&self) -> impl Iterator<Item = ConfidenceMeasure> {
        let has_gate = self.info.gate.is_some();
        ConfidenceMeasure::ALL.into_iter().filter(move |measure| has_gate || *measure != ConfidenceMeasure::Gate)
    }

    /// What the exit's check says, text by text; `None` for a measure that it does not have.
    pub(in crate::commands) fn guesses(&self, measure: ConfidenceMeasure) -> Option<Vec<Vec<Guess>>> {
        let guess = |observed: &Observed| {
            let right = observed.said.guess == observed.expected;
            Some(Guess { confidence: observed.said.confidences.by(measure)?, right })
        };
        self.texts.iter().map(|text| text.iter().map(guess).collect()).collect()
    }

    /// For each text, how many of its tokens these are, and its tokens.
    pub(in crate::commands) fn count(&self, is: impl Fn(&Observed) -> bool) -> Vec<(f64, f64)> {
        let count =
            |text: &Vec<Observed>| (text.iter().filter(|observed| is(observed)).count() as f64, text.len() as f64);
        self.texts.iter().map(count).collect()
    }

    /// All tokens of all answers.
    pub(in crate::commands) fn positions(&self) -> usize {
        self.texts.iter().map(Vec::len).sum()
    }
}
