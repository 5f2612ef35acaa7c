//! What a requester asks for, and why it may not get it.

use crate::{
    budget::Budget,
    ids::{SessionId, TokenId},
    policy::{Mode, RunAhead, Thresholds},
    sampling::{Sampling, SamplingError},
};

/// One answer to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// Fresh and random.
    pub session: SessionId,
    /// At least one token, fewer than the context holds.
    pub prompt: Vec<TokenId>,
    /// How to make it.
    pub mode: Mode,
    /// When a guess is sure enough.
    pub thresholds: Thresholds,
    /// Sets exit 2's threshold anew for every token, in modes that have one. Exit 1 is then never less careful than
    /// `thresholds` says, nor than exit 2. The answer depends on time and is not reproducible.
    pub budget: Option<Budget>,
    /// Whether to go on while the cloud is asked.
    pub run_ahead: RunAhead,
    /// What of the method to leave out.
    pub without: Ablation,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens to make at most; at least 1, unless the prompt is to be scored.
    pub tokens_max: u32,
    /// Tell how likely the prompt's tokens were, before the answer.
    pub score_prompt: bool,
    /// Tokens after which the answer is complete.
    pub stop: Vec<TokenId>,
}

/// A part of the paper's method that collaborative mode does without, to measure what the part is worth. Decides about time and bytes;
/// about text only as far as rounding does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ablation {
    /// Nothing is left out: what the product does.
    #[default]
    Nothing,
    /// States leave with the ask that needs them, and not while the edge computes on.
    ParallelUpload,
    /// States go up in f32.
    HalfPrecision,
    /// The cloud starts from nothing at every ask, and all states go up again with it. The edge stands still at every ask.
    ContextManager,
}

impl Ablation {
    /// Every one, in the order of the paper's sections.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::ParallelUpload, Self::HalfPrecision, Self::ContextManager];

    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::ParallelUpload => "parallel-upload",
            Self::HalfPrecision => "half-precision",
            Self::ContextManager => "context-manager",
        }
    }

    /// Whether states wait for the ask that needs them.
    pub(super) fn uploads_late(self) -> bool {
        matches!(self, Self::ParallelUpload | Self::ContextManager)
    }
}

impl Request {
    /// Whether the cloud must know the tokens of uploaded states.
    pub(super) fn tells_tokens(&self) -> bool {
        self.sampling.looks_back() || self.score_prompt
    }
}

/// Why a request was not taken. Nothing of it remains.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// No tokens.
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {tokens} tokens and the context holds {context}, answer included; shorten the prompt or start with a larger --context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Positions of the context.
        context: u32,
    },
    /// A token the model does not know.
    #[error("token {token} is not in the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The token.
        token: TokenId,
        /// Size of the vocabulary.
        vocabulary: u32,
    },
    /// A bias on a token the model does not know.
    #[error("token {token} is biased and not in the vocabulary of {vocabulary}")]
    UnknownBias {
        /// The token.
        token: TokenId,
        /// Size of the vocabulary.
        vocabulary: u32,
    },
    /// Nothing to make.
    #[error("asked for an answer of 0 tokens; ask for at least 1")]
    NoTokens,
    /// A setting is out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The mode needs a cloud.
    #[error("mode {} needs a cloud and none is configured; start the edge with --cloud URL or choose standalone", .0.name())]
    NoCloud(Mode),
    /// It cannot be served without token ids in the cloud, and none may leave.
    #[error(
        "this edge is private and lets nothing but hidden states leave: mode {} cannot have penalties, a form or a scored prompt, and \
         mode cloud is not there; leave them out, choose standalone, or start the edge without --private", .0.name()
    )]
    Private(Mode),
    /// A part is left out of a mode that does not have it.
    #[error("only mode collaborative can do without {}; leave it out, or choose that mode", .0.name())]
    Ablation(Ablation),
    /// The mode does not fit what the edge holds.
    #[error("mode {} does not fit the file that this edge has loaded; whole needs a whole model, the others an edge part", .0.name())]
    WrongPart(Mode),
    /// The mode has no threshold that a budget could set.
    #[error("mode {} takes no budget, since no threshold decides there what the cloud is asked; leave it out, or choose collaborative or auto", .0.name())]
    NoBudget(Mode),
    /// The queue is full.
    #[error("{0} requests wait already; retry later")]
    Busy(u32),
    /// The session id is taken.
    #[error("session {0} exists already; session ids must be fresh")]
    Duplicate(SessionId),
}
