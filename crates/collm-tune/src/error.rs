use std::io;
use std::path::PathBuf;

use collm_engine::EngineError;
use collm_exec::gate::GateError;
use collm_ggml::{LoadError, VocabularyError};
use collm_model::template::TemplateError;

/// Why tuning stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The model cannot be loaded.
    #[error("the model cannot be loaded to learn from it: {0}")]
    Load(#[from] LoadError),
    /// The model cannot compute.
    #[error("the model stopped computing: {0}")]
    Engine(#[from] EngineError),
    /// The model's logits are no numbers.
    #[error("the model's logits are not finite; the model file is damaged or of an unsupported kind")]
    Logits,
    /// The weights of a gate do not fit the model.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The vocabulary is unusable.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The chat template is unusable.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The text folder cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file of written text is damaged.
    #[error("{path} is damaged at byte {at}; delete it and let the text be written again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// The file of written text belongs to something else.
    #[error("{path} was written by {what}; choose another work folder or delete it")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// By whom.
        what: &'static str,
    },
    /// Somebody else writes to the file.
    #[error("{0} is in use by another process; wait for it or choose another work folder")]
    Busy(PathBuf),
    /// The model writes nothing that text can be made of.
    #[error("the model wrote {0} texts in a row that were empty or repeated; give it prompts")]
    NothingNew(usize),
    /// All given prompts are answered, and the model has no token that a text begins with.
    #[error("this model cannot begin a text by itself; give it more prompts")]
    NoBeginning,
    /// What was fitted makes no exits file.
    #[error(transparent)]
    Exits(#[from] collm_model::exits::ExitsError),
    /// The tail cannot be healed.
    #[error(transparent)]
    Heal(#[from] collm_train::HealError),
    /// A checkpoint cannot be written or gone on from.
    #[error(transparent)]
    Checkpoint(#[from] collm_train::CheckpointError),
    /// What was to be learnt from makes no sense.
    #[error(transparent)]
    Piece(#[from] collm_train::PieceError),
    /// Nothing to work on.
    #[error("there is not enough text for {0}; let the model write more")]
    TooLittleText(&'static str),
    /// An option makes no sense.
    #[error("impossible options: {0}")]
    Options(String),
}
