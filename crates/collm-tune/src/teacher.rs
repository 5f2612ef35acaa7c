//! The whole model, as what is fitted learns from it: many texts at once, each in a slot of the engine.

use std::sync::Arc;

use collm_engine::{Engine, Head, Input, Position, Row, Scope, Scores, SlotId, Stack, TokenId};
use collm_ggml::{GgmlEngine, LoadOptions, Threads};
use collm_model::ModelFile;

use crate::TuneError;

/// Rows of prompts in one call; every text may add one more of its answer.
pub const PROMPT_ROWS_MAX: usize = 512;

/// Sizes of a teacher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeacherOptions {
    /// Layers before the upload.
    pub upload_at: u32,
    /// Texts at once.
    pub slots: usize,
    /// Tokens of a text, at most.
    pub context: usize,
    /// Who computes.
    pub threads: Threads,
}

/// The whole model, with its slots.
#[derive(Debug)]
pub struct Teacher {
    engine: GgmlEngine,
    rows: Vec<Row>,
    tokens: Vec<TokenId>,
    uploaded: Vec<f32>,
    last: Vec<f32>,
    scores: Scores,
}

impl Teacher {
    /// Loads the whole model in `file`.
    ///
    /// # Errors
    /// [`TuneError::Load`].
    pub fn load(file: &Arc<ModelFile>, options: &TeacherOptions) -> Result<Self, TuneError> {
        let options = LoadOptions {
            upload_at: Some(options.upload_at),
            slots: options.slots,
            context: options.context,
            batch_rows_max: PROMPT_ROWS_MAX + options.slots,
            threads: options.threads.clone(),
            ..LoadOptions::default()
        };
        let engine = GgmlEngine::load(file, &options)?;
        let (rows, tokens, uploaded, last, scores) = Default::default();
        Ok(Self { engine, rows, tokens, uploaded, last, scores })
    }

    /// Floats in a hidden state.
    pub fn width(&self) -> usize {
        self.engine.shape().width
    }

    /// Logits of a state.
    pub fn vocabulary(&self) -> usize {
        self.engine.shape().vocabulary
    }

    /// Texts at once.
    pub fn slots(&self) -> usize {
        self.engine.shape().slots
    }

    /// Tokens of a text, at most.
    pub fn context(&self) -> usize {
        self.engine.shape().context
    }

    /// Appends tokens to the texts of some slots, one piece a slot.
    ///
    /// # Errors
    /// [`TuneError::Engine`], when a text grows beyond the context for example.
    pub fn advance(&mut self, pieces: &[(SlotId, &[TokenId])]) -> Result<Passed<'_>, TuneError> {
        self.upload(pieces)?;
        self.engine.run(Stack::Upper, &self.rows, Input::Hidden(&self.uploaded), &mut self.last)?;
        Ok(Passed { uploaded: &self.uploaded, last: &self.last })
    }

    /// Like [`Teacher::advance`], through the layers before the upload alone; a slot whose text went only so far goes no further.
    ///
    /// # Errors
    /// [`TuneError::Engine`].
    pub fn upload(&mut self, pieces: &[(SlotId, &[TokenId])]) -> Result<&[f32], TuneError> {
        self.rows.clear();
        self.tokens.clear();
        for (slot, tokens) in pieces {
            let start = self.engine.filled(Stack::Lower, *slot) as u32;
            self.rows.extend((start..).zip(*tokens).map(|(at, _)| Row { slot: *slot, position: Position(at) }));
            self.tokens.extend_from_slice(tokens);
        }
        self.engine.run(Stack::Lower, &self.rows, Input::Tokens(&self.tokens), &mut self.uploaded)?;
        Ok(&self.uploaded)
    }

    /// Logits of states after the last layer, `vocabulary` a state.
    ///
    /// # Errors
    /// [`TuneError::Engine`].
    pub fn score(&mut self, last: &[f32]) -> Result<&[f32], TuneError> {
        self.engine.score(Head::Final, Scope::Full, last, &mut self.scores)?;
        Ok(&self.scores.logits)
    }

    /// Forgets what a slot holds from position `length` on.
    pub fn truncate(&mut self, slot: SlotId, length: usize) {
        self.engine.truncate(slot, length);
    }
}

/// The states of the tokens of a call, `width` floats a token.
#[derive(Debug, Clone, Copy)]
pub struct Passed<'a> {
    /// After the layers before the upload.
    pub uploaded: &'a [f32],
    /// After the last layer.
    pub last: &'a [f32],
}
