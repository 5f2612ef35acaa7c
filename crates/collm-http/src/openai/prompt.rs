//! Prompts in all the shapes that clients send them in.

use collm_core::ids::TokenId;
use serde::Deserialize;

use super::unsupported;
use crate::{ChatMessage, Markup, TextModel, error::ApiError, fields::Fields, text::detokenized};

/// The field `messages`, through the model's chat template.
pub(crate) fn conversation(fields: &mut Fields, model: &dyn TextModel) -> Result<Vec<TokenId>, ApiError> {
    let messages = fields.take_objects("messages")?.ok_or_else(|| fields.complaint("messages", "it is missing"))?;
    let messages: Vec<ChatMessage> = messages.into_iter().map(parse_message).collect::<Result<_, _>>()?;
    Ok(model.tokenize(&model.render_chat(&messages)?, Markup::Control)?)
}

fn parse_message(mut fields: Fields) -> Result<ChatMessage, ApiError> {
    unsupported::refuse_in_message(&mut fields)?;
    let role: String = fields.require("role")?;
    // Templates do not know OpenAI's newer word for the system's messages.
    let role = if role == "developer" { "system".to_owned() } else { role };
    Ok(ChatMessage { role, content: text(fields.require("content")?) })
}

/// What was said, in one piece or in several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of parts of the type text")]
enum MessageContent {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
}

fn text(content: MessageContent) -> String {
    match content {
        MessageContent::Text(text) => text,
        MessageContent::Parts(parts) => parts.into_iter().map(|Part::Text { text }| text).collect(),
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, token ids, or a list of either")]
enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

/// The field `prompt`. Markup in a text stands for its tokens, as with other servers: programs that write their own
/// conversations depend on it.
pub(super) fn prompts(fields: &mut Fields, model: &dyn TextModel) -> Result<Vec<Prompt>, ApiError> {
    let prompts = fields.require("prompt")?;
    let tokenized = |text: String| Ok(Prompt { tokens: model.tokenize(&text, Markup::Control)?, text: Some(text) });
    match prompts {
        Prompts::Text(text) => Ok(vec![tokenized(text)?]),
        Prompts::Texts(texts) => texts.into_iter().map(tokenized).collect(),
        Prompts::Tokens(tokens) => Ok(vec![Prompt::of_ids(tokens)]),
        Prompts::TokenLists(lists) => Ok(lists.into_iter().map(Prompt::of_ids).collect()),
    }
}

/// One prompt.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    pub(super) tokens: Vec<TokenId>,
    /// As it was given, unless it was given as tokens.
    text: Option<String>,
}

impl Prompt {
    pub(super) fn of_tokens(tokens: Vec<TokenId>) -> Self {
        Self { tokens, text: None }
    }

    fn of_ids(ids: Vec<u32>) -> Self {
        Self::of_tokens(ids.into_iter().map(TokenId).collect())
    }

    /// What an echo says. Markup has no text, unless it was given as text.
    pub(super) fn text(&self, model: &dyn TextModel) -> String {
        self.text.clone().unwrap_or_else(|| detokenized(&self.tokens, model))
    }
}
