//! Arguments of the commands that handle model files.

use std::{convert::Infallible, path::PathBuf, str::FromStr};

use clap::Args;

use super::values::{self, Layers};

#[derive(Debug, Args)]
#[command(after_help = "\
A REF is an alias (smollm2-135m, gemma3-270m), hf:user/repo[:quant] on the Hugging Face hub, or a path.

Examples:
  collm pull smollm2-135m
  collm pull hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M")]
pub(crate) struct PullArgs {
    /// What to fetch
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  collm ls --json")]
pub(crate) struct LsArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  collm rm smollm2-135m")]
pub(crate) struct RmArgs {
    /// What to remove
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  collm inspect smollm2-135m
  collm inspect parts/edge.gguf --json
  collm inspect model.exits.gguf")]
pub(crate) struct InspectArgs {
    /// A file, or a reference that is in the cache
    #[arg(value_name = "FILE|REF")]
    pub(crate) reference: String,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The edge part gets layers [0, UPLOAD_AT) and its tail, the cloud part layers [UPLOAD_AT, end). The tail is the edge's own \
guess at what the cloud would say: any layers, in the order they run. A file of fitted exits says where to cut by itself. \
Without any of these options a model that has a preset (smollm2-135m, gemma3-270m) is split by it.

Examples:
  collm split smollm2-135m
  collm split smollm2-135m --upload-at 10 --tail 10-11,16-29 --out parts
  collm split model.gguf --upload-at 8 --exit-at 16 --exit1          the paper's plain cut, both exits
  collm split model.gguf --upload-at 8 --exit-at 16 --quantize q8_0
  collm split model.gguf --exits model.exits.gguf                    as `collm tune` fitted them")]
pub(crate) struct SplitArgs {
    /// A path or reference of a whole model
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    #[command(flatten)]
    pub(crate) shape: SplitShapeArgs,

    /// Folder for edge.gguf and cloud.gguf [default: beside the model in the cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Where to cut.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SplitShapeArgs {
    /// Layers before the upload; the edge runs [0, N), the cloud the rest
    #[arg(long, value_name = "N")]
    pub(crate) upload_at: Option<u32>,

    /// The edge's layers after the upload, as in 10-11,16-29
    #[arg(long, value_name = "LAYERS", value_parser = values::layers, requires = "upload_at", conflicts_with = "exit_at")]
    pub(crate) tail: Option<Layers>,

    /// Plain cut: the tail is [UPLOAD_AT, N)
    #[arg(long, value_name = "N", requires = "upload_at")]
    pub(crate) exit_at: Option<u32>,

    /// Let the edge stop right after the upload layer too, where it is sure
    #[arg(long, requires = "upload_at")]
    pub(crate) exit1: bool,

    /// Convert weights, as in q8_0; the files then differ from the source in value
    #[arg(long, value_name = "TYPE")]
    pub(crate) quantize: Option<String>,

    /// File of fitted exits, which say where to cut too; none leaves out those that come with this program
    #[arg(long, value_name = "FILE|none")]
    pub(crate) exits: Option<ExitsChoice>,
}

impl SplitShapeArgs {
    /// Nothing said about the cut but which exits it has.
    pub(crate) fn of_exits(exits: Option<&ExitsChoice>) -> Self {
        Self { exits: exits.cloned(), ..Self::default() }
    }
}

/// Exits that a person chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExitsChoice {
    /// The model as it is.
    Without,
    /// Those in this file.
    File(PathBuf),
}

impl FromStr for ExitsChoice {
    type Err = Infallible;

    /// A file that is really called `none` can be named `./none`.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "none" { Self::Without } else { Self::File(text.into()) })
    }
}
