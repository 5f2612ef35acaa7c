//! One engine that stands in for edge parts with any tail.

use std::sync::Arc;

use collm_engine::{Engine, Head, Input, Position, Row, Scope, Scores, SlotId, Stack, TokenId};
use collm_ggml::{GgmlEngine, LoadOptions, Threads};
use collm_model::ModelFile;
use collm_stats::Guess;

use crate::candidates::Candidates;
use crate::states::read;
use crate::teacher::PROMPT_ROWS_MAX;
use crate::text::CONTEXT;
use crate::{Sequence, TuneError};

const SLOT: SlotId = SlotId(0);

/// States scored at once: the logits of a large vocabulary take a megabyte a state.
const SCORED: usize = 32;

/// The whole model, of which any layers after the upload can be run.
#[derive(Debug)]
pub(super) struct Trial {
    engine: GgmlEngine,
    hidden: Vec<f32>,
    scores: Scores,
}

/// A text to guess.
#[derive(Debug)]
pub(super) struct Text {
    /// The states that are uploaded, of all its tokens but the last.
    pub(super) uploaded: Vec<f32>,
    /// The first token after which the answer's next one is guessed.
    first: usize,
    /// What the whole model says there and at every later token.
    pub(super) expected: Vec<TokenId>,
}

impl Trial {
    /// `layers` are those of the longest tail.
    pub(super) fn load(file: &Arc<ModelFile>, layers: &[u32], threads: Threads) -> Result<Self, TuneError> {
        let options = LoadOptions {
            upload_at: layers.first().copied(),
            tail: Some(layers.to_vec()),
            context: CONTEXT,
            batch_rows_max: PROMPT_ROWS_MAX,
            threads,
            ..LoadOptions::default()
        };
        let (hidden, scores) = Default::default();
        Ok(Self { engine: GgmlEngine::load(file, &options)?, hidden, scores })
    }

    pub(super) fn read(&mut self, sequence: &Sequence) -> Result<Text, TuneError> {
        let mut uploaded = Vec::new();
        self.engine.truncate(SLOT, 0);
        for (start, tokens) in (0..).step_by(PROMPT_ROWS_MAX).zip(read(sequence).chunks(PROMPT_ROWS_MAX)) {
            self.engine.run(Stack::Lower, &rows(start, tokens.len()), Input::Tokens(tokens), &mut self.hidden)?;
            uploaded.extend_from_slice(&self.hidden);
        }
        let expected = (0..sequence.answer().len()).map(|index| sequence.expected(index)).collect();
        Ok(Text { uploaded, first: sequence.answer_start - 1, expected })
    }

    /// For each layer of a tail the states of every text before it.
    pub(super) fn prefixes(&mut self, tail: &[u32], texts: &[Text]) -> Result<Vec<Vec<Vec<f32>>>, TuneError> {
        let mut prefixes = vec![texts.iter().map(|text| text.uploaded.clone()).collect::<Vec<_>>()];
        for (index, layer) in tail.iter().enumerate().take(tail.len().saturating_sub(1)) {
            self.engine.change_tail(&[*layer])?;
            let after = (0..texts.len()).map(|text| self.run(&prefixes[index][text])).collect::<Result<_, _>>()?;
            prefixes.push(after);
        }
        Ok(prefixes)
    }

    /// What these layers guess for each text, from the states before them.
    pub(super) fn guesses(
        &mut self,
        layers: &[u32],
        states: &[Vec<f32>],
        texts: &[Text],
    ) -> Result<Vec<Vec<Guess>>, TuneError> {
        self.engine.change_tail(layers)?;
        texts.iter().zip(states).map(|(text, states)| self.guess(text, states)).collect()
    }

    fn guess(&mut self, text: &Text, states: &[f32]) -> Result<Vec<Guess>, TuneError> {
        let width = self.engine.shape().width;
        let last = self.run(states)?;
        let mut guesses = Vec::with_capacity(text.expected.len());
        let asked = last[text.first * width..].chunks(SCORED * width).zip(text.expected.chunks(SCORED));
        for (states, expected) in asked {
            self.engine.score(Head::Final, Scope::Full, states, &mut self.scores)?;
            let rows = self.scores.logits.chunks_exact(self.engine.shape().vocabulary);
            for (logits, expected) in rows.zip(expected) {
                let said = Candidates::of(logits, 1)?;
                guesses.push(Guess { confidence: said.confidence(), right: said.best() == *expected });
            }
        }
        Ok(guesses)
    }

    /// The states of a text after the tail.
    fn run(&mut self, states: &[f32]) -> Result<Vec<f32>, TuneError> {
        let width = self.engine.shape().width;
        let mut after = Vec::with_capacity(states.len());
        self.engine.truncate(SLOT, 0);
        for (start, piece) in (0..).step_by(PROMPT_ROWS_MAX).zip(states.chunks(PROMPT_ROWS_MAX * width)) {
            let rows = rows(start, piece.len() / width);
            self.engine.run(Stack::Tail, &rows, Input::Hidden(piece), &mut self.hidden)?;
            after.extend_from_slice(&self.hidden);
        }
        Ok(after)
    }
}

fn rows(start: usize, count: usize) -> Vec<Row> {
    (start..start + count).map(|at| Row { slot: SLOT, position: Position(at as u32) }).collect()
}
