//! What every command that computes lets people set.

use clap::Args;

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
