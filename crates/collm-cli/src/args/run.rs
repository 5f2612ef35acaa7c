//! Arguments of `collm run`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args};
use collm_core::{
    budget::Target,
    confidence::ConfidenceMeasure,
    policy::{Mode, Threshold},
    sampling::{Sampling, SamplingError},
};

use super::{
    CloudAccessArgs, EdgeAccessArgs, EngineArgs, ExitsChoice, UploadArgs,
    values::{self, Auto},
};

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("where").args(["part", "model", "edge"]),
    after_help = "\
Who answers: a running edge (--edge), an edge part loaded here (--part, with --cloud unless standalone), or a \
model (--model): itself in mode whole, its edge part, split into the cache, in the others.

Examples:
  collm run \"Why is the sky blue?\"
  echo \"Summarise: …\" | collm run - --max-tokens 200
  collm run \"Hi\" --part parts/edge.gguf --cloud http://127.0.0.1:7070 --threshold 0.9
  collm run \"Hi\" --part parts/edge.gguf --cloud http://127.0.0.1:7070 --mode auto --budget tpot=60ms
  collm run \"Hi\" --mode standalone --model smollm2-135m --json
  collm run \"Hi\" --edge http://127.0.0.1:8080 --temperature 0.7 --top-p 0.9 --seed 1"
)]
pub(crate) struct RunArgs {
    /// What to answer; - reads it from stdin
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: String,

    /// whole, cloud, naive, standalone, collaborative, exact (the whole model's text, always) or auto (collaborative where the link makes it worthwhile, else standalone) [default: the edge's own with --edge, collaborative with --cloud, standalone with --part alone, else whole]
    #[arg(long, value_parser = values::mode)]
    pub(crate) mode: Option<Mode>,

    /// Confidence from which on the edge's own guess is taken, or auto: what was calibrated for the edge part [default: what was calibrated, else 0.8]
    #[arg(long, value_name = "auto|0..1", value_parser = values::threshold_or_auto)]
    pub(crate) threshold: Option<Auto<Threshold>>,

    /// What an answer may cost, in place of a threshold: tpot=60ms (time per token) or cloud=20% (share of the tokens that the cloud is asked about). The text then depends on time
    #[arg(long, value_name = "TARGET", value_parser = values::budget, conflicts_with = "threshold")]
    pub(crate) budget: Option<Target>,

    /// The threshold that a budget never goes below
    #[arg(long, value_name = "0..1", value_parser = values::threshold, requires = "budget")]
    pub(crate) threshold_min: Option<Threshold>,

    /// Stand still at every ask, as the paper does, instead of running ahead of the cloud: the same text, later
    #[arg(long)]
    pub(crate) stall: bool,

    /// Tokens to make at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: u32,

    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,

    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(crate) system: Option<String>,

    /// Continue the prompt as it stands, without the model's chat template
    #[arg(long)]
    pub(crate) raw: bool,

    /// Print one JSON object when the answer is complete
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) who: WhoArgs,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Who answers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Who answers")]
pub(crate) struct WhoArgs {
    /// A running edge
    #[arg(long, value_name = "URL", conflicts_with_all = ["cloud", "deadline", "upload", "feed", "exact_upload", "upload_when", "private", "confidence"])]
    pub(crate) edge: Option<String>,

    /// Edge part to load here
    #[arg(long, value_name = "FILE")]
    pub(crate) part: Option<PathBuf>,

    /// Model to load here: path or reference [default: smollm2-135m]
    #[arg(long, value_name = "REF")]
    pub(crate) model: Option<String>,

    /// File of fitted exits to split the model with; none leaves out those that come with this program
    #[arg(long, value_name = "FILE|none", conflicts_with_all = ["part", "edge"])]
    pub(crate) exits: Option<ExitsChoice>,

    /// The cloud that finishes what the edge is unsure of
    #[arg(long, value_name = "URL")]
    pub(crate) cloud: Option<String>,

    /// Go on alone when the cloud has not answered for so long
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    pub(crate) deadline: Duration,

    /// How exits measure their confidence: max-prob (the paper's), margin, entropy, gate (a fitted predictor), or auto: as the edge part says
    #[arg(long, value_name = "MEASURE", default_value = "auto", value_parser = values::confidence)]
    pub(crate) confidence: Auto<ConfidenceMeasure>,

    #[command(flatten)]
    pub(crate) upload: UploadArgs,

    #[command(flatten)]
    pub(crate) cloud_access: CloudAccessArgs,

    #[command(flatten)]
    pub(crate) edge_access: EdgeAccessArgs,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// 0 takes the most likely token, always
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(crate) temperature: f32,

    /// Keep the K most likely tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: u32,

    /// Keep the most likely tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(crate) top_p: f32,

    /// Keep tokens with at least this share of the highest probability
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub(crate) min_p: f32,

    /// Make recent tokens less likely; 1 changes nothing
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub(crate) repeat_penalty: f32,

    /// How many tokens back count as recent
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) repeat_last_n: u32,

    /// Names the random choices: the same seed writes the same text
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

impl SamplingArgs {
    pub(crate) fn settle(&self) -> Result<Sampling, SamplingError> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            seed: self.seed,
            ..Sampling::GREEDY
        };
        sampling.validated()
    }
}
