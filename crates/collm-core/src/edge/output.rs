//! What the edge wants done, and what it is told of it.

use std::time::Duration;

use super::Event;
use crate::{
    frame::{Open, ToCloud},
    ids::{Position, SessionId, SlotId, TokenId},
    policy::Scope,
    sampling::{Scored, Scoring},
    states::{Encoding, StateBlock},
};

/// One connection attempt of one session. Frames of older attempts are recognised and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Whose.
    pub session: SessionId,
    /// Which attempt, from 1.
    pub attempt: u32,
}

/// What the edge wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a stream to the cloud and send this frame first. Frames may be transmitted before the cloud has answered.
    Connect(StreamId, Open),
    /// Send a frame, after all earlier ones of the stream.
    Transmit(StreamId, ToCloud),
    /// End the stream after what was transmitted. No [`Edge::handle_link_down`](super::Edge::handle_link_down) is owed for it.
    Disconnect(StreamId),
    /// Compute. There is never more than one batch under way. Owed: one [`Edge::handle_compute`](super::Edge::handle_compute).
    Compute(Batch),
    /// Nobody wants the outcome of the batch under way: end it as soon as that can be done. It is owed all the same.
    Interrupt,
    /// Forget positions of the slot from this one on, after the batch under way. Nothing is owed.
    Truncate(SlotId, u32),
    /// Empty the slot, after the batch under way. Nothing is owed.
    Free(SlotId),
    /// Tell the requester.
    Event(SessionId, Event),
}

/// Jobs of several sessions for one pass through the layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// All of one stage, one a session; never empty.
    pub jobs: Vec<(SessionId, Job)>,
}

/// One small piece of computing.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Key-value memory to work in.
    pub slot: SlotId,
    /// Which layers.
    pub stage: Stage,
    /// Position of the first row.
    pub first: Position,
    /// Rows to score with the stage's exit, by rising position.
    pub scores: Vec<Scoring>,
    /// What they cover.
    pub scope: Scope,
}

impl Job {
    /// Rows through the layers.
    pub fn rows(&self) -> u32 {
        match &self.stage {
            Stage::First { tokens, .. } => tokens.len() as u32,
            Stage::Second { rows } => *rows,
        }
    }
}

/// Which layers a job runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Layers `[0, e1)` over these tokens. The states are kept by the driver until [`Stage::Second`] has run over them.
    First {
        /// One a row.
        tokens: Vec<TokenId>,
        /// Encode the resulting states for upload.
        upload: Option<Encoding>,
    },
    /// The second stage over this many positions whose states after `e1` are kept.
    Second {
        /// Rows.
        rows: u32,
    },
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchOutcome {
    /// In the order of the batch.
    pub jobs: Vec<Result<JobOutcome, JobError>>,
    /// Time the engine took for the batch.
    pub compute: Duration,
}

/// Why a job has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobError {
    /// It was ended early, as [`Output::Interrupt`] asked for. Its slot holds what it held before, and maybe some rows of the job.
    Interrupted,
    /// It failed, and its slot holds garbage.
    Failed(String),
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOutcome {
    /// States for upload, if the job asked for them: one row a row of the job, or why they cannot be written in the encoding asked for.
    pub states: Option<Result<StateBlock, String>>,
    /// What the exit says of each row that was to be scored.
    pub scored: Vec<Scored>,
}
