//! Carries out what the state machines of `collm-core` ask an engine for: jobs of an edge, batches of a cloud.
//!
//! Here hidden states are encoded for upload and decoded again, rows are packed into calls that the engine takes, and heads
//! are scored. Production drivers and the simulator share it. Deliberately absent: clocks, threads, queues, frames; whoever
//! owns the engine's thread measures the time.

mod check;
mod cloud;
mod codec;
mod edge;
mod forms;
pub mod gate;

pub use check::{Judge, Judges};
pub use cloud::{CloudExecutor, PartResult};
pub use codec::Codec;
use collm_core::{
    ids::{Position, SlotId},
    sampling::LogitsError,
    states::Encoding,
};
use collm_engine::{EngineError, Row};
pub use edge::{EdgeExecutor, JobResult};

/// Rows scored in one call of the engine, so that the logits of a long prompt never are in memory at once.
const SCORED_ROWS_MAX: usize = 32;

/// Why a job or a batch could not be carried out. Unless it was interrupted, the slots it worked in hold garbage afterwards: free them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The logits are of no use.
    #[error("position {position}: {error}")]
    Logits {
        /// Position of the scored row.
        position: Position,
        /// What is wrong with them.
        error: LogitsError,
    },
    /// Half precision ends at 65504, and other encodings further out.
    #[error(
        "the hidden state of position {position} contains {value}, beyond what {} can carry; upload this model's states as int8 or f32", encoding.name()
    )]
    Beyond {
        /// How states are to be uploaded.
        encoding: Encoding,
        /// Position of the hidden state.
        position: Position,
        /// The value that does not fit.
        value: f32,
    },
    /// The layers before computed a NaN or an infinity.
    #[error("the hidden state of position {0} is not finite; the model file or the device is damaged")]
    NotFinite(Position),
    /// The caller asked for nothing.
    #[error("the job at position {0} has no rows; the caller has a fault")]
    Empty(Position),
    /// The second stage was asked for rows whose first stage has not run, or that it has run over already.
    #[error("the states of positions {first} to {end} of slot {slot} are not kept; the caller has a fault")]
    NotKept {
        /// The slot.
        slot: SlotId,
        /// First position asked for.
        first: Position,
        /// Position after the last one asked for.
        end: Position,
    },
    /// A batch asks to score a row that it does not bring.
    #[error("position {position} of slot {slot} is to be scored but not in the batch; the caller has a fault")]
    ScoreOutside {
        /// The slot.
        slot: SlotId,
        /// The position.
        position: Position,
    },
}

/// The position `rows` after `first`.
fn offset(first: Position, rows: usize) -> Position {
    Position(u32::try_from(first.index() + rows).expect("positions are bounded by the engine's context"))
}

/// Consecutive rows of one slot.
fn push_rows(rows: &mut Vec<Row>, slot: SlotId, first: Position, count: usize) {
    rows.extend((0..count).map(|row| Row { slot, position: offset(first, row) }));
}
