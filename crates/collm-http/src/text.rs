//! The model's text without an answer: `/tokenize`, `/detokenize`, and what the model is, `/props`.

use axum::{Json, extract::State};
use collm_core::{ids::TokenId, policy::Mode};
use collm_node::text::Utf8Stream;
use serde::Serialize;

use crate::{
    Api, Markup, TextModel, TokenizerInfo, aside::aside, error::ApiError, fields::Fields, link::LinkReport,
    openai::conversation,
};

/// `POST /tokenize`: the tokens of `content` (or `prompt`), a text, or of `messages`, a conversation. As in a request for an
/// answer, those that the model wants before every text are among them, unless `add_special` is `false`. `parse_special: false` takes markup in a text for
/// its characters.
pub(crate) async fn tokenize(State(api): State<Api>, mut fields: Fields) -> Result<Json<Tokens>, ApiError> {
    // llama.cpp's name, and vLLM's.
    let adds = fields.take("add_special")?.or(fields.take("add_special_tokens")?).unwrap_or(true);
    fields.refuse_unless("with_pieces", |value| value.as_bool() != Some(true))?;
    let markup = if fields.take("parse_special")?.unwrap_or(true) { Markup::Control } else { Markup::Ignored };
    let text: Option<String> = match fields.take("content")? {
        Some(text) => Some(text),
        None => fields.take("prompt")?,
    };
    let model = api.model.clone();
    let tokens = aside(move || match text {
        Some(text) if adds => Ok(model.tokenize(&text, markup)?),
        Some(text) => Ok(model.tokenize_bare(&text, markup)?),
        None => conversation(&mut fields, model.as_ref()),
    });
    let tokens: Result<Vec<TokenId>, ApiError> = tokens.await;
    let tokens: Vec<u32> = tokens?.into_iter().map(|token| token.0).collect();
    Ok(Json(Tokens { count: tokens.len(), max_model_len: api.card.context, tokens }))
}

#[derive(Debug, Serialize)]
pub(crate) struct Tokens {
    tokens: Vec<u32>,
    count: usize,
    /// Tokens that a context holds.
    max_model_len: u32,
}

/// `POST /detokenize`: the text of `tokens`. Markup, and what is not in the vocabulary, has none.
pub(crate) async fn detokenize(State(api): State<Api>, mut fields: Fields) -> Result<Json<Text>, ApiError> {
    let tokens: Vec<u32> = fields.require("tokens")?;
    let tokens: Vec<TokenId> = tokens.into_iter().map(TokenId).collect();
    let content = detokenized(&tokens, api.model.as_ref());
    Ok(Json(Text { prompt: content.clone(), content }))
}

#[derive(Debug, Serialize)]
pub(crate) struct Text {
    content: String,
    /// The same, as other servers call it.
    prompt: String,
}

/// The text of tokens; what is no character becomes U+FFFD.
pub(crate) fn detokenized(tokens: &[TokenId], model: &dyn TextModel) -> String {
    let mut characters = Utf8Stream::default();
    let mut text: String = tokens.iter().map(|token| characters.push(model.token_bytes(*token))).collect();
    text.push_str(&characters.finish());
    text
}

/// `GET /tokenizer_info`
pub(crate) async fn tokenizer_info(State(api): State<Api>) -> Json<TokenizerReport> {
    Json(TokenizerReport { tokenizer: api.model.tokenizer(), pad_token: (), model_max_length: api.card.context })
}

#[derive(Debug, Serialize)]
pub(crate) struct TokenizerReport {
    #[serde(flatten)]
    tokenizer: TokenizerInfo,
    /// Nothing is padded here; clients look for the field.
    pad_token: (),
    model_max_length: u32,
}

/// `GET /props`
pub(crate) async fn props(State(api): State<Api>) -> Json<Props> {
    Json(Props {
        version: env!("CARGO_PKG_VERSION"),
        model: api.card.name.clone(),
        context: api.card.context,
        modes: api.modes().iter().map(|mode| Mode::name(*mode)).collect(),
        mode: api.defaults.mode.name(),
        threshold: api.defaults.thresholds.exit2.value(),
        max_tokens: api.defaults.tokens_max,
        link: api.emulated_link.as_ref().map(LinkReport::of),
    })
}

/// What the server is, and what requests to `/v1/generate` get when they do not say.
#[derive(Debug, Serialize)]
pub(crate) struct Props {
    version: &'static str,
    model: String,
    context: u32,
    modes: Vec<&'static str>,
    mode: &'static str,
    threshold: f32,
    max_tokens: u32,
    /// Where the way to the cloud is emulated, and may be cut at `/link`.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<LinkReport>,
}
