//! The request's JSON, and what it means.

use collm_core::{ids::TokenId, sampling::Sampling};

use crate::{
    Api, ChatMessage, Markup, TextModel,
    answering::{self, Collaboration, Terms},
    error::ApiError,
    fields::Fields,
};

/// A parsed request. Exactly one of the fields `prompt` and `messages` is given; what else is absent has a default.
#[derive(Debug)]
pub(super) struct GenerateRequest {
    pub(super) prompt: Vec<TokenId>,
    pub(super) terms: Terms,
    /// Whether to send events as they come.
    pub(super) stream: bool,
}

impl GenerateRequest {
    pub(super) fn parse(mut fields: Fields, api: &Api) -> Result<Self, ApiError> {
        let request = Self {
            prompt: prompt(&mut fields, api.model.as_ref())?,
            terms: Terms {
                collaboration: Collaboration::take(&mut fields, &api.defaults)?,
                sampling: answering::sampling(&mut fields, Sampling::GREEDY)?,
                tokens_max: fields.take("max_tokens")?.unwrap_or(api.defaults.tokens_max),
                score_prompt: false,
                stop: answering::stop(&mut fields)?,
            },
            stream: fields.take("stream")?.unwrap_or(false),
        };
        fields.refuse_rest()?;
        Ok(request)
    }
}

/// `prompt` is text to continue as it is; `messages` a conversation to answer, through the model's chat template.
fn prompt(fields: &mut Fields, model: &dyn TextModel) -> Result<Vec<TokenId>, ApiError> {
    let (prompt, messages) = (fields.take::<String>("prompt")?, fields.take::<Vec<ChatMessage>>("messages")?);
    match (prompt, messages) {
        (Some(prompt), None) => Ok(model.tokenize(&prompt, Markup::Ignored)?),
        (None, Some(messages)) => Ok(model.tokenize(&model.render_chat(&messages)?, Markup::Control)?),
        _ => Err(fields.complaint("prompt", "give either prompt or messages, and not both")),
    }
}
