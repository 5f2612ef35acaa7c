//! Asks a running edge over its HTTP API, line by line as the answer is written.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context as _, bail};
use collm_core::{
    budget::Target,
    edge::Ablation,
    policy::{Mode, Threshold},
    sampling::Sampling,
};
use serde::{Deserialize, Serialize};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::args::{EdgeAccessArgs, values::Auto};

/// An edge, by its address.
#[derive(Debug, Clone)]
pub(crate) struct EdgeClient {
    agent: ureq::Agent,
    url: String,
    /// The value of the header that carries the edge's key.
    authorization: Option<String>,
}

/// What to ask: the request's JSON.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Question {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Message>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<AskedThreshold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<AskedBudget>,
    run_ahead: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    without: Option<&'static str>,
    max_tokens: u32,
    stop: Vec<String>,
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    repeat_last_n: u32,
    seed: u64,
    stream: bool,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Message {
    role: &'static str,
    content: String,
}

impl Message {
    /// `role`: system, user or assistant.
    pub(crate) fn new(role: &'static str, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// Text to continue, or a conversation for the model's chat template.
#[derive(Debug, Clone)]
pub(crate) enum Prompt {
    Raw(String),
    Chat { system: Option<String>, user: String },
    Conversation(Vec<Message>),
}

/// A number, or the word for what was calibrated.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
enum AskedThreshold {
    Number(f32),
    Word(&'static str),
}

/// A target, and the threshold that is the least for it, if that is not left to the edge.
#[derive(Debug, Clone, Serialize)]
struct AskedBudget {
    #[serde(skip_serializing_if = "Option::is_none")]
    tpot_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold_min: Option<f32>,
}

impl AskedBudget {
    fn of(target: Target, threshold_min: Option<Threshold>) -> Self {
        let (tpot_ms, cloud) = match target {
            Target::TimePerToken(time) => (Some(time.as_secs_f64() * 1e3), None),
            Target::CloudShare(share) => (None, Some(share.value())),
        };
        let threshold_min = threshold_min.map(|threshold| threshold.value().min(THRESHOLD_MAX));
        Self { tpot_ms, cloud, threshold_min }
    }
}

impl AskedThreshold {
    fn of(threshold: Threshold) -> Self {
        Self::Number(threshold.value().min(THRESHOLD_MAX))
    }
}

/// JSON knows no infinity; every confidence is below this.
const THRESHOLD_MAX: f32 = 2.0;

impl Question {
    /// A greedy question.
    pub(crate) fn new(prompt: Prompt, threshold: Threshold, max_tokens: u32) -> Self {
        let (prompt, messages) = match prompt {
            Prompt::Raw(text) => (Some(text), None),
            Prompt::Chat { system, user } => {
                let system = system.map(|content| Message::new("system", content));
                (None, Some(system.into_iter().chain([Message::new("user", user)]).collect()))
            }
            Prompt::Conversation(turns) => (None, Some(turns)),
        };
        let greedy = Sampling::GREEDY;
        Self {
            prompt,
            messages,
            mode: None,
            threshold: Some(AskedThreshold::of(threshold)),
            budget: None,
            run_ahead: true,
            without: None,
            max_tokens,
            stop: Vec::new(),
            temperature: greedy.temperature,
            top_k: greedy.top_k,
            top_p: greedy.top_p,
            min_p: greedy.min_p,
            repeat_penalty: greedy.repeat_penalty,
            repeat_last_n: greedy.repeat_last_n,
            seed: greedy.seed,
            stream: true,
        }
    }

    /// At the threshold that was asked for, or at the edge's own if none was.
    #[must_use]
    pub(crate) fn at(self, threshold: Option<Auto<Threshold>>) -> Self {
        let threshold = threshold.map(|threshold| match threshold {
            Auto::Auto => AskedThreshold::Word("auto"),
            Auto::Given(threshold) => AskedThreshold::of(threshold),
        });
        Self { threshold, ..self }
    }

    /// Within a budget, if one is given, with this least threshold or the edge's own.
    #[must_use]
    pub(crate) fn within(self, target: Option<Target>, threshold_min: Option<Threshold>) -> Self {
        Self { budget: target.map(|target| AskedBudget::of(target, threshold_min)), ..self }
    }

    /// In this mode, not the edge's own choice.
    #[must_use]
    pub(crate) fn in_mode(self, mode: Mode) -> Self {
        Self { mode: Some(mode.name()), ..self }
    }

    /// Standing still at every ask, as the paper does.
    #[must_use]
    pub(crate) fn standing_still(self) -> Self {
        Self { run_ahead: false, ..self }
    }

    /// With a part of the method left out.
    #[must_use]
    pub(crate) fn without(self, ablation: Ablation) -> Self {
        Self { without: Some(ablation).filter(|it| *it != Ablation::Nothing).map(Ablation::name), ..self }
    }

    /// Drawn like this.
    #[must_use]
    pub(crate) fn sampled(self, sampling: &Sampling) -> Self {
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            repeat_last_n: sampling.repeat_last_n,
            seed: sampling.seed,
            ..self
        }
    }

    /// Of so many tokens at most.
    #[must_use]
    pub(crate) fn limited_to(self, max_tokens: u32) -> Self {
        Self { max_tokens, ..self }
    }

    /// Ending before these.
    #[must_use]
    pub(crate) fn stopped_by(self, stop: Vec<String>) -> Self {
        Self { stop, ..self }
    }
}

/// What is to be shown while an answer is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown<'a> {
    /// More text, and who decided it.
    Text { text: &'a str, source: &'a str, degraded: bool },
    /// The cloud is not there; the answer goes on at the edge.
    Degraded(&'a str),
}

/// A line of the answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Token { token: LineToken, text: String },
    Degraded { reason: String },
    Finished { text: String, answer: serde_json::Value },
    Error { error: ErrorContent },
}

#[derive(Debug, Deserialize)]
struct LineToken {
    source: String,
    degraded: bool,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    error: ErrorContent,
}

#[derive(Debug, Deserialize)]
struct ErrorContent {
    message: String,
}

impl EdgeClient {
    /// An edge that asks for no key and does not encrypt.
    pub(crate) fn new(url: &str) -> Self {
        Self::with(url, TlsConfig::default(), None)
    }

    /// An edge that is approached as arguments say.
    pub(crate) fn connecting(url: &str, access: &EdgeAccessArgs) -> anyhow::Result<Self> {
        let tls = match &access.edge_ca {
            Some(file) => TlsConfig::builder().root_certs(authorities(file)?).build(),
            None => TlsConfig::default(),
        };
        Ok(Self::with(url, tls, access.key()?))
    }

    fn with(url: &str, tls: TlsConfig, key: Option<String>) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls);
        let authorization = key.map(|key| format!("Bearer {key}"));
        Self { agent: config.build().into(), url: url.trim_end_matches('/').to_owned(), authorization }
    }

    /// The report of a whole answer, as the edge wrote it; `show` sees it grow.
    pub(crate) fn ask(
        &self,
        question: &Question,
        show: &mut dyn FnMut(Shown<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<serde_json::Value> {
        let url = format!("{}/v1/generate", self.url);
        let mut request = self.agent.post(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut response = request.send_json(question).map_err(|error| {
            let message = format!("cannot ask the edge at {}; {}", self.url, advice(&error));
            anyhow::Error::new(error).context(message)
        })?;
        if !response.status().is_success() {
            bail!("{}", refusal(&mut response, &self.url));
        }
        let lines = BufReader::new(response.body_mut().as_reader()).lines();
        let mut last_source = String::new();
        for line in lines {
            let line = line.context("the connection to the edge is lost")?;
            match serde_json::from_str(&line).with_context(|| format!("{url} does not answer as an edge does"))? {
                Line::Token { token: LineToken { source, degraded }, text } => {
                    show(Shown::Text { text: &text, source: &source, degraded })?;
                    last_source = source;
                }
                Line::Degraded { reason } => show(Shown::Degraded(&reason))?,
                Line::Finished { text, answer } => {
                    show(Shown::Text { text: &text, source: &last_source, degraded: false })?;
                    return Ok(answer);
                }
                Line::Error { error } => bail!("{}", error.message),
            }
        }
        bail!("the edge ended in the middle of an answer")
    }
}

fn advice(error: &ureq::Error) -> &'static str {
    // The name of the check that failed is nested as deep as the transport likes; its words are not.
    if error.to_string().contains("certificate") {
        return "is it the name that its certificate is for, and is --edge-ca FILE the authority that signed it?";
    }
    "is `collm edge` running there?"
}

fn authorities(file: &Path) -> anyhow::Result<RootCerts> {
    let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    anyhow::ensure!(!certificates.is_empty(), "{} holds no certificate; give a PEM file", file.display());
    Ok(RootCerts::new_with_certs(&certificates))
}

fn refusal(response: &mut ureq::http::Response<ureq::Body>, url: &str) -> String {
    match response.body_mut().read_json::<ErrorBody>() {
        Ok(body) => body.error.message,
        Err(_) => format!("{url} answered with {}; is it an edge?", response.status()),
    }
}
