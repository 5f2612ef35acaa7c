//! What can go wrong, and whose fault it is.

use std::path::PathBuf;

use collm_model::gguf::TensorType;

/// Why healing cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    /// The configuration makes no sense for this model.
    #[error("the tail cannot be healed so: {0}")]
    Config(String),
    /// The model computes something that has no gradient here.
    #[error("healing is not supported for {0}")]
    Unsupported(String),
    /// Weights could not be converted.
    #[error("the weights of {tensor} cannot be converted from {from} to {to}: {source}")]
    Convert {
        /// The tensor.
        tensor: String,
        /// Its type.
        from: TensorType,
        /// The type wanted.
        to: TensorType,
        /// What the converter says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A piece is of another model.
    #[error("a piece does not fit the model: {0}")]
    Piece(String),
    /// No position of the pieces has a weight.
    #[error("no position of the {pieces} pieces has a weight; give at least one to learn from")]
    Nothing {
        /// How many there were.
        pieces: usize,
    },
    /// Numbers left the range of floats. The values learnt so far are as before the step.
    #[error("the gradient is not finite after {steps} steps; go on from a checkpoint with a lower learning rate")]
    Diverged {
        /// Steps done.
        steps: u64,
    },
    /// Threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The tensor library failed.
    #[error("the tensor library failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Why a piece is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PieceError {
    /// States, candidates and weights are not of the same number of positions.
    #[error(
        "{states} values of states of width {width}, {candidates} candidates by {per_position}, {weights} weights: these are not the same positions"
    )]
    Lengths {
        /// Values of all states.
        states: usize,
        /// Values of a state.
        width: usize,
        /// Candidates in all.
        candidates: usize,
        /// Candidates of a position.
        per_position: usize,
        /// Weights.
        weights: usize,
    },
    /// A state, a log-probability or a weight is not finite, or a weight is below 0.
    #[error("position {position} has a value that is not finite, or a weight below 0")]
    Value {
        /// Which.
        position: usize,
    },
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be written.
    #[error("cannot write the checkpoint {}: {source}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file cannot be read.
    #[error("cannot read the checkpoint {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: candle_core::Error,
    },
    /// It belongs to another run.
    #[error("{}: the checkpoint is of another model, tail or rank: {what}; delete it to start anew", path.display())]
    Other {
        /// Which.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
}
