//! What edge and cloud say to each other. Already parsed: a frame that exists is within its limits.
//!
//! One ordered stream a session. Bytes and field numbers are `collm-wire`'s business.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    ids::{Epoch, Position, SessionId, TokenId},
    sampling::{LogProbs, Sampling},
    states::{Encoding, StateBlock},
};

/// What a session feeds the cloud's context with; fixed when it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feed {
    /// Hidden states after `e1`.
    States(Encoding),
    /// Token ids: the cloud holds the whole model and computes `[0, e1)` itself.
    Tokens,
}

impl Feed {
    /// The word for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::States(encoding) => encoding.name(),
            Self::Tokens => "tokens",
        }
    }
}

/// Who the two halves are. Compared in the handshake; halves of different pairs must never talk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Pair id of the split (hexadecimal), the same in both parts.
    pub pair: String,
    /// SHA-256 of the source model (hexadecimal).
    pub source: String,
    /// Layer after which states are uploaded (`e1`).
    pub upload_at: u32,
    /// Floats in a hidden state.
    pub width: u32,
    /// Entries of the vocabulary.
    pub vocabulary: u32,
}

/// First frame of every stream: who speaks, about which session, and how it wants to be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// Protocol version of the sender.
    pub protocol: u32,
    /// The edge's half.
    pub identity: Identity,
    /// New, or one that the cloud may still hold.
    pub session: SessionId,
    /// Streams of this session so far, this one included: one that arrives late must not displace a later one.
    pub attempt: u32,
    /// Rollbacks so far. A context of another epoch is of no use and is dropped.
    pub epoch: Epoch,
    /// Positions of the prompt. From the first block on they are computed in whole blocks and later ones never are, so that no answer depends on how
    /// often, or together with what, a position was computed.
    pub prompt: u32,
    /// What will be uploaded.
    pub feed: Feed,
    /// How tokens are drawn, so that both sides draw alike.
    pub sampling: Sampling,
    /// Whether uploads of hidden states tell the tokens too: the cloud must know them where drawing looks back.
    pub tells_tokens: bool,
}

/// A new prompt that begins as what was kept of the last one, and how its answer is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The new epoch.
    pub epoch: Epoch,
    /// Positions to go on from; what was kept beyond them is void.
    pub length: u32,
    /// Positions of the prompt, as in [`Open`].
    pub prompt: u32,
    /// How tokens are drawn from now on.
    pub sampling: Sampling,
}

/// Asks for the token after `position`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The edge's epoch.
    pub epoch: Epoch,
    /// Last position that the token depends on; everything up to it has been uploaded.
    pub position: Position,
    /// The edge's own guess, for the cloud to compare with.
    pub guess: Option<TokenId>,
}

/// From edge to cloud.
#[derive(Debug, Clone, PartialEq)]
pub enum ToCloud {
    /// First frame of a stream.
    Open(Open),
    /// Hidden states of consecutive positions.
    States {
        /// The edge's epoch.
        epoch: Epoch,
        /// Position of the first row.
        first: Position,
        /// One row a position.
        block: StateBlock,
        /// The tokens at these positions if the session tells them; else empty.
        tokens: Vec<TokenId>,
    },
    /// Token ids of consecutive positions, in sessions fed with tokens.
    Tokens {
        /// The edge's epoch.
        epoch: Epoch,
        /// Position of the first token.
        first: Position,
        /// One a position; never empty.
        tokens: Vec<TokenId>,
    },
    /// One token, please.
    Ask(Ask),
    /// All tokens, please: the cloud goes on by itself and answers each (cloud mode, sessions fed with tokens).
    Generate {
        /// The edge's epoch.
        epoch: Epoch,
        /// Last position uploaded.
        position: Position,
        /// Tokens to make at most.
        tokens_max: u32,
        /// Tokens after which to stop.
        stop: Vec<TokenId>,
    },
    /// How likely were the tokens at these positions, please: from `first` on and before `end`.
    Score {
        /// The edge's epoch.
        epoch: Epoch,
        /// Of the first token; nothing says how likely the one at 0 was.
        first: Position,
        /// After the last one. What comes before has been uploaded, with its tokens.
        end: Position,
    },
    /// Forget positions from `length` on, and work under the new epoch from now on.
    Truncate {
        /// The new epoch.
        epoch: Epoch,
        /// Positions to keep.
        length: u32,
    },
    /// The answer is complete. Keep positions before `length` for a follow-up while there is room, and forget the rest.
    Park {
        /// The new epoch.
        epoch: Epoch,
        /// Positions to keep.
        length: u32,
    },
    /// A follow-up: the session has a new prompt.
    Turn(Turn),
    /// The session is over; forget it.
    Close,
}

/// From cloud to edge.
#[derive(Debug, Clone, PartialEq)]
pub enum ToEdge {
    /// The handshake passed.
    Opened {
        /// Positions of this session and epoch that the cloud holds; upload from here.
        held: u32,
        /// What this cloud can be fed with, so that later sessions need not try. Empty from clouds that do not say.
        takes: BTreeSet<Feed>,
    },
    /// The token after `position`.
    Answer(Answer),
    /// How likely tokens were.
    Scores(Scores),
    /// An ask cannot be answered because positions from `held` on are not here (evicted, or another cloud): replay them and ask again.
    Missing {
        /// Epoch of the ask.
        epoch: Epoch,
        /// Positions that the cloud holds.
        held: u32,
    },
    /// The session is not served; the stream ends.
    Refused(Refusal),
}

/// What the cloud computed for an ask, and for those before it whose guesses are right.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Epoch of the ask.
    pub epoch: Epoch,
    /// Position of the ask.
    pub position: Position,
    /// The whole model's token after it.
    pub token: TokenId,
    /// The whole model's highest probability there.
    pub confidence: f32,
    /// What else it thinks there, if the session asks for it.
    pub log_probs: Option<LogProbs>,
    /// The asks before this one, oldest first, each with the whole model's token for a guess. What follows is about all of them.
    pub confirmed: Vec<Confirmed>,
    /// Engine time that went into what was asked: its share of its batch, and of those before it that led there.
    pub compute: Duration,
    /// Positions that this time went into; 0 where that is not known.
    pub rows: u32,
    /// Time the oldest ask waited in the cloud beyond that: for batches of others, and for its neighbours in its own.
    pub queued: Duration,
    /// Engine time on this session since its last answer that no ask waited for: what was computed ahead, rows that a rollback made
    /// void.
    pub unasked: Duration,
    /// Positions that this time went into; 0 where that is not known.
    pub unasked_rows: u32,
}

/// What the cloud says of a right guess, beyond that it is right.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmed {
    /// As in [`Answer`].
    pub confidence: f32,
    /// As in [`Answer`].
    pub log_probs: Option<LogProbs>,
}

impl Answer {
    /// Asks that it answers.
    pub fn asks(&self) -> usize {
        self.confirmed.len() + 1
    }

    /// All engine time on this session since its last answer.
    pub fn engine_time(&self) -> Duration {
        self.compute + self.unasked
    }
}

/// How likely the tokens at consecutive positions were, of those that were asked about.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Epoch of the question.
    pub epoch: Epoch,
    /// Of the first token.
    pub first: Position,
    /// One a token; never empty.
    pub log_probs: Vec<LogProbs>,
    /// Their share of the batch's compute time.
    pub compute: Duration,
    /// Time they waited in the cloud before their batch began.
    pub queued: Duration,
}

/// Why a session is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cloud refused: {message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what happened and what to do.
    pub message: String,
}

/// Kinds of refusal, by what the edge should do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalCode {
    /// Another protocol version. Do not retry.
    Protocol,
    /// Another pair, model, width or vocabulary. Do not retry.
    Identity,
    /// A feed that this cloud does not take: token ids without the whole model, or an encoding that it does not know. Retry with another.
    Feed,
    /// A frame broke a limit or the order of frames. The sender has a fault; do not retry.
    Malformed,
    /// The session does not fit the cloud's context length. Do not retry.
    ContextLength,
    /// All contexts or the memory budget are taken. Retry later.
    Busy,
    /// The cloud is stopping. Retry later, perhaps elsewhere.
    Draining,
    /// The cloud's engine failed. Retry later.
    Internal,
    /// The session was opened by another connection. Do not retry on this one.
    Superseded,
    /// The edge has no key, or none that this cloud knows. Do not retry.
    Key,
}

impl RefusalCode {
    /// Whether the same request may pass later.
    pub fn retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Draining | Self::Internal)
    }
}

/// Version of the protocol that this build speaks.
pub const PROTOCOL: u32 = 1;
