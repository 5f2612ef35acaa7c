//! What the commands that compute let people set.

use clap::{Args, ValueEnum};

use super::values::{self, Cores};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Threads that compute [default: the cores it may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) threads: Option<u32>,

    /// Run on these cores only, as in 0,2-3. Two processes on one machine need different cores
    #[arg(long, value_name = "LIST", value_parser = values::cores)]
    pub(crate) cores: Option<Cores>,

    /// What computes, by a name that `collm doctor` lists [default: the processor]
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,

    /// Positions that a session may use, prompt and answer together [default: the model's, at most 2048]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    pub(crate) context: Option<u32>,
}

/// What an edge sends its cloud to compute on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Upload")]
pub(crate) struct UploadArgs {
    /// How hidden states are uploaded. f16 takes half the bytes of f32, but has no numbers above 65504, which some models need;
    /// int8 takes a quarter, rotated32 and rotated22 take less; auto looks at a few states of the model and decides between f16 and f32
    #[arg(long, value_name = "ENCODING", value_enum, default_value_t)]
    pub(crate) upload: UploadEncoding,

    /// What mode collaborative uploads: hidden states, or tokens, which are 4 bytes a position but need a cloud that was started
    /// with the whole model (`collm cloud --model`) and computes the edge's layers too; auto takes tokens where that is faster
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub(crate) feed: UploadFeed,

    /// What mode exact uploads: hidden states, always in f32, tokens, or auto
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub(crate) exact_upload: UploadFeed,

    /// From when on a session uploads: eager from its first state on, so that the cloud is ready; lazy from its first ask on, and
    /// nothing leaves the device before
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) upload_when: UploadWhen,

    /// Let nothing of a conversation leave but hidden states: no tokens, no guesses. Who has the model can make text of states
    #[arg(long)]
    pub(crate) private: bool,
}

/// How hidden states are uploaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum UploadEncoding {
    #[default]
    Auto,
    F32,
    F16,
    Int8,
    Rotated32,
    Rotated22,
}

/// What a mode uploads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum UploadFeed {
    #[default]
    States,
    Tokens,
    Auto,
}

/// From when on a session uploads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum UploadWhen {
    #[default]
    Eager,
    Lazy,
}
