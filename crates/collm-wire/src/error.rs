//! Every rule of the protocol that a single frame can break.

use collm_core::{
    frame::{Refusal, RefusalCode},
    grammar::GrammarError,
    sampling::SamplingError,
    states::StatesError,
};

/// Why a message is not a frame. The peer that sent it has a fault, or speaks another version.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WireError {
    /// Another version: nothing after this field can be trusted to mean the same.
    #[error("the peer speaks protocol {theirs}, this side speaks {ours}; update the older one")]
    Protocol {
        /// Version of the sender.
        theirs: u32,
        /// Version of this build.
        ours: u32,
    },
    /// A stream began with something else.
    #[error("the first frame of a stream must be open; the peer sent {frame}")]
    NotOpen {
        /// What came instead.
        frame: &'static str,
    },
    /// A stream opened twice.
    #[error("a stream was opened a second time; a session that goes on elsewhere needs a stream of its own")]
    OpenedAgain,
    /// A frame that sessions of this feed do not have.
    #[error("{frame} does not belong into a session with this feed")]
    WrongFeed {
        /// The frame.
        frame: &'static str,
    },
    /// A frame without content, or with content that this version does not know.
    #[error("a frame is empty or of a kind that protocol {} does not have", collm_core::frame::PROTOCOL)]
    NoFrame,
    /// A part that every such frame has.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// Not 16 bytes.
    #[error("a session id has 16 bytes; the peer sent {bytes}")]
    SessionId {
        /// Bytes sent.
        bytes: usize,
    },
    /// Not a feed of this version.
    #[error("feed {value} is unknown to this version; upload something else, or update the cloud")]
    UnknownFeed {
        /// Number sent.
        value: i32,
    },
    /// Sampling settings that nothing can be drawn with.
    #[error("sampling cannot be served: {0}")]
    Sampling(#[from] SamplingError),
    /// Steps that are no program.
    #[error("the answer's form is unusable: {0}")]
    Grammar(#[from] GrammarError),
    /// A step that this version does not have.
    #[error("step {step} of the answer's form is {numbers:?}, which is no step of this protocol")]
    UnknownStep {
        /// Its index.
        step: usize,
        /// Its kind and what belongs to it.
        numbers: [u32; 3],
    },
    /// Not whole rows of finite floats.
    #[error("hidden states are unusable: {0}")]
    States(#[from] StatesError),
    /// A probability outside `[0, 1]`, or not a number.
    #[error("confidence is {value}; it must be between 0 and 1")]
    Confidence {
        /// Number sent.
        value: f32,
    },
    /// The logarithm of no probability, or not a number.
    #[error("a log-probability is {value}; it must be finite and at most 0")]
    LogProb {
        /// Number sent.
        value: f32,
    },
    /// A list of another length than what it belongs to.
    #[error("{count} {field} were sent where there must be {wanted}")]
    Count {
        /// The list.
        field: &'static str,
        /// Its length.
        count: usize,
        /// The length it must have.
        wanted: usize,
    },
    /// A token that the model does not have.
    #[error("token {token} in {field} is not in the vocabulary of {vocabulary}")]
    Token {
        /// Where it stood.
        field: &'static str,
        /// The token.
        token: u32,
        /// Entries of the vocabulary.
        vocabulary: u32,
    },
    /// A list that must not be empty.
    #[error("{field} is empty; send nothing instead")]
    Empty {
        /// The list.
        field: &'static str,
    },
    /// A list beyond its limit.
    #[error("{count} {what} exceed the limit of {max}")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// How many came.
        count: usize,
        /// How many may.
        max: u32,
    },
    /// A number so large that sums with it could overflow.
    #[error("{field} is {value}; it must be at most {max}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Number sent.
        value: u32,
        /// Largest allowed.
        max: u32,
    },
    /// A text beyond its limit.
    #[error("{field} has {chars} characters; the limit is {max}")]
    TextTooLong {
        /// The field.
        field: &'static str,
        /// Characters sent.
        chars: usize,
        /// Characters allowed.
        max: usize,
    },
}

/// How a cloud answers a message that is not a frame.
impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        let code = match error {
            WireError::Protocol { .. } => RefusalCode::Protocol,
            WireError::UnknownFeed { .. } => RefusalCode::Feed,
            _ => RefusalCode::Malformed,
        };
        Self { code, message: error.to_string() }
    }
}
