//! How far an answer is what the whole model would have said: each of its tokens against the whole model's most likely token
//! after the same prompt and the same answer so far.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use collm_core::sampling::{Sampling, Scoring, choose};
use collm_engine::{BLOCK_ROWS, Engine as _, Head, Input, Position, Row, Scope, Scores, SlotId, Stack, TokenId};
use collm_ggml::{GgmlEngine, LoadOptions, Threads};
use collm_http::{ChatMessage, Markup, TextModel as _};

use crate::{models, text_model::GgufTextModel, ui::progress::ProgressMode};

/// Positions of a prompt computed at once: as a whole model on the device does, so that nothing but the text differs.
const PROMPT_ROWS: usize = 512;

/// Positions of an answer computed at once: never a whole block, so that they have the same results as one by one, which is
/// how they were written.
const ANSWER_ROWS: usize = BLOCK_ROWS - 1;

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
            batch_rows_max: PROMPT_ROWS,
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
        let expected = self.greedy(prompt, answer).context("the whole model cannot compute the comparison")?;
        Ok(answer.iter().zip(expected).map(|(token, expected)| *token == expected).collect())
    }

    /// The most likely token after the prompt, and after each token of the answer.
    fn greedy(&mut self, prompt: &[TokenId], answer: &[TokenId]) -> anyhow::Result<Vec<TokenId>> {
        self.engine.truncate(SLOT, 0);
        let mut chosen = Vec::new();
        for piece in prompt.chunks(PROMPT_ROWS) {
            let hidden = self.run(piece)?;
            let last = hidden.len() - self.engine.shape().width;
            chosen = self.choose(&hidden[last..])?;
        }
        for piece in answer.chunks(ANSWER_ROWS) {
            let hidden = self.run(piece)?;
            chosen.extend(self.choose(&hidden)?);
        }
        Ok(chosen)
    }

    /// The last hidden states of the next tokens.
    fn run(&mut self, tokens: &[TokenId]) -> anyhow::Result<Vec<f32>> {
        let start = self.engine.filled(Stack::Lower, SLOT);
        let row = |index: usize| Row { slot: SLOT, position: position(start + index) };
        let rows: Vec<Row> = (0..tokens.len()).map(row).collect();
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        self.engine.run(Stack::Lower, &rows, Input::Tokens(tokens), &mut lower)?;
        self.engine.run(Stack::Upper, &rows, Input::Hidden(&lower), &mut upper)?;
        Ok(upper)
    }

    /// The most likely token after each of these states. Greedy choices do not depend on positions.
    fn choose(&mut self, hidden: &[f32]) -> anyhow::Result<Vec<TokenId>> {
        let vocabulary = self.engine.shape().vocabulary;
        let mut scores = Scores::default();
        self.engine.score(Head::Final, Scope::Full, hidden, &mut scores)?;
        let rows = scores.logits.chunks_exact_mut(vocabulary);
        let scoring = Scoring::alone(Position(0), Sampling::GREEDY);
        rows.map(|logits| Ok(choose(logits, &scoring)?.choice.token)).collect()
    }
}

/// The only one.
const SLOT: SlotId = SlotId(0);

fn position(index: usize) -> Position {
    Position(u32::try_from(index).expect("a context holds far fewer positions"))
}
