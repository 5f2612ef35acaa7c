//! Arguments of `collm calibrate`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use collm_core::confidence::ConfidenceMeasure;

use super::{EngineArgs, TuneArgs};

/// How sure a promise is unless somebody says otherwise.
pub(crate) const SURE: f64 = 0.95;

/// Tokens of an answer to a prompt at most, unless somebody says otherwise.
const ANSWER_TOKENS: u32 = 128;

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("text").args(["work", "prompts"]).required(true),
    after_help = "\
Finds for every exit the lowest threshold from which on its guesses are the whole model's tokens as often as promised, as surely as \
--sure says, on answers that the model wrote (with --work, on those that nothing was fitted to), and writes it with its promise \
into the file of exits. \
`--threshold auto` then uses it. If no threshold keeps the promise at any exit, nothing is written and the exit code is 1.

The bound is the exact binomial one, widened for errors that come together in one answer; thresholds are tried from the highest \
down, and the first that fails ends the search, so that trying many does not weaken the promise. Where several measures of \
confidence are tried, each is held to a promise so much surer that the best of them keeps the one that is stated.

Examples:
  collm calibrate smollm2-135m --exits exits/smollm2-135m.exits.gguf --target-agreement 0.97 --work tune
  collm calibrate model.gguf --exits model.exits.gguf --prompts prompts.jsonl --limit 400"
)]
pub(crate) struct CalibrateArgs {
    /// A path or reference of a whole model
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// File of fitted exits to complete
    #[arg(long, value_name = "FILE")]
    pub(crate) exits: PathBuf,

    /// Share of the emitted tokens that shall be the whole model's
    #[arg(long, value_name = "0..1", default_value_t = 0.97)]
    pub(crate) target_agreement: f64,

    /// How sure the promise shall be
    #[arg(long, value_name = "0..1", default_value_t = SURE)]
    pub(crate) sure: f64,

    /// Measure of confidence: max-prob, margin, entropy or gate [default: the one by which an exit emits most]
    #[arg(long, value_name = "MEASURE")]
    pub(crate) confidence: Option<ConfidenceMeasure>,

    /// Work folder of `collm tune`, of whose text the share for calibration is taken
    #[arg(long, value_name = "DIR")]
    pub(crate) work: Option<PathBuf>,

    /// File of prompts for the model to answer, a JSON object a line, where there is no work folder
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,

    /// Texts to take at most [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,

    /// Tokens of an answer to a prompt at most
    #[arg(long, value_name = "N", default_value_t = ANSWER_TOKENS, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) max_tokens: u32,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

impl CalibrateArgs {
    /// For the exits in a file that was just written, by the text that they were fitted to a share of.
    pub(crate) fn after_tuning(args: &TuneArgs, exits: &Path) -> Self {
        Self {
            model: args.model.clone(),
            exits: exits.to_owned(),
            target_agreement: args.target_agreement,
            sure: SURE,
            confidence: None,
            work: Some(args.work.clone()),
            prompts: None,
            limit: None,
            max_tokens: ANSWER_TOKENS,
            json: false,
            engine: EngineArgs { threads: args.threads, cores: None, device: None, context: None },
        }
    }
}
