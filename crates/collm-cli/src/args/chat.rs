//! Arguments of `collm chat`.

use clap::{ArgGroup, Args};
use collm_core::{
    budget::Target,
    policy::{Mode, Threshold},
};

use super::{
    EngineArgs,
    run::{SamplingArgs, WhoArgs},
    values::{self, Auto},
};

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("where").args(["part", "model", "edge"]),
    after_help = "\
Who answers is chosen as in `collm run`. Within the conversation: /mode, /threshold, /budget, /stats, /clear, /help. Ctrl-c ends an \
answer, ctrl-d the conversation. Without a terminal, each line of stdin is said in turn.

Examples:
  collm chat
  collm chat --edge http://127.0.0.1:8080
  collm chat --part parts/edge.gguf --cloud http://127.0.0.1:7070 --threshold 0.9
  printf 'Hi\\n/stats\\n' | collm chat"
)]
pub(crate) struct ChatArgs {
    /// whole, cloud, naive, standalone, collaborative, exact (the whole model's text, always) or auto (collaborative where the link makes it worthwhile, else standalone) [default: the edge's own with --edge, collaborative with --cloud, standalone with --part alone, else whole]
    #[arg(long, value_parser = values::mode)]
    pub(crate) mode: Option<Mode>,

    /// Confidence from which on the edge's own guess is taken, or auto: what was calibrated for the edge part [default: what was calibrated, else 0.8]
    #[arg(long, value_name = "auto|0..1", value_parser = values::threshold_or_auto)]
    pub(crate) threshold: Option<Auto<Threshold>>,

    /// What an answer may cost, in place of a threshold: tpot=60ms (time per token) or cloud=20% (share of the tokens that the cloud is asked about). The text then depends on time
    #[arg(long, value_name = "TARGET", value_parser = values::budget, conflicts_with = "threshold")]
    pub(crate) budget: Option<Target>,

    /// Tokens of an answer at most
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: u32,

    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    #[command(flatten)]
    pub(crate) who: WhoArgs,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}
