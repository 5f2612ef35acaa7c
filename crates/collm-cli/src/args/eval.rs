//! Arguments of `collm eval`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use collm_core::policy::{Mode, Threshold};

use super::{
    EngineArgs, SplitShapeArgs,
    values::{self, Auto},
};

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").args(["prompts", "text"]).required(true).multiple(true),
    after_help = "\
With --prompts, the whole model answers first, greedily. Then the edge part reads these answers, and what its exits would have \
said at every position is compared with what the whole model says (teacher-forced): agreement, and for each measure of \
confidence what may be emitted at which error, and how well calibrated it is. With --mode, the modes answer themselves \
(free-running), as an edge process and a cloud process, and each token is compared with what the whole model says after the \
same text. With --text, the perplexity of the whole model and of the edge part alone. Every figure has an interval of 95 % \
over answers.

Prompts are JSON lines with a field prompt, turns (the first is taken) or instruction; what they give as reference or output \
is compared with by ROUGE-L and exact match.

Examples:
  collm eval --prompts prompts.jsonl
  collm eval --prompts prompts.jsonl --mode standalone,collaborative --threshold 0.7,0.9 --out results/2026-01-31-eval
  collm eval --prompts spec_bench.jsonl --category summarization --limit 20 --json
  collm eval model.gguf --exits model.exits.gguf --prompts prompts.jsonl --text book.txt"
)]
pub(crate) struct EvalArgs {
    /// A path or reference of a whole model
    #[arg(value_name = "MODEL", default_value = "smollm2-135m")]
    pub(crate) model: String,

    /// File of prompts, a JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,

    /// Take prompts of this category only
    #[arg(long, value_name = "NAME", requires = "prompts")]
    pub(crate) category: Option<String>,

    /// Prompts to take
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,

    /// Tokens of an answer at most
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) max_tokens: u32,

    /// Modes that answer themselves: standalone, collaborative, exact, cloud, whole
    #[arg(long = "mode", value_name = "LIST", value_delimiter = ',', requires = "prompts", value_parser = values::mode)]
    pub(crate) modes: Vec<Mode>,

    /// Confidences from which on a guess of the edge is taken, or auto: what was calibrated for the edge part
    #[arg(long = "threshold", value_name = "LIST", value_delimiter = ',', default_value = "0.8", value_parser = values::threshold_or_auto)]
    pub(crate) thresholds: Vec<Auto<Threshold>>,

    /// Text to take the perplexity of
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,

    /// The whole model's answers of an earlier run (answers.jsonl of its folder): read, which is faster, and made again only where the
    /// model would say something else
    #[arg(long, value_name = "FILE", requires = "prompts")]
    pub(crate) answers: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Folder for machine, commit, command, rows, summary, the whole model's answers and charts
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) shape: SplitShapeArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}
