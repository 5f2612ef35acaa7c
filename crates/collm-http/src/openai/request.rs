//! The request's JSON, and what it means.

use collm_core::{ids::TokenId, policy::Mode, sampling::Sampling};
use collm_node::fresh_session;
use serde::Deserialize;

use super::{
    body::Form,
    json, models,
    prompt::{self, Prompt},
    unsupported,
};
use crate::{
    Api,
    answering::{self, Collaboration, Terms},
    error::ApiError,
    fields::Fields,
};

/// Answers to one request: prompts times `n`.
const CHOICES_MAX: usize = 32;

/// Tokens of a continued text whose requester does not say, as OpenAI documents it.
const TEXT_TOKENS_MAX_DEFAULT: u32 = 16;

/// A parsed request. What is absent has the default that OpenAI documents.
#[derive(Debug)]
pub(super) struct CompletionRequest {
    /// As the client called it.
    pub(super) model: String,
    prompts: Vec<Prompt>,
    /// Whether the answer's text begins with the prompt's.
    echo: bool,
    /// Answers to each prompt.
    n: usize,
    terms: Terms,
    /// `None`: one body at the end.
    pub(super) streaming: Option<Streaming>,
}

/// How chunks are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streaming {
    /// Whether a last chunk tells the usage.
    pub(super) include_usage: bool,
}

/// The field `stream_options`. `null` is what is absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
    /// Usage with every chunk, an extension of others: not honoured here.
    continuous_usage_stats: Option<bool>,
    /// Padding against listeners to the lengths of chunks: not honoured here.
    include_obfuscation: Option<bool>,
}

impl CompletionRequest {
    pub(super) fn parse(mut fields: Fields, form: Form, api: &Api) -> Result<Self, ApiError> {
        unsupported::refuse(&mut fields)?;
        let model = fields.take("model")?.unwrap_or_else(|| api.card.name.clone());
        let (log_probs, grammar) = (log_probs(&mut fields, form)?, json::grammar(&mut fields)?);
        let defaults = Sampling { log_probs, grammar, ..sampling_defaults()? };
        let tokens_max = tokens_max(&mut fields, form)?;
        let echo = fields.take("echo")?.unwrap_or(false);
        if echo && form == Form::Chat {
            return Err(ApiError::Unsupported("echo".into()));
        }
        let request = Self {
            terms: Terms {
                collaboration: collaboration(&mut fields, &model, api)?,
                // Without an answer there is nothing else to do.
                score_prompt: echo && (defaults.log_probs.is_some() || tokens_max == 0),
                sampling: answering::sampling(&mut fields, defaults)?,
                tokens_max,
                stop: answering::stop(&mut fields)?,
            },
            model,
            n: answers_each(&mut fields)?,
            streaming: streaming(&mut fields)?,
            echo,
            prompts: match form {
                Form::Chat => vec![Prompt::of_tokens(prompt::conversation(&mut fields, api.model.as_ref())?)],
                Form::Text => prompt::prompts(&mut fields, api.model.as_ref())?,
            },
        };
        match request.n.saturating_mul(request.prompts.len()) {
            1..=CHOICES_MAX => Ok(request),
            0 => Err(fields.complaint("n", "this asks for no answer at all")),
            count => Err(fields.complaint("n", format!("{count} answers in one request; at most {CHOICES_MAX}"))),
        }
    }

    /// What to say before each answer, if the prompts are to be echoed.
    pub(super) fn echoes(&self, api: &Api) -> Vec<Option<Echo>> {
        let asks = self.terms.sampling.log_probs.is_some();
        let echo = |prompt: &Prompt| Echo {
            text: prompt.text(api.model.as_ref()),
            tokens: if asks { prompt.tokens.clone() } else { Vec::new() },
        };
        self.choices().map(|(_, prompt)| self.echo.then(|| echo(prompt))).collect()
    }

    pub(super) fn mode(&self) -> Mode {
        self.terms.collaboration.mode
    }

    pub(super) fn prompt_tokens(&self) -> usize {
        self.prompts.iter().map(|prompt| prompt.tokens.len()).sum()
    }

    /// Every answer to make: those to the first prompt first. Answers to one prompt draw with seeds that follow one another.
    pub(super) fn choices(&self) -> impl Iterator<Item = (Terms, &Prompt)> {
        self.prompts.iter().flat_map(move |prompt| {
            (0..self.n as u64).map(move |index| {
                let mut terms = self.terms.clone();
                terms.sampling.seed = terms.sampling.seed.wrapping_add(index);
                (terms, prompt)
            })
        })
    }
}

/// A prompt that is shown before its answer.
#[derive(Debug)]
pub(super) struct Echo {
    pub(super) text: String,
    /// To tell how likely they were; empty if nobody asks.
    pub(super) tokens: Vec<TokenId>,
}

/// From the model's name and the object `collm`, which must not contradict each other.
fn collaboration(fields: &mut Fields, model: &str, api: &Api) -> Result<Collaboration, ApiError> {
    let named = models::mode_of(api, model)?;
    let mut extension = fields.take_object("collm")?;
    let defaults = api.defaults.in_mode(named);
    let collaboration = Collaboration::take(&mut extension, &defaults)?;
    extension.refuse_rest()?;
    match named {
        Some(named) if named != collaboration.mode => {
            Err(extension.complaint("mode", format!("{} contradicts the model {model}", collaboration.mode.name())))
        }
        _ => Ok(collaboration),
    }
}

/// Answers differ from request to request unless a seed is given.
fn sampling_defaults() -> Result<Sampling, ApiError> {
    Ok(Sampling { temperature: 1.0, seed: fresh_session()?.0 as u64, ..Sampling::GREEDY })
}

/// How many most likely tokens to tell beside each, if any: a conversation says it with two fields, a text with one.
fn log_probs(fields: &mut Fields, form: Form) -> Result<Option<u32>, ApiError> {
    if form == Form::Text {
        return fields.take("logprobs");
    }
    let (wanted, top) = (fields.take("logprobs")?.unwrap_or(false), fields.take("top_logprobs")?);
    match top {
        Some(count) if count > 0 && !wanted => Err(fields.complaint("top_logprobs", "only with logprobs: true")),
        top => Ok(wanted.then(|| top.unwrap_or(0))),
    }
}

/// The field `n`. Making more answers than are shown, as `best_of` asks for, is not done here.
fn answers_each(fields: &mut Fields) -> Result<usize, ApiError> {
    let n = fields.take("n")?.unwrap_or(1);
    match fields.take::<usize>("best_of")? {
        Some(made) if made != n => Err(ApiError::Unsupported("best_of".into())),
        _ => Ok(n),
    }
}

/// A conversation's answer may fill the context unless its requester says otherwise.
fn tokens_max(fields: &mut Fields, form: Form) -> Result<u32, ApiError> {
    let (older, newer) = (fields.take("max_tokens")?, fields.take("max_completion_tokens")?);
    match (older, newer) {
        (Some(older), Some(newer)) if older != newer => {
            Err(fields.complaint("max_completion_tokens", "max_tokens says otherwise; give one of them"))
        }
        (older, newer) => Ok(newer.or(older).unwrap_or(match form {
            Form::Chat => u32::MAX,
            Form::Text => TEXT_TOKENS_MAX_DEFAULT,
        })),
    }
}

fn streaming(fields: &mut Fields) -> Result<Option<Streaming>, ApiError> {
    let streams = fields.take("stream")?.unwrap_or(false);
    let options: Option<StreamOptions> = fields.take("stream_options")?;
    if options.is_some() && !streams {
        return Err(fields.complaint("stream_options", "only for answers that are streamed; set stream to true"));
    }
    let options = options.unwrap_or_default();
    for (name, wanted) in [
        ("stream_options.continuous_usage_stats", options.continuous_usage_stats),
        ("stream_options.include_obfuscation", options.include_obfuscation),
    ] {
        if wanted == Some(true) {
            return Err(ApiError::Unsupported(name.into()));
        }
    }
    Ok(streams.then_some(Streaming { include_usage: options.include_usage == Some(true) }))
}
