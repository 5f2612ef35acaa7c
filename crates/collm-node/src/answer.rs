//! One answer as text and as a report, for whoever shows it: the command line and the HTTP API.
//!
//! [`AnswerWriter`] turns events into text and ends the answer at its stop strings; [`Answer`] is the report, ready to be
//! written as JSON. Deliberately absent: how it is shown.

mod circumstances;

use std::{sync::Arc, time::Duration};

use collm_core::{
    edge::{FinishReason, Loss, PromptToken, Source, Token},
    policy::Threshold,
    sampling::LogProbs,
};
use serde::Serialize;

pub use self::circumstances::{AutoStats, BudgetStats, ComparisonStats, LinkStats};
use crate::{
    AnswerEvent, AnswerStream, Finished, Traffic,
    text::{StopStrings, TextStream, Vocabulary},
};

/// Everything about one finished answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// What was shown.
    pub text: String,
    /// `stop`, `length`, `context` or `cancelled`.
    pub finish_reason: &'static str,
    /// Whether the edge decided any of these tokens, or said how likely the prompt was, because the cloud, which should have, was
    /// not there.
    pub degraded: bool,
    /// Why the cloud was lost, each time it was.
    pub losses: Vec<String>,
    /// How likely the prompt's tokens were, from the second on, if the request asks for it.
    #[serde(skip)]
    pub prompt: Vec<PromptToken>,
    /// The tokens, up to the one that completed a stop string.
    pub tokens: Vec<AnswerToken>,
    /// What it cost.
    pub stats: AnswerStats,
}

/// One token of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerToken {
    /// Its number in the vocabulary.
    pub id: u32,
    /// Its text. A character that several tokens make belongs to the last of them; end tokens have none.
    pub text: String,
    /// Who decided: `exit1`, `exit2`, `cloud` or `whole`.
    pub source: &'static str,
    /// Highest probability where it was decided.
    pub confidence: f32,
    /// Decided below the threshold because the cloud was not there.
    pub degraded: bool,
    /// Time the edge stood still for it.
    pub waited_ms: f64,
    /// From the ask to the cloud's answer; none where the edge did not ask about this token.
    pub round_trip_ms: Option<f64>,
    /// Encoded messages to the cloud from the request to this token.
    pub bytes_up: u64,
    /// Encoded messages from the cloud from the request to this token.
    pub bytes_down: u64,
    /// What else was thought where it was decided, if the request asks for it. Each API has its own words for that.
    #[serde(skip)]
    pub log_probs: Option<LogProbs>,
}

/// What an answer cost: what [`Finished`] carries, in the units of reports. Tokens are counted as the answer has them; times,
/// asks and positions include what the edge did before it heard that a stop string is complete.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerStats {
    /// How exit 1 measured its confidence: `max-prob`, `margin`, `entropy` or `gate`.
    pub exit1_confidence: &'static str,
    /// How exit 2 did.
    pub exit2_confidence: &'static str,
    /// Confidence from which on exit 1's guesses were taken; none if it was not asked.
    pub exit1_threshold: Option<f32>,
    /// Confidence from which on exit 2's guesses were taken; none if all were asked about.
    pub exit2_threshold: Option<f32>,
    /// What became of the budget; none without one.
    pub budget: Option<BudgetStats>,
    /// What mode auto chose, and why; none in other modes.
    pub auto: Option<AutoStats>,
    /// The way to the cloud, as it looked at the end.
    pub link: LinkStats,
    /// Did the network help? None at an edge without a cloud.
    pub comparison: Option<ComparisonStats>,
    /// From the request to the end.
    pub total_ms: f64,
    /// From the request to the first token (TTFT).
    pub first_token_ms: Option<f64>,
    /// Per token after the first (TPOT).
    pub time_per_token_ms: Option<f64>,
    /// Engine time at the edge.
    pub edge_compute_ms: f64,
    /// Engine time in the cloud: this answer's share of its batches.
    pub cloud_compute_ms: f64,
    /// Time that asks waited in the cloud before their batch began.
    pub cloud_queued_ms: f64,
    /// Time that the edge stood still for the cloud, compute included.
    pub waited_ms: f64,
    /// Of it, what the cloud did not spend computing or queueing: time on the network.
    pub network_ms: f64,
    /// Encoded messages to the cloud.
    pub bytes_up: u64,
    /// Encoded messages from the cloud.
    pub bytes_down: u64,
    /// Messages to the cloud.
    pub frames_up: u64,
    /// Messages from the cloud.
    pub frames_down: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of them, what did not have to be computed because it was kept from the session's last answer.
    pub cached_tokens: u32,
    /// Tokens of the answer.
    pub answer_tokens: u32,
    /// Tokens that left at exit 1.
    pub exit1_tokens: u32,
    /// Tokens that left at exit 2, degraded ones included.
    pub exit2_tokens: u32,
    /// Tokens that the cloud decided.
    pub cloud_tokens: u32,
    /// Tokens of the whole model on the device.
    pub whole_tokens: u32,
    /// Tokens decided below the threshold because the cloud was not there.
    pub degraded_tokens: u32,
    /// Asks sent, repeated ones included.
    pub asks: u32,
    /// Share of the tokens that the cloud decided.
    pub cloud_share: f64,
    /// Times the edge stood still for the cloud.
    pub round_trips_waited: u32,
    /// What the cloud was fed with: `tokens`, or the encoding of the states; none in modes without a cloud.
    pub feed: Option<&'static str>,
    /// Why.
    pub feed_reason: Option<&'static str>,
    /// Positions uploaded, repeated ones included.
    pub positions_uploaded: u32,
    /// Positions uploaded again because the cloud no longer held them.
    pub positions_replayed: u32,
    /// Guesses that the cloud corrected after the edge had asked.
    pub rollbacks: u32,
    /// Tokens that a rollback took back before anyone saw them, the wrong guesses included.
    pub tokens_discarded: u32,
    /// Streams opened.
    pub connections: u32,
}

/// Writes one answer.
pub struct AnswerWriter {
    stream: AnswerStream,
    vocabulary: Arc<dyn Vocabulary>,
    text: TextStream,
    stopped: bool,
    shown: String,
    prompt: Vec<PromptToken>,
    tokens: Vec<AnswerToken>,
    losses: Vec<String>,
}

/// What happened to the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// How likely one more token of the prompt was. All of them come before any other token.
    Prompt(PromptToken),
    /// One more token.
    Token {
        /// The token.
        token: AnswerToken,
        /// Text to show now; not always the token's own.
        shown: String,
    },
    /// The cloud is not there; the answer goes on at the edge.
    Degraded(Loss),
    /// The last of a complete answer.
    Finished {
        /// Text to show now: what was held back.
        shown: String,
        /// The report.
        answer: Box<Answer>,
    },
    /// The last of an answer that could not be completed, and why.
    Failed(String),
}

/// The answer could not be completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer could not be completed: {0}")]
pub struct AnswerFailed(pub String);

impl AnswerWriter {
    /// Writes the answer of `stream`, which ends before the first of the stop strings.
    pub fn new(stream: AnswerStream, vocabulary: Arc<dyn Vocabulary>, stop: StopStrings) -> Self {
        Self {
            stream,
            vocabulary,
            text: TextStream::new(stop),
            stopped: false,
            shown: String::new(),
            prompt: Vec::new(),
            tokens: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// What happens next; `None` after the last of it. Dropping the writer withdraws the request.
    pub async fn next(&mut self) -> Option<Progress> {
        loop {
            match self.stream.next().await? {
                // Of before the edge heard that the text is complete.
                AnswerEvent::Token(..) | AnswerEvent::Degraded(_) if self.stopped => {}
                AnswerEvent::Prompt(token) => {
                    self.prompt.push(token.clone());
                    return Some(Progress::Prompt(token));
                }
                AnswerEvent::Token(token, traffic) => return Some(self.take_token(token, traffic)),
                AnswerEvent::Degraded(loss) => {
                    self.losses.push(loss.to_string());
                    return Some(Progress::Degraded(loss));
                }
                AnswerEvent::Finished(finished) => return Some(self.finish(&finished)),
                AnswerEvent::Failed(why) => return Some(Progress::Failed(why)),
            }
        }
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// When it could not be completed.
    pub async fn complete(mut self) -> Result<Answer, AnswerFailed> {
        while let Some(progress) = self.next().await {
            match progress {
                Progress::Finished { answer, .. } => return Ok(*answer),
                Progress::Failed(why) => return Err(AnswerFailed(why)),
                Progress::Prompt(_) | Progress::Token { .. } | Progress::Degraded(_) => {}
            }
        }
        Err(AnswerFailed("it ended without a last event".into()))
    }

    fn take_token(&mut self, token: Token, traffic: Traffic) -> Progress {
        let ends = self.vocabulary.is_end(token.id);
        let bytes = if ends { &[] } else { self.vocabulary.token_bytes(token.id) };
        let piece = self.text.push(bytes);
        if piece.stopped {
            self.stopped = true;
            self.stream.finish(FinishReason::Stop);
        }
        self.shown.push_str(&piece.shown);
        let token = AnswerToken::new(token, piece.own, traffic);
        self.tokens.push(token.clone());
        Progress::Token { token, shown: piece.shown }
    }

    fn finish(&mut self, finished: &Finished) -> Progress {
        let rest = self.text.finish();
        self.shown.push_str(&rest.shown);
        if let Some(last) = self.tokens.last_mut() {
            last.text.push_str(&rest.own);
        }
        let reason = if self.stopped { FinishReason::Stop } else { finished.reason };
        let stats = AnswerStats::new(finished).counting(&self.tokens);
        let answer = Answer {
            text: std::mem::take(&mut self.shown),
            finish_reason: finish_name(reason),
            degraded: stats.degraded_tokens > 0 || self.prompt.iter().any(|token| token.degraded),
            losses: std::mem::take(&mut self.losses),
            prompt: std::mem::take(&mut self.prompt),
            tokens: std::mem::take(&mut self.tokens),
            stats,
        };
        Progress::Finished { shown: rest.shown, answer: Box::new(answer) }
    }
}

impl AnswerToken {
    fn new(token: Token, text: String, traffic: Traffic) -> Self {
        Self {
            id: token.id.0,
            text,
            source: token.source.name(),
            confidence: token.confidence,
            degraded: token.degraded,
            waited_ms: milliseconds(token.waited),
            round_trip_ms: token.round_trip.map(milliseconds),
            bytes_up: traffic.bytes_up,
            bytes_down: traffic.bytes_down,
            log_probs: token.log_probs,
        }
    }
}

impl AnswerStats {
    /// The report of what the core and the driver counted.
    pub fn new(finished: &Finished) -> Self {
        let Finished { stats, measures: [exit1, exit2], traffic, .. } = finished;
        let answer_tokens = stats.answer_tokens();
        Self {
            exit1_confidence: exit1.name(),
            exit2_confidence: exit2.name(),
            exit1_threshold: stats.exit1_threshold.map(Threshold::value),
            exit2_threshold: stats.exit2_threshold.map(Threshold::value),
            budget: stats.budget.map(BudgetStats::new),
            auto: AutoStats::new(stats),
            link: LinkStats::new(stats.link),
            comparison: ComparisonStats::new(stats),
            total_ms: milliseconds(stats.total),
            first_token_ms: stats.first_token.map(milliseconds),
            time_per_token_ms: stats.time_per_token().map(milliseconds),
            edge_compute_ms: milliseconds(stats.edge_compute),
            cloud_compute_ms: milliseconds(stats.cloud_compute),
            cloud_queued_ms: milliseconds(stats.cloud_queued),
            waited_ms: milliseconds(stats.waited),
            network_ms: milliseconds(stats.waited_network),
            bytes_up: traffic.bytes_up,
            bytes_down: traffic.bytes_down,
            frames_up: traffic.frames_up,
            frames_down: traffic.frames_down,
            prompt_tokens: stats.prompt_tokens,
            cached_tokens: stats.cached_tokens,
            answer_tokens,
            exit1_tokens: stats.exit1_tokens,
            exit2_tokens: stats.exit2_tokens,
            cloud_tokens: stats.cloud_tokens,
            whole_tokens: stats.whole_tokens,
            degraded_tokens: stats.degraded_tokens,
            asks: stats.asks,
            cloud_share: share(stats.cloud_tokens, answer_tokens),
            round_trips_waited: stats.round_trips_waited,
            feed: stats.feed.map(|chosen| chosen.feed.name()),
            feed_reason: stats.feed.map(|chosen| chosen.reason.name()),
            positions_uploaded: stats.positions_uploaded,
            positions_replayed: stats.positions_replayed,
            rollbacks: stats.rollbacks,
            tokens_discarded: stats.tokens_discarded,
            connections: stats.connections,
        }
    }

    /// Counts these tokens in place of all that were decided: nobody sees those after a stop string.
    fn counting(self, tokens: &[AnswerToken]) -> Self {
        let count =
            |matches: &dyn Fn(&AnswerToken) -> bool| tokens.iter().filter(|token| matches(token)).count() as u32;
        let from = |source: Source| count(&|token| token.source == source.name());
        let (answer_tokens, cloud_tokens) = (count(&|_| true), from(Source::Cloud));
        Self {
            answer_tokens,
            exit1_tokens: from(Source::Exit1),
            exit2_tokens: from(Source::Exit2),
            cloud_tokens,
            whole_tokens: from(Source::Whole),
            degraded_tokens: count(&|token| token.degraded),
            cloud_share: share(cloud_tokens, answer_tokens),
            ..self
        }
    }
}

fn share(part: u32, whole: u32) -> f64 {
    f64::from(part) / f64::from(whole.max(1))
}

/// The word for why an answer ended, in reports and metrics.
pub fn finish_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Context => "context",
        FinishReason::Cancelled => "cancelled",
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
