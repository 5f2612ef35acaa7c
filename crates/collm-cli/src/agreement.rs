//! How far an answer is what the whole model would have said: each of its tokens against the whole model's most likely token
//! after the same prompt and the same answer so far.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use collm_core::sampling::{Sampling, choose};
use collm_engine::{Engine as _, Head, Input, Position, Row, SlotId, Stack, TokenId};
use collm_ggml::{GgmlEngine, Kernels, LoadOptions, Threads};
use collm_http::{ChatMessage, Markup, TextModel as _};

use crate::{models, text_model::GgufTextModel, ui::progress::ProgressMode};

/// Positions computed at once.
const BATCH_ROWS: usize = 128;

/// The whole model, to compare with.
pub(crate) struct Judge {
    engine: GgmlEngine,
    text: GgufTextModel,
}

impl Judge {
    /// Loads the whole model at `path`, for texts of up to `context` tokens.
    pub(crate) fn load(path: &Path, context: usize, progress: ProgressMode) -> anyhow::Result<Self> {
        let step = progress.step("loading the whole model to compare with");
        let options = LoadOptions {
            context,
            batch_rows_max: BATCH_ROWS,
            kernels: Kernels::Invariant,
            threads: Threads::unbound(1),
            ..LoadOptions::default()
        };
        let file = Arc::new(models::open(path)?);
        let judge = Self { engine: GgmlEngine::load(&file, &options)?, text: GgufTextModel::load(&file)? };
        step.done("took");
        Ok(judge)
    }

    /// The tokens of a conversation of one message, as an edge makes them.
    pub(crate) fn prompt(&self, user: &str) -> anyhow::Result<Vec<TokenId>> {
        let message = ChatMessage { role: "user".to_owned(), content: user.to_owned() };
        Ok(self.text.tokenize(&self.text.render_chat(&[message])?, Markup::Control)?)
    }

    /// For each token of `answer`, whether it is what the whole model says there.
    pub(crate) fn agrees(&mut self, prompt: &[TokenId], answer: &[TokenId]) -> anyhow::Result<Vec<bool>> {
        let tokens = [prompt, answer].concat();
        let expected = self.greedy(&tokens, prompt.len() - 1)?;
        Ok(answer.iter().zip(expected).map(|(token, expected)| *token == expected).collect())
    }

    /// The most likely token after each position from `first` on.
    fn greedy(&mut self, tokens: &[TokenId], first: usize) -> anyhow::Result<Vec<TokenId>> {
        let slot = SlotId(0);
        self.engine.truncate(slot, 0);
        let mut chosen = Vec::new();
        for (index, piece) in tokens.chunks(BATCH_ROWS).enumerate() {
            let start = index * BATCH_ROWS;
            let hidden = self.run(slot, start, piece).context("the whole model cannot compute the comparison")?;
            let scored = first.saturating_sub(start).min(piece.len());
            chosen.extend(self.choose(&hidden, start, scored)?);
        }
        Ok(chosen)
    }

    fn run(&mut self, slot: SlotId, start: usize, tokens: &[TokenId]) -> anyhow::Result<Vec<f32>> {
        let row = |index: usize| Row { slot, position: position(start + index) };
        let rows: Vec<Row> = (0..tokens.len()).map(row).collect();
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        self.engine.run(Stack::Lower, &rows, Input::Tokens(tokens), &mut lower)?;
        self.engine.run(Stack::Upper, &rows, Input::Hidden(&lower), &mut upper)?;
        Ok(upper)
    }

    /// The tokens after all rows of `hidden` from row `scored` on.
    fn choose(&mut self, hidden: &[f32], start: usize, scored: usize) -> anyhow::Result<Vec<TokenId>> {
        let shape = self.engine.shape();
        let (width, vocabulary) = (shape.width, shape.vocabulary);
        let mut logits = Vec::new();
        self.engine.score(Head::Final, &hidden[scored * width..], &mut logits)?;
        let rows = logits.chunks_exact_mut(vocabulary).enumerate();
        rows.map(|(row, logits)| Ok(choose(logits, &Sampling::GREEDY, position(start + scored + row), &[])?.token))
            .collect()
    }
}

fn position(index: usize) -> Position {
    Position(u32::try_from(index).expect("a context holds far fewer positions"))
}
