//! Arguments of `collm bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Compare the engine's speed with llama.cpp's, alternating on the same file with the same threads
    Engine(BenchEngineArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  collm bench engine
  collm bench engine --model model.gguf --threads 1,2 --json --out results/2026-01-31-engine")]
pub(crate) struct BenchEngineArgs {
    /// Model to load: path or reference
    #[arg(long, value_name = "REF", default_value = "smollm2-135m")]
    pub(crate) model: String,

    /// Threads to measure with
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) threads: Vec<u32>,

    /// Pairs of runs; the median of their ratios is printed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) pairs: u32,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Folder for machine, commit, command, rows and summary
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
