//! A model's text for the HTTP API: llama.cpp's vocabulary and the model's own chat template.

use std::sync::Arc;

use collm_core::ids::TokenId;
use collm_http::{ChatMessage, Markup, TextModel, TextModelError, TokenizerInfo};
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
    template_source: Option<String>,
}

impl GgufTextModel {
    /// From a model or any of its parts: each has the tokeniser.
    pub(crate) fn load(file: &Arc<ModelFile>) -> anyhow::Result<Self> {
        let source = file.gguf().value("tokenizer.chat_template");
        Ok(Self {
            vocabulary: collm_ggml::Vocabulary::load(file)?,
            template: ChatTemplate::of_model(file.gguf())?,
            template_source: source.and_then(|value| value.as_str().map(str::to_owned)),
        })
    }

    /// Whether conversations can be written for the model.
    pub(crate) fn has_template(&self) -> bool {
        self.template.is_some()
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
        self.vocabulary.tokenize_prompt(text, reading(markup)).map_err(|error| TextModelError(error.to_string()))
    }

    fn tokenize_bare(&self, text: &str, markup: Markup) -> Result<Vec<TokenId>, TextModelError> {
        self.vocabulary.tokenize(text, reading(markup)).map_err(|error| TextModelError(error.to_string()))
    }

    fn tokenizer(&self) -> TokenizerInfo {
        let name = |token: Option<TokenId>| token.and_then(|token| self.vocabulary.name(token));
        TokenizerInfo {
            bos_token: name(self.vocabulary.begin_token()),
            eos_token: name(self.vocabulary.turn_end()),
            chat_template: self.template_source.clone(),
        }
    }

    fn end_tokens(&self) -> &[TokenId] {
        self.vocabulary.end_tokens()
    }
}

/// The vocabulary's word for it.
fn reading(markup: Markup) -> collm_ggml::Markup {
    match markup {
        Markup::Control => collm_ggml::Markup::Tokens,
        Markup::Ignored => collm_ggml::Markup::Characters,
    }
}
