//! Arguments of the commands that serve, and of the one that looks whether they are served.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, ValueEnum};
use collm_core::{budget::Target, cloud::Ahead, confidence::ConfidenceMeasure, policy::Threshold};
use collm_http::Origin;
use collm_link::LinkSpec;

use super::{
    CloudAccessArgs, EngineArgs, ServerAccessArgs, UploadArgs,
    values::{self, Auto},
};

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("file").required(true).args(["part", "model"]),
    after_help = "\
With --part it serves edges of the same pair. With --model it holds the whole model and serves cloud mode too; edges of the \
pair that --upload-at (or the model's preset) makes may upload their states to it as well.

Examples:
  collm cloud --part parts/cloud.gguf
  collm cloud --part parts/cloud.gguf --listen 0.0.0.0:7070 --tls-cert cert.pem --tls-key key.pem --api-key-file keys
  collm cloud --model smollm2-135m --listen 127.0.0.1:7070 --slots 8 --states-memory 1GiB
  collm cloud --part parts/cloud.gguf --metrics 127.0.0.1:9464

The first line on stdout is one JSON object with the address; then it is ready. Ctrl-c lets answers under way finish."
)]
pub(crate) struct CloudArgs {
    /// Cloud part written by `collm split`
    #[arg(long, value_name = "FILE")]
    pub(crate) part: Option<PathBuf>,

    /// A whole model: path or reference
    #[arg(long, value_name = "REF")]
    pub(crate) model: Option<String>,

    /// With --model: where its edges upload [default: the model's preset]
    #[arg(long, value_name = "N", requires = "model")]
    pub(crate) upload_at: Option<u32>,

    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070")]
    pub(crate) listen: String,

    #[command(flatten)]
    pub(crate) stopping: StoppingArgs,

    #[command(flatten)]
    pub(crate) access: ServerAccessArgs,

    /// Serve /metrics, /health and /ready here, in the open and without keys: on 127.0.0.1, or where --allow-remote allows it
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) metrics: Option<String>,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    #[command(flatten)]
    pub(crate) memory: CloudMemoryArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Contexts")]
pub(crate) struct CloudMemoryArgs {
    /// Sessions computed at once; each has key-value memory of its own, fixed at start
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) slots: u32,

    /// Sessions held at once, computed or not; more are refused as busy
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) sessions: u32,

    /// Rows of all sessions in one pass through the layers
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=4096))]
    pub(crate) batch_rows: u32,

    /// What to compute while nobody asks: nothing, so that a session that never asks is free; prompts, block by block; answers, all
    /// that came up but each session's newest position, so that an ask waits for that one only; or everything, so that the answer to
    /// an ask may be there before it comes, for a little more of the cloud's time
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub(crate) ahead: AheadChoice,

    /// Bytes for hidden states of all sessions together
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = values::bytes)]
    pub(crate) states_memory: usize,

    /// A session that nobody used for so long is forgotten
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = values::duration)]
    pub(crate) idle: Duration,
}

/// [`Ahead`] as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, ValueEnum)]
pub(crate) enum AheadChoice {
    Nothing,
    Prompts,
    Answers,
    #[default]
    Everything,
}

impl AheadChoice {
    /// The word for it on a command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Prompts => "prompts",
            Self::Answers => "answers",
            Self::Everything => "everything",
        }
    }
}

impl From<AheadChoice> for Ahead {
    fn from(choice: AheadChoice) -> Self {
        match choice {
            AheadChoice::Nothing => Self::Nothing,
            AheadChoice::Prompts => Self::Prompts,
            AheadChoice::Answers => Self::Answers,
            AheadChoice::Everything => Self::Everything,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("file").required(true).args(["part", "model"]),
    after_help = "\
Examples:
  collm edge --part parts/edge.gguf --cloud http://127.0.0.1:7070 --listen 127.0.0.1:8080
  collm edge --part parts/edge.gguf --cloud https://cloud.example:7070 --cloud-key-file key
  collm edge --part parts/edge.gguf --cloud http://127.0.0.1:7070 --budget cloud=20%
  collm edge --part parts/edge.gguf                    standalone: no cloud
  collm edge --model smollm2-135m                      the whole model, here

The first line on stdout is one JSON object with the address. Ask it with: collm run \"Hi\" --edge http://127.0.0.1:8080"
)]
pub(crate) struct EdgeArgs {
    /// Edge part written by `collm split`
    #[arg(long, value_name = "FILE")]
    pub(crate) part: Option<PathBuf>,

    /// A whole model: path or reference
    #[arg(long, value_name = "REF")]
    pub(crate) model: Option<String>,

    /// The cloud that finishes what the edge is unsure of
    #[arg(long, value_name = "URL", requires = "part")]
    pub(crate) cloud: Option<String>,

    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,

    #[command(flatten)]
    pub(crate) stopping: StoppingArgs,

    #[command(flatten)]
    pub(crate) access: ServerAccessArgs,

    /// Let web pages of this origin (scheme, host and port) ask; may be given several times
    #[arg(long = "allow-origin", value_name = "ORIGIN", value_parser = values::origin, help_heading = "Access")]
    pub(crate) origins: Vec<Origin>,

    #[command(flatten)]
    pub(crate) cloud_access: CloudAccessArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    #[command(flatten)]
    pub(crate) upload: UploadArgs,

    /// Go to the cloud through an emulated link, which the page can cut; for demonstrations on one machine
    #[arg(long, value_name = "RTT,RATE", hide = true, requires = "cloud", value_parser = values::link)]
    pub(crate) emulate_link: Option<LinkSpec>,

    /// Confidence from which on the edge's own guess is taken where a request does not say, or auto: what was calibrated for the edge part [default: what was calibrated, else 0.8]
    #[arg(long, value_name = "auto|0..1", value_parser = values::threshold_or_auto)]
    pub(crate) threshold: Option<Auto<Threshold>>,

    /// What an answer may cost, in place of a threshold: tpot=60ms (time per token) or cloud=20% (share of the tokens that the cloud is asked about). The text then depends on time. For requests that give neither budget nor threshold
    #[arg(long, value_name = "TARGET", value_parser = values::budget, conflicts_with = "threshold", requires = "cloud")]
    pub(crate) budget: Option<Target>,

    /// The threshold that a budget never goes below
    #[arg(long, value_name = "0..1", default_value = "0", value_parser = values::threshold)]
    pub(crate) threshold_min: Threshold,

    /// How exits measure their confidence: max-prob (the paper's), margin, entropy, gate (a fitted predictor), or auto: as the edge part says
    #[arg(long, value_name = "MEASURE", default_value = "auto", value_parser = values::confidence)]
    pub(crate) confidence: Auto<ConfidenceMeasure>,

    /// Answers made at once, together in one pass through the layers; more wait. Each has key-value memory of its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) slots: u32,

    /// Keep what was computed of an answered session for a follow-up for so long, here and in the cloud, while nobody else needs its place;
    /// 0s keeps nothing
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = values::duration)]
    pub(crate) keep: Duration,

    /// Go on alone when the cloud has not answered for so long
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    pub(crate) deadline: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  collm doctor
  collm doctor --part parts/edge.gguf --cloud http://127.0.0.1:7070
  collm doctor --part parts/edge.gguf --cloud https://cloud.example:7070 --cloud-key-file key")]
pub(crate) struct DoctorArgs {
    /// Part to look at
    #[arg(long, value_name = "FILE")]
    pub(crate) part: Option<PathBuf>,

    /// Cloud to reach
    #[arg(long, value_name = "URL")]
    pub(crate) cloud: Option<String>,

    #[command(flatten)]
    pub(crate) cloud_access: CloudAccessArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  collm ps\n  collm ps --json")]
pub(crate) struct PsArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a server ends.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StoppingArgs {
    /// How long answers under way may take to end after ctrl-c or SIGTERM; new ones are refused meanwhile
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    pub(crate) drain: Duration,
}
