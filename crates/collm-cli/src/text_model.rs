//! A model's text for the HTTP API: llama.cpp's vocabulary and the model's own chat template.

use std::sync::Arc;

use collm_core::ids::TokenId;
use collm_http::{ChatMessage, Markup, TextModel, TextModelError};
use collm_model::{
    ModelFile,
    template::{ChatTemplate, Message},
};
use collm_node::text::Vocabulary;

/// Tokeniser and template of one file.
#[derive(Debug)]
pub(crate) struct GgufTextModel {
    vocabulary: collm_ggml::Vocabulary,
    template: Option<ChatTemplate>,
}

impl GgufTextModel {
    /// From a model or any of its parts: each has the tokeniser.
    pub(crate) fn load(file: &Arc<ModelFile>) -> anyhow::Result<Self> {
        Ok(Self { vocabulary: collm_ggml::Vocabulary::load(file)?, template: ChatTemplate::of_model(file.gguf())? })
    }
}

impl Vocabulary for GgufTextModel {
    fn token_bytes(&self, token: TokenId) -> &[u8] {
        self.vocabulary.token_bytes(token)
    }

    fn is_end(&self, token: TokenId) -> bool {
        self.vocabulary.end_tokens().contains(&token)
    }
}

impl TextModel for GgufTextModel {
    fn render_chat(&self, messages: &[ChatMessage]) -> Result<String, TextModelError> {
        let Some(template) = &self.template else {
            return Err(TextModelError(
                "the model has no chat template; ask with plain text (collm run --raw)".to_owned(),
            ));
        };
        let messages: Vec<Message> =
            messages.iter().map(|message| Message::new(&message.role, &message.content)).collect();
        template.render(&messages).map_err(|error| TextModelError(error.to_string()))
    }

    fn tokenize(&self, text: &str, markup: Markup) -> Result<Vec<TokenId>, TextModelError> {
        let markup = match markup {
            Markup::Control => collm_ggml::Markup::Tokens,
            Markup::Ignored => collm_ggml::Markup::Characters,
        };
        self.vocabulary.tokenize_prompt(text, markup).map_err(|error| TextModelError(error.to_string()))
    }

    fn end_tokens(&self) -> &[TokenId] {
        self.vocabulary.end_tokens()
    }
}
