//! Arguments of `collm bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use collm_model::gguf::TensorType;

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
Reads prompts of 128 and 512 tokens and decodes 64, again and again in turns, and prints the median of the ratios within
pairs: above 1, this engine is faster. A quiet machine gives steadier numbers.

Examples:
  collm bench engine
  collm bench engine --model model.gguf --also q8_0 --threads 1,2
  collm bench engine --json --out results/2026-01-31-engine")]
pub(crate) struct BenchEngineArgs {
    /// Model to load: path or reference
    #[arg(long, value_name = "REF", default_value = "smollm2-135m")]
    pub(crate) model: String,

    /// Measure the model in these types too, converted for the purpose
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub(crate) also: Vec<TensorType>,

    /// For the types of --also, let llama.cpp run the original file instead of the converted one
    #[arg(long, requires = "also")]
    pub(crate) against_original: bool,

    /// Threads to measure with
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) threads: Vec<u32>,

    /// Pairs of runs of each task
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) pairs: u32,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Folder for machine, commit, command, rows and summary
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
