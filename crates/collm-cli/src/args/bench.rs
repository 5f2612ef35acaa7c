//! Arguments of `collm bench`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use collm_model::gguf::TensorType;

use super::{BenchClientsArgs, BenchCoreArgs, BenchPaperArgs, BenchRttArgs, EngineArgs, SplitShapeArgs};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Compare the engine's speed with llama.cpp's, alternating on the same file with the same threads
    Engine(BenchEngineArgs),
    /// Measure what a token costs an edge part, as a share of what it costs the whole model
    Cost(BenchCostArgs),
    /// Count how often exact answers are the whole model's, token for token
    Exact(BenchExactArgs),
    /// Measure what the encodings of an upload cost in bytes and in tokens
    Uploads(BenchUploadsArgs),
    /// Measure the paper's table, what each part of its method is worth, and what this program adds
    Paper(BenchPaperArgs),
    /// Measure how the modes bear distance: the same prompts at several round-trip times
    Rtt(BenchRttArgs),
    /// Measure what one cloud can bear: more and more clients that replay recorded edges
    Clients(BenchClientsArgs),
    /// Measure what the bookkeeping of edge and cloud takes, without any engine
    Core(BenchCoreArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Edge and cloud part answer every prompt in mode exact, greedy and drawn with a seed, over a link whose delay is another one for \
every prompt and jitters; then the whole model answers on the same engine. On quantised weights all answers must be equal.

Examples:
  collm bench exact --prompts prompts.jsonl --quick
  collm bench exact --prompts prompts.jsonl --limit 10 --also f16 --out results/2026-01-31-exact")]
pub(crate) struct BenchExactArgs {
    /// File of prompts, a JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: PathBuf,

    /// Small numbers, for a look; what is given besides counts
    #[arg(long)]
    pub(crate) quick: bool,

    /// Prompts to take from it [default: 100; 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,

    /// Tokens of an answer at most [default: 128; 16 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    max_tokens: Option<u32>,

    /// Longest round trip; each prompt gets another one between none and this
    #[arg(long, value_name = "TIME", default_value = "30ms", value_parser = super::values::duration)]
    pub(crate) rtt_max: Duration,

    /// Model to split: path or reference
    #[arg(long, value_name = "REF", default_value = "smollm2-135m")]
    pub(crate) model: String,

    /// Measure the model in these types too, converted for the purpose
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub(crate) also: Vec<TensorType>,

    /// Folder for machine, commit, command, rows as they come and summary. One that was made with the same settings goes on after its
    /// rows
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

impl BenchExactArgs {
    /// Prompts.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(if self.quick { 2 } else { 100 }) as usize
    }

    /// Tokens of an answer at most.
    pub(crate) fn max_tokens(&self) -> u32 {
        self.max_tokens.unwrap_or(if self.quick { 16 } else { 128 })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Reads prompts of 128 and 512 tokens and decodes 64, again and again in turns, and prints the median of the ratios within \
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

#[derive(Debug, Args)]
#[command(after_help = "\
The whole model answers first, greedily. Then its layers after the upload read these answers from states in every encoding, and \
every position where they say another token counts as a flip. Nothing is timed, so the machine need not be quiet. Prompts come \
from a file of JSON lines with a field prompt, turns (the first is taken) or instruction.

Examples:
  collm bench uploads --prompts prompts.jsonl
  collm bench uploads --model gemma3-270m --prompts prompts.jsonl --limit 20 --out results/2026-01-31-uploads")]
pub(crate) struct BenchUploadsArgs {
    /// Model to divide: path or reference
    #[arg(long, value_name = "REF", default_value = "smollm2-135m")]
    pub(crate) model: String,

    #[command(flatten)]
    pub(crate) shape: SplitShapeArgs,

    /// File of prompts, a JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: PathBuf,

    /// Prompts to take from it
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,

    /// Tokens of an answer at most
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) max_tokens: u32,

    /// Answers of an earlier run or of `collm eval`: read, and made again only where the model would say something else
    #[arg(long, value_name = "FILE")]
    pub(crate) answers: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Folder for machine, commit, command, rows, summary and answers
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Decodes the same positions with the whole model and with its edge part in turns, each with the checks it makes beside a cloud, and \
prints the median of the ratios within pairs. Prompts are not measured: the share is that of decoding.

Examples:
  collm bench cost
  collm bench cost --exits none
  collm bench cost model.gguf --upload-at 10 --tail 10-13,20-29 --rounds 50")]
pub(crate) struct BenchCostArgs {
    /// A path or reference of a whole model
    #[arg(value_name = "MODEL", default_value = "smollm2-135m")]
    pub(crate) model: String,

    #[command(flatten)]
    pub(crate) shape: SplitShapeArgs,

    /// Threads that compute
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) threads: u32,

    /// Pairs of runs
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Folder for machine, commit, command and summary
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
