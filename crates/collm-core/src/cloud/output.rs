//! What the cloud wants done, and what it is told of it.

use std::time::Duration;

use crate::{
    frame::ToEdge,
    ids::{Position, SlotId, TokenId},
    sampling::{Scored, Scoring},
    states::StateBlock,
};

/// One stream from one edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// What the cloud wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a frame, after all earlier ones of the stream.
    Transmit(PeerId, ToEdge),
    /// End the stream after what was transmitted. No [`Cloud::handle_link_down`](super::Cloud::handle_link_down) is owed for it.
    Disconnect(PeerId),
    /// Compute. There is never more than one batch under way. Owed: one [`Cloud::handle_compute`](super::Cloud::handle_compute).
    Compute(Batch),
    /// Nobody wants the batch under way any more: end it early, if the engine can. Its outcome is still owed.
    Interrupt,
}

/// Rows of several sessions for one pass through the layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// One a session; never empty.
    pub parts: Vec<BatchPart>,
}

/// One session's rows in a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchPart {
    /// Key-value memory to work in.
    pub slot: SlotId,
    /// Position of the first row. The slot is truncated to it before: it may hold another session's rows, or later ones.
    pub first: Position,
    /// What the rows carry.
    pub input: BatchInput,
    /// Rows to score with the model's head, by rising position.
    pub scores: Vec<Scoring>,
}

/// What the rows of a batch carry.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchInput {
    /// Into layers `[e1, N)`.
    States(Vec<StateBlock>),
    /// Into layers `[0, N)`.
    Tokens(Vec<TokenId>),
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchOutcome {
    /// For every part, what the head says of each row to be scored, or why its logits are unusable.
    Done {
        /// In the order of the batch's parts.
        scored: Vec<Result<Vec<Scored>, String>>,
        /// Time the engine took for the batch.
        compute: Duration,
    },
    /// It was ended early, as [`Output::Interrupt`] asked for. Its slots hold what comes before their parts, and maybe some of the rows.
    Interrupted {
        /// Time the engine took until then.
        compute: Duration,
    },
    /// The engine failed; the slots of these parts hold garbage.
    Failed(String),
}
