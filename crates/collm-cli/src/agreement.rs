//! The whole model as a judge of answers: what it says itself, and how far an answer is what it would have said, each token
//! against its most likely one after the same prompt and the same answer so far.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use collm_engine::{Head, TokenId};
use collm_ggml::{GgmlEngine, LoadOptions, Threads};
use collm_http::{ChatMessage, Markup, TextModel as _};
use collm_model::ModelFile;
use collm_node::text::Vocabulary as _;
use collm_tune::{
    observe::most_likely,
    reader::{PROMPT_ROWS, Reader, View},
};

use crate::{models, text_model::GgufTextModel, ui::progress::ProgressMode};

/// The whole model, to compare with.
pub(crate) struct Judge {
    reader: Reader<GgmlEngine>,
    text: GgufTextModel,
}

impl Judge {
    /// Loads the whole model at `path` on one thread, for texts of up to `context` tokens.
    pub(crate) fn load(path: &Path, context: usize, progress: ProgressMode) -> anyhow::Result<Self> {
        let step = progress.step("loading the whole model to compare with");
        let options = LoadOptions {
            context,
            batch_rows_max: PROMPT_ROWS,
            threads: Threads::unbound(1),
            ..LoadOptions::default()
        };
        let judge = Self::of_model(&Arc::new(models::open(path)?), &options)?;
        step.done("took");
        Ok(judge)
    }

    /// Loads a whole model. Calls must have room for [`PROMPT_ROWS`] rows.
    pub(crate) fn of_model(file: &Arc<ModelFile>, options: &LoadOptions) -> anyhow::Result<Self> {
        let engine = GgmlEngine::load(file, options)?;
        Ok(Self { reader: Reader::new(engine, vec![Head::Final]), text: GgufTextModel::load(file)? })
    }

    /// Whether the model holds conversations.
    pub(crate) fn converses(&self) -> bool {
        self.text.has_template()
    }

    /// The tokens of a conversation of one message, as an edge makes them; those of plain text for a model that holds none.
    pub(crate) fn prompt(&self, user: &str) -> anyhow::Result<Vec<TokenId>> {
        if !self.converses() {
            return Ok(self.text.tokenize(user, Markup::Ignored)?);
        }
        let message = ChatMessage { role: "user".to_owned(), content: user.to_owned() };
        Ok(self.text.tokenize(&self.text.render_chat(&[message])?, Markup::Control)?)
    }

    /// What an answer says, without its end token.
    pub(crate) fn words(&self, answer: &[TokenId]) -> String {
        let spoken = answer.iter().filter(|token| !self.text.is_end(**token));
        let bytes: Vec<u8> = spoken.flat_map(|token| self.text.token_bytes(*token)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The whole model's own answer: its most likely tokens, with its end token if it comes to an end.
    pub(crate) fn answer(&mut self, prompt: &[TokenId], tokens_max: usize) -> anyhow::Result<Vec<TokenId>> {
        let mut answer = Vec::new();
        let mut say = |view: View<'_>| {
            answer.push(most_likely(view.logits)?);
            anyhow::Ok(())
        };
        self.reader.begin(prompt, &mut say).context("the whole model cannot read the prompt")?;
        while answer.len() < tokens_max && answer.last().is_some_and(|last| !self.text.is_end(*last)) {
            let last = answer[answer.len() - 1];
            let mut say = |view: View<'_>| {
                answer.push(most_likely(view.logits)?);
                anyhow::Ok(())
            };
            self.reader.go_on(&[last], &mut say).context("the whole model cannot go on")?;
        }
        Ok(answer)
    }

    /// For each token of `answer`, whether it is what the whole model says there.
    pub(crate) fn agrees(&mut self, prompt: &[TokenId], answer: &[TokenId]) -> anyhow::Result<Vec<bool>> {
        let mut expected = Vec::new();
        let mut see = |view: View<'_>| {
            expected.push(most_likely(view.logits)?);
            anyhow::Ok(())
        };
        let read = self.reader.begin(prompt, &mut see).and_then(|()| self.reader.go_on(answer, &mut see));
        read.context("the whole model cannot compute the comparison")?;
        Ok(answer.iter().zip(expected).map(|(token, expected)| *token == expected).collect())
    }
}
