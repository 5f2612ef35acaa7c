//! The request's JSON, and what it means.

use collm_core::{
    edge::Request,
    ids::{SessionId, TokenId},
    policy::{Mode, RunAhead, Threshold},
    sampling::Sampling,
};
use collm_node::text::StopStrings;
use serde::Deserialize;

use crate::{ChatMessage, Defaults, Markup, TextModel, error::ApiError};

/// Body of a request. Exactly one of `prompt` and `messages` is given; what else is absent has a default.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GenerateRequest {
    /// Text to continue, as it is.
    pub(super) prompt: Option<String>,
    /// A conversation to answer, through the model's chat template.
    pub(super) messages: Option<Vec<ChatMessage>>,
    /// `whole`, `cloud`, `naive`, `standalone`, `collaborative` or `exact`.
    pub(super) mode: Option<String>,
    /// Confidence from which on a guess of the edge is taken; above 1 the cloud decides every token.
    pub(super) threshold: Option<f32>,
    /// `false`: stand still at every ask, as the paper does. Changes when tokens come, never which.
    pub(super) run_ahead: Option<bool>,
    /// Tokens of the answer at most.
    pub(super) max_tokens: Option<u32>,
    /// The answer ends before the first of these.
    pub(super) stop: Vec<String>,
    /// 0: always the most likely token.
    pub(super) temperature: Option<f32>,
    /// Draw from the `top_k` most likely tokens; 0 from all.
    pub(super) top_k: Option<u32>,
    /// Draw from the most likely tokens that together reach this probability.
    pub(super) top_p: Option<f32>,
    /// Draw from tokens with at least this share of the highest probability.
    pub(super) min_p: Option<f32>,
    /// Makes recent tokens less likely; 1 changes nothing.
    pub(super) repeat_penalty: Option<f32>,
    /// How many tokens back count as recent.
    pub(super) repeat_last_n: Option<u32>,
    /// Names what is drawn: the same seed gives the same answer.
    pub(super) seed: Option<u64>,
    /// Whether to send events as they come.
    pub(super) stream: bool,
}

impl GenerateRequest {
    /// What the edge is to do, and the strings that end the text.
    pub(super) fn parse(
        self,
        session: SessionId,
        model: &dyn TextModel,
        defaults: &Defaults,
    ) -> Result<(Request, StopStrings), ApiError> {
        let request = Request {
            session,
            prompt: self.prompt(model)?,
            mode: self.mode(defaults)?,
            threshold: self.threshold(defaults)?,
            run_ahead: if self.run_ahead.unwrap_or(true) { RunAhead::DEFAULT } else { RunAhead::Never },
            sampling: self.sampling(),
            tokens_max: self.max_tokens.unwrap_or(defaults.tokens_max),
            stop: model.end_tokens().to_vec(),
        };
        Ok((request, StopStrings::new(self.stop)?))
    }

    fn prompt(&self, model: &dyn TextModel) -> Result<Vec<TokenId>, ApiError> {
        match (&self.prompt, &self.messages) {
            (Some(prompt), None) => Ok(model.tokenize(prompt, Markup::Ignored)?),
            (None, Some(messages)) => Ok(model.tokenize(&model.render_chat(messages)?, Markup::Control)?),
            _ => Err(field("prompt", "give either prompt or messages, and not both")),
        }
    }

    fn mode(&self, defaults: &Defaults) -> Result<Mode, ApiError> {
        let Some(name) = &self.mode else { return Ok(defaults.mode) };
        Mode::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
            let names = Mode::ALL.map(Mode::name).join(", ");
            field("mode", format!("{name:?} is none of {names}"))
        })
    }

    fn threshold(&self, defaults: &Defaults) -> Result<Threshold, ApiError> {
        let Some(value) = self.threshold else { return Ok(defaults.threshold) };
        Threshold::new(value).ok_or_else(|| field("threshold", format!("{value} is not 0 or more")))
    }

    /// Ranges are checked where the request is submitted.
    fn sampling(&self) -> Sampling {
        let greedy = Sampling::GREEDY;
        Sampling {
            temperature: self.temperature.unwrap_or(greedy.temperature),
            top_k: self.top_k.unwrap_or(greedy.top_k),
            top_p: self.top_p.unwrap_or(greedy.top_p),
            min_p: self.min_p.unwrap_or(greedy.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(greedy.repeat_penalty),
            repeat_last_n: self.repeat_last_n.unwrap_or(greedy.repeat_last_n),
            seed: self.seed.unwrap_or(greedy.seed),
        }
    }
}

fn field(field: &'static str, problem: impl Into<String>) -> ApiError {
    ApiError::Field { field, problem: problem.into() }
}
