//! The JSON of answers, whole and in chunks.

use std::time::{SystemTime, UNIX_EPOCH};

use collm_core::policy::Mode;
use collm_node::{
    answer::{Answer, AutoStats, BudgetStats, ComparisonStats, LinkStats},
    fresh_session,
};
use serde::Serialize;

use super::log_probs::LogProbs;
use crate::error::ApiError;

/// Which of the two endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A conversation is answered.
    Chat,
    /// A text is continued.
    Text,
}

/// What every chunk of an answer repeats.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) form: Form,
    id: String,
    created: u64,
    model: String,
}

/// An answer, or a chunk of one.
#[derive(Debug, Serialize)]
pub(super) struct Body {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<Choice>,
    pub(super) usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) collm: Option<Report>,
}

/// One of the answers to a request, or what is new of it.
#[derive(Debug, Serialize)]
pub(super) struct Choice {
    index: u32,
    #[serde(flatten)]
    content: Content,
    /// `null` unless asked for; strict clients want the field.
    logprobs: Option<LogProbs>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    Message(Message),
    Delta(Message),
    Text(String),
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// Tokens of all choices. A prompt counts once, however many choices were made of it.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptTokens,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct PromptTokens {
    /// Of them, those that did not have to be computed again.
    cached_tokens: usize,
}

/// What no other server tells: who decided, and what the cloud cost. Sums over all choices, and what cannot be summed for each.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    mode: &'static str,
    /// Whether the edge decided tokens that the cloud should have decided.
    degraded: bool,
    tokens: TokensBySource,
    bytes_up: u64,
    bytes_down: u64,
    waits: Waits,
    cloud_compute_ms: f64,
    /// Of the choice that took longest.
    total_ms: f64,
    /// In the order in which they were complete.
    choices: Vec<Circumstances>,
}

/// Under which circumstances one choice was made.
#[derive(Debug, Clone, Serialize)]
struct Circumstances {
    index: u32,
    budget: Option<BudgetStats>,
    auto: Option<AutoStats>,
    link: LinkStats,
    comparison: Option<ComparisonStats>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct TokensBySource {
    exit1: u32,
    exit2: u32,
    cloud: u32,
    whole: u32,
    /// Of them, those decided below the threshold because the cloud was not there.
    degraded: u32,
}

/// Times the edge stood still for the cloud.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Waits {
    count: u32,
    ms: f64,
    network_ms: f64,
}

impl Head {
    pub(super) fn new(form: Form, model: String) -> Result<Self, ApiError> {
        let prefix = match form {
            Form::Chat => "chatcmpl",
            Form::Text => "cmpl",
        };
        // Not the name of a session: whoever knows one of those can resume it.
        let id = format!("{prefix}-{}", fresh_session()?);
        Ok(Self { form, id, created: unix_seconds(SystemTime::now()), model })
    }

    /// The whole of all answers.
    pub(super) fn whole(&self, choices: Vec<Choice>, tally: Tally) -> Body {
        let object = match self.form {
            Form::Chat => "chat.completion",
            Form::Text => "text_completion",
        };
        Body { usage: Some(tally.usage), collm: Some(tally.report), ..self.body(object, choices) }
    }

    /// Something more of them.
    pub(super) fn chunk(&self, choices: Vec<Choice>) -> Body {
        let object = match self.form {
            Form::Chat => "chat.completion.chunk",
            Form::Text => "text_completion",
        };
        self.body(object, choices)
    }

    fn body(&self, object: &'static str, choices: Vec<Choice>) -> Body {
        let Self { id, created, model, .. } = self.clone();
        Body { id, object, created, model, choices, usage: None, collm: None }
    }
}

/// As the API counts time.
pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Choice {
    pub(super) fn unfinished(index: u32, content: Content) -> Self {
        Self { index, content, logprobs: None, finish_reason: None }
    }

    /// `ended` is a word of [`Answer::finish_reason`]. OpenAI has one word for all that cuts an answer short.
    pub(super) fn finished(index: u32, content: Content, ended: &'static str) -> Self {
        let finish_reason = if ended == "stop" { "stop" } else { "length" };
        Self { index, content, logprobs: None, finish_reason: Some(finish_reason) }
    }

    pub(super) fn with_log_probs(self, logprobs: Option<LogProbs>) -> Self {
        Self { logprobs, ..self }
    }
}

impl Content {
    pub(super) fn whole(form: Form, text: String) -> Self {
        match form {
            Form::Chat => Self::Message(Message { role: Some("assistant"), content: Some(text) }),
            Form::Text => Self::Text(text),
        }
    }

    /// What opens a conversation's answer.
    pub(super) fn opening() -> Self {
        Self::Delta(Message { role: Some("assistant"), content: Some(String::new()) })
    }

    pub(super) fn more(form: Form, text: String) -> Self {
        match form {
            Form::Chat => Self::Delta(Message { role: None, content: Some(text) }),
            Form::Text => Self::Text(text),
        }
    }

    pub(super) fn nothing_more(form: Form) -> Self {
        match form {
            Form::Chat => Self::Delta(Message::default()),
            Form::Text => Self::Text(String::new()),
        }
    }
}

/// Sums over the choices that are complete.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) usage: Usage,
    pub(super) report: Report,
}

impl Tally {
    pub(super) fn new(mode: Mode, prompt_tokens: usize) -> Self {
        let usage = Usage { prompt_tokens, total_tokens: prompt_tokens, ..Usage::default() };
        let report = Report {
            mode: mode.name(),
            degraded: false,
            tokens: TokensBySource::default(),
            bytes_up: 0,
            bytes_down: 0,
            waits: Waits::default(),
            cloud_compute_ms: 0.0,
            total_ms: 0.0,
            choices: Vec::new(),
        };
        Self { usage, report }
    }

    /// Adds a choice by its index.
    pub(super) fn add(&mut self, index: u32, answer: &Answer) {
        self.usage.completion_tokens += answer.tokens.len();
        self.usage.total_tokens += answer.tokens.len();
        let cached = self.usage.prompt_tokens_details.cached_tokens + answer.stats.cached_tokens as usize;
        self.usage.prompt_tokens_details.cached_tokens = cached.min(self.usage.prompt_tokens);
        let (report, stats) = (&mut self.report, &answer.stats);
        report.degraded |= answer.degraded;
        report.tokens.exit1 += stats.exit1_tokens;
        report.tokens.exit2 += stats.exit2_tokens;
        report.tokens.cloud += stats.cloud_tokens;
        report.tokens.whole += stats.whole_tokens;
        report.tokens.degraded += stats.degraded_tokens;
        report.bytes_up += stats.bytes_up;
        report.bytes_down += stats.bytes_down;
        report.waits.count += stats.round_trips_waited;
        report.waits.ms += stats.waited_ms;
        report.waits.network_ms += stats.network_ms;
        report.cloud_compute_ms += stats.cloud_compute_ms;
        report.total_ms = report.total_ms.max(stats.total_ms);
        let (budget, auto, link, comparison) =
            (stats.budget.clone(), stats.auto.clone(), stats.link.clone(), stats.comparison.clone());
        report.choices.push(Circumstances { index, budget, auto, link, comparison });
    }
}
