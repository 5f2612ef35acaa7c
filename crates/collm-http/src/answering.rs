//! From a request's words to answers under way: what all families of endpoints share.

mod budget;

use std::collections::BTreeMap;

use collm_core::{
    budget::Budget,
    edge::{Ablation, Request},
    ids::TokenId,
    policy::{Mode, RunAhead, Threshold, Thresholds},
    sampling::Sampling,
};
use collm_node::{
    answer::{AnswerWriter, Progress},
    fresh_session,
    text::StopStrings,
};
use futures::{Stream, stream};
use serde::Deserialize;

use self::budget::budget;
use crate::{Api, Defaults, error::ApiError, fields::Fields};

/// How an answer is to be made and when it ends: everything but its prompt.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) collaboration: Collaboration,
    pub(crate) sampling: Sampling,
    pub(crate) tokens_max: u32,
    /// Tell how likely the prompt was.
    pub(crate) score_prompt: bool,
    /// The answer ends before the first of these.
    pub(crate) stop: StopStrings,
}

/// What is answered to those who rely on a calibration that does not exist.
const NOT_CALIBRATED: &str =
    "no threshold was calibrated for this edge's part; run collm calibrate and split with its exits, or give a number";

/// Who makes an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Collaboration {
    pub(crate) mode: Mode,
    pub(crate) thresholds: Thresholds,
    pub(crate) budget: Option<Budget>,
    pub(crate) run_ahead: RunAhead,
    pub(crate) without: Ablation,
}

impl Terms {
    /// Submits a request. Dropping the writer, as happens when the client leaves, withdraws it.
    pub(crate) async fn begin(&self, api: &Api, prompt: Vec<TokenId>) -> Result<AnswerWriter, ApiError> {
        let request = Request {
            session: fresh_session()?,
            prompt,
            mode: self.collaboration.mode,
            thresholds: self.collaboration.thresholds,
            budget: self.collaboration.budget,
            run_ahead: self.collaboration.run_ahead,
            without: self.collaboration.without,
            sampling: self.sampling.clone(),
            tokens_max: self.tokens_max,
            score_prompt: self.score_prompt,
            stop: api.model.end_tokens().to_vec(),
        };
        let stream = api.edge.submit(request).await?;
        Ok(AnswerWriter::new(stream, api.model.clone(), self.stop.clone()))
    }
}

impl Collaboration {
    /// From the fields
    /// - `mode`: `whole`, `cloud`, `naive`, `standalone`, `collaborative`, `exact` or `auto`,
    /// - `threshold`: confidence from which on a guess of the edge is taken; above 1 the cloud decides every token; `auto` takes what
    ///   was calibrated for each exit,
    /// - `budget`: what is to be kept instead of a threshold,
    /// - `run_ahead`: `false` to stand still at every ask, as the paper does. Changes when tokens come, never which,
    /// - `without`: a part of the method to leave out, for measurements: `parallel-upload`, `half-precision` or `context-manager`.
    pub(crate) fn take(fields: &mut Fields, defaults: &Defaults) -> Result<Self, ApiError> {
        let run_ahead = fields.take("run_ahead")?.unwrap_or(true);
        let mode = mode(fields)?.unwrap_or(defaults.mode);
        let (thresholds, budget) = (thresholds(fields, defaults)?, budget(fields, defaults)?);
        if thresholds.is_some() && budget.is_some() {
            return Err(fields.complaint("budget", "it sets the threshold, and threshold does too; give one of them"));
        }
        // The edge's own budget stands in for its own threshold, where a mode has one.
        let stands_in = thresholds.is_none() && mode.takes_budget();
        let own = defaults.budget.filter(|_| stands_in);
        let own = own.map(|target| Budget { target, threshold_min: defaults.threshold_min });
        Ok(Self {
            mode,
            thresholds: thresholds.unwrap_or(defaults.thresholds),
            budget: budget.or(own),
            run_ahead: if run_ahead { RunAhead::DEFAULT } else { RunAhead::Never },
            without: ablation(fields)?,
        })
    }
}

fn ablation(fields: &mut Fields) -> Result<Ablation, ApiError> {
    let Some(name) = fields.take::<String>("without")? else { return Ok(Ablation::Nothing) };
    Ablation::ALL.into_iter().find(|ablation| ablation.name() == name).ok_or_else(|| {
        let names = Ablation::ALL.map(Ablation::name).join(", ");
        fields.complaint("without", format!("{name:?} is none of {names}"))
    })
}

fn mode(fields: &mut Fields) -> Result<Option<Mode>, ApiError> {
    let Some(name) = fields.take::<String>("mode")? else { return Ok(None) };
    let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
    mode.map(Some).ok_or_else(|| {
        let names = Mode::ALL.map(Mode::name).join(", ");
        fields.complaint("mode", format!("{name:?} is none of {names}"))
    })
}

fn thresholds(fields: &mut Fields, defaults: &Defaults) -> Result<Option<Thresholds>, ApiError> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number or \"auto\"")]
    enum Asked {
        Number(f32),
        Word(String),
    }
    let (thresholds, complaint) = match fields.take("threshold")? {
        None => return Ok(None),
        Some(Asked::Number(value)) => {
            (Threshold::new(value).map(Thresholds::from), format!("{value} is not 0 or more"))
        }
        Some(Asked::Word(word)) if word == "auto" => (defaults.calibrated, NOT_CALIBRATED.to_owned()),
        Some(Asked::Word(word)) => (None, format!("{word:?} is neither a number nor auto")),
    };
    thresholds.map(Some).ok_or_else(|| fields.complaint("threshold", complaint))
}

/// The fields of [`Sampling`] by their names. Ranges are checked where the request is submitted.
pub(crate) fn sampling(fields: &mut Fields, defaults: Sampling) -> Result<Sampling, ApiError> {
    Ok(Sampling {
        temperature: fields.take("temperature")?.unwrap_or(defaults.temperature),
        top_k: fields.take("top_k")?.unwrap_or(defaults.top_k),
        top_p: fields.take("top_p")?.unwrap_or(defaults.top_p),
        min_p: fields.take("min_p")?.unwrap_or(defaults.min_p),
        repeat_penalty: fields.take("repeat_penalty")?.unwrap_or(defaults.repeat_penalty),
        repeat_last_n: fields.take("repeat_last_n")?.unwrap_or(defaults.repeat_last_n),
        presence_penalty: fields.take("presence_penalty")?.unwrap_or(defaults.presence_penalty),
        frequency_penalty: fields.take("frequency_penalty")?.unwrap_or(defaults.frequency_penalty),
        bias: bias(fields)?,
        grammar: defaults.grammar,
        log_probs: defaults.log_probs,
        seed: fields.take("seed")?.unwrap_or(defaults.seed),
    })
}

/// The field `logit_bias`: from token ids, which JSON writes as strings, to what is added to their logits.
fn bias(fields: &mut Fields) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let biases: BTreeMap<String, f32> = fields.take("logit_bias")?.unwrap_or_default();
    let by_id = |(token, bias): (String, f32)| match token.parse() {
        Ok(id) => Ok((TokenId(id), bias)),
        Err(_) => Err(fields.complaint("logit_bias", format!("{token:?} is not the id of a token"))),
    };
    // Ids written in two ways would count twice.
    let biases: BTreeMap<TokenId, f32> = biases.into_iter().map(by_id).collect::<Result<_, _>>()?;
    Ok(biases.into_iter().collect())
}

/// The field `stop`: one string or several.
pub(crate) fn stop(fields: &mut Fields) -> Result<StopStrings, ApiError> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or a list of strings")]
    enum Stop {
        One(String),
        Several(Vec<String>),
    }
    let strings = match fields.take("stop")? {
        None => Vec::new(),
        Some(Stop::One(string)) => vec![string],
        Some(Stop::Several(strings)) => strings,
    };
    Ok(StopStrings::new(strings)?)
}

/// What happens to an answer, to its end. Dropping the stream withdraws the request.
pub(crate) fn progress(writer: AnswerWriter) -> impl Stream<Item = Progress> + Send {
    stream::unfold(writer, |mut writer| async { Some((writer.next().await?, writer)) })
}
