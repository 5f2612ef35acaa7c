//! How a model is spoken to, by its own chat template: where a user's turn opens, where it ends, how an answer is asked for.
//!
//! A model without a template is not spoken to: it continues texts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use collm_engine::TokenId;
use collm_ggml::{Markup, Vocabulary};
use collm_model::ModelFile;
use collm_model::template::{ChatTemplate, Message};

use crate::TuneError;

/// Stands for the user's words while a template is looked through.
const MARKER: &str = "xyzzywords";

/// For templates that tell the date: always the same, so that the same seed makes the same text. The first of January 2026.
const TODAY: Duration = Duration::from_secs(1_767_225_600);

/// A model's way to be asked.
#[derive(Debug)]
pub struct Dialogue {
    vocabulary: Vocabulary,
    template: Option<ChatTemplate>,
    opening: Vec<TokenId>,
    turn_end: Option<TokenId>,
}

impl Dialogue {
    /// Of a whole model or a part.
    ///
    /// # Errors
    /// When vocabulary or template are unusable.
    pub fn of_model(file: &Arc<ModelFile>) -> Result<Self, TuneError> {
        let vocabulary = Vocabulary::load(file)?;
        let template = ChatTemplate::of_model(file.gguf())?;
        let around = template.as_ref().map(|template| render(template, MARKER)).transpose()?;
        let (before, after) = around.as_deref().and_then(|text| text.split_once(MARKER)).unwrap_or_default();
        let opening = vocabulary.tokenize_prompt(before, Markup::Tokens)?;
        let turn_end = vocabulary.tokenize(after, Markup::Tokens)?.first().copied();
        Ok(Self { vocabulary, template, opening, turn_end })
    }

    /// The model's tokens.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// What comes before the words of a user. Empty for a model that has neither a template nor a token before texts.
    pub fn opening(&self) -> &[TokenId] {
        &self.opening
    }

    /// Whether a user who said `token` has finished.
    pub fn ends_turn(&self, token: TokenId) -> bool {
        self.turn_end == Some(token) || self.vocabulary.is_markup(token) || self.ends_answer(token)
    }

    /// Whether an answer ends with this token.
    pub fn ends_answer(&self, token: TokenId) -> bool {
        self.vocabulary.end_tokens().contains(&token)
    }

    /// The words that tokens spell, without spaces around and without characters that are not whole.
    pub fn words(&self, tokens: &[TokenId]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| self.vocabulary.token_bytes(*token)).copied().collect();
        String::from_utf8_lossy(&bytes).replace(char::REPLACEMENT_CHARACTER, "").trim().to_owned()
    }

    /// The tokens of a conversation of one message, after which the answer begins; of a model without a template, the text.
    ///
    /// # Errors
    /// When the template refuses the words or there are too many.
    pub fn prompt(&self, user: &str) -> Result<Vec<TokenId>, TuneError> {
        let Some(template) = &self.template else {
            return Ok(self.vocabulary.tokenize_prompt(user, Markup::Characters)?);
        };
        Ok(self.vocabulary.tokenize_prompt(&render(template, user)?, Markup::Tokens)?)
    }
}

fn render(template: &ChatTemplate, user: &str) -> Result<String, TuneError> {
    Ok(template.render_at(&[Message::new("user", user)], true, SystemTime::UNIX_EPOCH + TODAY)?)
}
