use collm_core::ids::{Position, SlotId};

use crate::{Head, Stack};

/// Why an engine refused or failed a call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The loaded file does not hold these layers.
    #[error("this engine has no {0:?} stack; it was loaded from a file that does not hold those layers")]
    NoStack(Stack),
    /// The loaded file does not hold this head.
    #[error("this engine has no {0:?} head; it was loaded from a file that does not hold it")]
    NoHead(Head),
    /// The loaded file gives the head no shortlist.
    #[error("the {0:?} head of this engine has no shortlist; score the whole vocabulary")]
    NoShortlist(Head),
    /// What tokens say is not known.
    #[error("this engine does not know the texts of its tokens: {0}")]
    NoTexts(String),
    /// No such slot.
    #[error("slot {slot} does not exist; this engine has {slots}")]
    NoSlot {
        /// The slot asked for.
        slot: SlotId,
        /// How many there are.
        slots: usize,
    },
    /// Rows must continue where the slot ends.
    #[error("slot {slot} holds {filled} positions, so the next row must be at {filled}, not {given}")]
    Gap {
        /// The slot.
        slot: SlotId,
        /// Positions it holds.
        filled: usize,
        /// Position of the row.
        given: Position,
    },
    /// The slot is full.
    #[error("slot {slot} is full at {context} positions")]
    ContextFull {
        /// The slot.
        slot: SlotId,
        /// Positions a slot holds.
        context: usize,
    },
    /// Too many rows in one call.
    #[error("{rows} rows in one call; at most {limit}")]
    BatchTooLarge {
        /// Rows given.
        rows: usize,
        /// Rows allowed.
        limit: usize,
    },
    /// The input does not fit the rows or the stack.
    #[error("input does not fit: {0}")]
    Input(String),
    /// A hidden state contains a NaN or an infinity.
    #[error("row {row} carries a hidden state that is not finite")]
    NotFinite {
        /// Index of the row in the call.
        row: usize,
    },
    /// Another thread ended the call.
    #[error("the call was interrupted, since nobody wanted what it computes")]
    Interrupted,
    /// The tensor library failed (out of memory, lost device).
    #[error("the device failed: {0}")]
    Device(String),
}
