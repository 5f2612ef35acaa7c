//! Arguments of `collm tune`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::values::{self, Layers};

#[derive(Debug, Args)]
#[command(after_help = "\
No data is needed: the model writes what users could ask, and then the answers, into the work folder. A run that was stopped goes \
on where it was; a later run with more --tokens adds to the text.

--search-tail looks for the layers that an edge part can do without: it leaves out one layer after the other, each time the one \
that costs the fewest of the whole model's tokens, on text that is held back from fitting. Costs are measured on this machine.

--out fits the exit after the tail, weighs what an exit before the tail would save against what its check costs, and has one if it \
pays; then it finds the thresholds as collm calibrate does.

Examples:
  collm tune smollm2-135m --work tune --tokens 300000
  collm tune smollm2-135m --work tune --search-tail --edge-cost 0.8
  collm tune model.gguf --upload-at 8 --prompts prompts.jsonl --search-tail --edge-cost 0.6 --tail-type q4_0 --heal --out my.exits.gguf
  collm tune smollm2-135m --work tune --tail 10-11,13-24,26-29 --tail-type q4_0 --heal --budget 45m --out my.exits.gguf
  collm tune smollm2-135m --work tune --refit my.exits.gguf --shortlist-rank 160 --out other.exits.gguf
  collm calibrate smollm2-135m --exits my.exits.gguf --work tune --target-agreement 0.97")]
pub(crate) struct TuneArgs {
    /// A path or reference of a whole model
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Folder for the text and for what is found
    #[arg(long, value_name = "DIR", default_value = "tune")]
    pub(crate) work: PathBuf,

    /// Threads that compute [default: the cores it may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) threads: Option<u32>,

    /// Tokens of answers to have in the end
    #[arg(long, value_name = "N", default_value_t = 300_000, help_heading = "Text")]
    pub(crate) tokens: usize,

    /// JSON lines with what users asked, answered before the model's own
    #[arg(long, value_name = "FILE", help_heading = "Text")]
    pub(crate) prompts: Option<PathBuf>,

    /// Names the text: the same seed, the same text
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Text")]
    pub(crate) seed: u64,

    /// Texts written at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Text")]
    pub(crate) at_once: u32,

    /// Layers before the upload [default: the model's preset]
    #[arg(long, value_name = "N", help_heading = "Tail")]
    pub(crate) upload_at: Option<u32>,

    /// Look for the best tails, and fit the exits of the best one if there is an --out
    #[arg(long, group = "fitted", help_heading = "Tail")]
    pub(crate) search_tail: bool,

    /// Cost of the edge part to aim at, as a share of the whole model's decoding
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, value_parser = values::share, requires = "search_tail", help_heading = "Tail")]
    pub(crate) edge_cost: f64,

    /// Tails that each step of the search goes on with
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=32), requires = "search_tail", help_heading = "Tail")]
    pub(crate) beam: u32,

    /// Held-back positions that tails are judged by
    #[arg(long, value_name = "N", default_value_t = 2500, requires = "search_tail", help_heading = "Tail")]
    pub(crate) positions: usize,

    /// Judge this tail only, as in 10-11,16-29, or fit its exits
    #[arg(long, value_name = "LAYERS", value_parser = values::layers, group = "fitted", help_heading = "Tail")]
    pub(crate) tail: Option<Layers>,

    /// Type that the tail's matrices will have, as in q4_0: what its layers cost [default: the model's]
    #[arg(long, value_name = "TYPE", help_heading = "Tail")]
    pub(crate) tail_type: Option<String>,

    /// Tokens that an exit's check scores exactly, the likeliest ones at a low rank
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..=4096), help_heading = "Tail")]
    pub(crate) shortlist: u32,

    /// The low rank at which it scores all tokens first, a multiple of 32
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = values::rank_of_keys, help_heading = "Tail")]
    pub(crate) shortlist_rank: u32,

    /// Fit the exits of the tail, find the threshold of each, and write them here
    #[arg(long, value_name = "FILE", requires = "fitted", help_heading = "Fitting")]
    pub(crate) out: Option<PathBuf>,

    /// Keep the tail and what it learnt from this file of exits, and fit everything else anew
    #[arg(long, value_name = "FILE", requires = "out", conflicts_with_all = ["learning", "upload_at", "tail_type"], group = "fitted", help_heading = "Fitting")]
    pub(crate) refit: Option<PathBuf>,

    /// Share of the tokens emitted at an exit that shall be the whole model's, which thresholds promise
    #[arg(long, value_name = "0..1", default_value_t = 0.97, requires = "out", help_heading = "Fitting")]
    pub(crate) target_agreement: f64,

    /// Let the tail's layers learn what the layers that it lacks did, and the head of the exit after them along
    #[arg(long, requires = "out", group = "learning", help_heading = "Fitting")]
    pub(crate) heal: bool,

    /// Let the head of the exit after the tail learn alone, which is several times as fast
    #[arg(long, requires = "out", group = "learning", help_heading = "Fitting")]
    pub(crate) fit_head: bool,

    /// How long to learn, at most; a run that was stopped goes on from its checkpoint in the work folder
    #[arg(long, value_name = "TIME", default_value = "45m", value_parser = humantime::parse_duration, requires = "learning", help_heading = "Fitting")]
    pub(crate) budget: Duration,

    /// Tokens that learning tells apart, the most frequent ones: fewer are faster
    #[arg(long, value_name = "N", default_value_t = 12_288, value_parser = clap::value_parser!(u32).range(1..), requires = "learning", help_heading = "Fitting")]
    pub(crate) classes: u32,

    /// Rank of the deltas
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256), requires = "heal", conflicts_with = "fit_head", help_heading = "Fitting")]
    pub(crate) rank: u32,

    /// Give the head an affine map behind its norm
    #[arg(long, requires = "learning", help_heading = "Fitting")]
    pub(crate) map: bool,

    /// Give the head an MLP of this inner width behind its norm, beside the map; 0 is none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=8192), requires = "learning", help_heading = "Fitting")]
    pub(crate) mlp: u32,

    /// Highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-3, requires = "learning", help_heading = "Fitting")]
    pub(crate) learning_rate: f32,
}
