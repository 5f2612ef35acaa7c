//! What the requester hears.

use std::time::Duration;

use super::Stats;
use crate::{
    frame::Refusal,
    ids::{Position, TokenId},
    sampling::LogProbs,
};

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Exit 1, after `[0, e1)`.
    Exit1,
    /// Exit 2, after the tail.
    Exit2,
    /// The cloud.
    Cloud,
    /// The whole model on the device.
    Whole,
}

impl Source {
    /// The word for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit1 => "exit1",
            Self::Exit2 => "exit2",
            Self::Cloud => "cloud",
            Self::Whole => "whole",
        }
    }
}

/// One committed token. Never changes afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Position at which it is, or would be, an input.
    pub position: Position,
    /// The token.
    pub id: TokenId,
    /// Who decided.
    pub source: Source,
    /// Highest probability where it was decided.
    pub confidence: f32,
    /// What else was thought there, if the request asks for it.
    pub log_probs: Option<LogProbs>,
    /// Emitted below the threshold because the cloud was not there.
    pub degraded: bool,
    /// Time the edge stood still for it.
    pub waited: Duration,
}

/// One token of the prompt, and how likely it was after those before it.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptToken {
    /// Its position; the first token is not told of.
    pub position: Position,
    /// The token.
    pub id: TokenId,
    /// Who says how likely it was.
    pub source: Source,
    /// Said by the edge because the cloud was not there.
    pub degraded: bool,
    /// How likely it was, and which tokens were likelier.
    pub log_probs: LogProbs,
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-generation token, or the requester's own stop rule.
    Stop,
    /// The requested number of tokens.
    Length,
    /// The context is full.
    Context,
    /// The requester left.
    Cancelled,
}

/// What the requester hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// One more token of the prompt, in order, before any of the answer.
    Prompt(PromptToken),
    /// One more token of the answer.
    Token(Token),
    /// The cloud is not there; the answer goes on at the edge. At most once per loss.
    Degraded(Loss),
    /// The last event of an answer.
    Finished(FinishReason, Box<Stats>),
    /// The last event of an answer that could not be completed.
    Failed(String),
}

/// Why the cloud is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// No answer in time.
    #[error("the cloud did not answer within {0:?}")]
    Deadline(Duration),
    /// The connection failed or ended.
    #[error("the connection to the cloud is lost: {0}")]
    Link(String),
    /// The cloud said no.
    #[error(transparent)]
    Refused(Refusal),
    /// It failed a moment ago and is not tried again yet.
    #[error("the cloud failed a moment ago and is not tried again yet")]
    BreakerOpen,
    /// The hidden states do not fit the encoding of the upload.
    #[error("the hidden states cannot be uploaded: {0}")]
    Unsendable(String),
    /// It broke the protocol.
    #[error("the cloud broke the protocol: {0}")]
    Protocol(&'static str),
}
