//! Arguments of `collm demo`.

use std::time::Duration;

use clap::Args;
use collm_core::{confidence::ConfidenceMeasure, policy::Threshold};
use collm_link::Bandwidth;

use super::{
    ExitsChoice,
    values::{self, Auto},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Fetches the model, splits it, starts a cloud and an edge as two processes behind an emulated link, and shows who wrote which \
token. Then it measures the same answer in every mode. With --page it serves the edge's page instead, with a button that cuts the link.

Examples:
  collm demo
  collm demo \"Write a haiku about rivers\" --rtt 80ms --threshold 0.9
  collm demo --page                                  then open the address that it prints")]
pub(crate) struct DemoArgs {
    /// What to answer
    #[arg(value_name = "PROMPT", default_value = "Give me three tips for better sleep.")]
    pub(crate) prompt: String,

    /// Serve the edge's page on 127.0.0.1 until ctrl-c, on any free port unless one is given
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "0", conflicts_with_all = ["prompt", "max_tokens"])]
    pub(crate) page: Option<u16>,

    /// Round-trip time of the link
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = values::duration)]
    pub(crate) rtt: Duration,

    /// Bandwidth of the link, each way
    #[arg(long, value_name = "RATE", default_value = "30mbit")]
    pub(crate) bandwidth: Bandwidth,

    /// Confidence from which on the edge's own guess is taken, or auto: what was calibrated for the edge part [default: what was calibrated, else 0.8]
    #[arg(long, value_name = "auto|0..1", value_parser = values::threshold_or_auto)]
    pub(crate) threshold: Option<Auto<Threshold>>,

    /// How exits measure their confidence: max-prob (the paper's), margin, entropy, gate (a fitted predictor), or auto: as the edge part says
    #[arg(long, value_name = "MEASURE", default_value = "auto", value_parser = values::confidence)]
    pub(crate) confidence: Auto<ConfidenceMeasure>,

    /// Tokens to make at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) max_tokens: u32,

    /// Model to split: path or reference; without --exits it needs a preset
    #[arg(long, value_name = "REF", default_value = "smollm2-135m")]
    pub(crate) model: String,

    /// File of fitted exits to split it with; none leaves out those that come with this program
    #[arg(long, value_name = "FILE|none")]
    pub(crate) exits: Option<ExitsChoice>,
}
