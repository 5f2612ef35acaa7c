//! What the API needs to know of a model to turn requests into tokens and tokens into text.

use collm_core::ids::TokenId;
use collm_node::text::Vocabulary;
use serde::{Deserialize, Serialize};

/// A model's tokeniser and chat template.
pub trait TextModel: Vocabulary {
    /// The prompt that the model's chat template makes of a conversation, ready for the model's next turn.
    ///
    /// # Errors
    /// When the model has no template, or it refuses these messages.
    fn render_chat(&self, messages: &[ChatMessage]) -> Result<String, TextModelError>;

    /// The tokens of a prompt, with those that the model wants before every text.
    ///
    /// # Errors
    /// When the text cannot be tokenised.
    fn tokenize(&self, text: &str, markup: Markup) -> Result<Vec<TokenId>, TextModelError>;

    /// The tokens of a text, with nothing added.
    ///
    /// # Errors
    /// When the text cannot be tokenised.
    fn tokenize_bare(&self, text: &str, markup: Markup) -> Result<Vec<TokenId>, TextModelError>;

    /// What programs that make prompts themselves need to know.
    fn tokenizer(&self) -> TokenizerInfo;

    /// Tokens that end an answer.
    fn end_tokens(&self) -> &[TokenId];
}

/// A tokeniser as other programs describe theirs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TokenizerInfo {
    /// The markup before every text, if the model was trained with one.
    pub bos_token: Option<String>,
    /// The markup that ends an answer.
    pub eos_token: Option<String>,
    /// The Jinja template that makes prompts of conversations.
    pub chat_template: Option<String>,
}

/// What texts that look like control tokens are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// Ordinary text.
    Ignored,
    /// Control tokens: the text comes from a chat template.
    Control,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`; what else is allowed is the template's business.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// Why a prompt could not be made. The requester's to correct.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the prompt cannot be made: {0}")]
pub struct TextModelError(pub String);
