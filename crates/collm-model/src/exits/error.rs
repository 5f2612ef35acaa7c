//! What can be wrong with fitted exits, in a file of their own or in an edge part.

use std::path::PathBuf;

use super::EXITS_VERSION;
use crate::digest::Digest;
use crate::gguf::{GgufError, WriteError};
use crate::model_file::TensorError;

/// Why an exits file cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum ExitsError {
    /// The container is unreadable or malformed.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// It is a GGUF file, but no usable exits file.
    #[error("{}: {fault}", path.display())]
    Unusable {
        /// The file; empty if it came from memory.
        path: PathBuf,
        /// What is wrong.
        fault: ExitsFault,
    },
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What is wrong with fitted exits.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExitsFault {
    /// Another kind of file, or another version of this one.
    #[error("this is no exits file of version {EXITS_VERSION}; fit the exits again with `collm tune`")]
    Version,
    /// A key is missing, of another type, or says what cannot be.
    #[error("the key {0:?} is missing or says what cannot be; fit the exits again with `collm tune`")]
    Key(String),
    /// Fitted to another model.
    #[error("the exits were fitted to the model with digest {fitted}, this one has {model}; fit them again")]
    OtherModel {
        /// The model they were fitted to.
        fitted: Digest,
        /// The model at hand.
        model: Digest,
    },
    /// A tensor is missing, superfluous or of the wrong shape or type.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A tensor holds numbers that make no sense there.
    #[error("the tensor {name:?} {reason}")]
    Values {
        /// The tensor.
        name: String,
        /// What is wrong with its numbers.
        reason: &'static str,
    },
    /// The confidence of an exit is measured by something that is not there.
    #[error("exit {exit} measures its confidence by a gate that the file does not hold")]
    NoGate {
        /// Its number.
        exit: u32,
    },
}
