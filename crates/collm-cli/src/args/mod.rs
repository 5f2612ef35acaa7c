//! What people type. Only shapes and help texts are here; each command settles its arguments into a decided configuration.

mod access;
mod bench;
mod calibrate;
mod chat;
mod config;
mod demo;
mod engine;
mod eval;
mod experiments;
mod link;
mod model;
mod run;
mod serve;
mod tune;
pub(crate) mod values;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

pub(crate) use self::{
    access::{CloudAccessArgs, EdgeAccessArgs, ServerAccess, ServerAccessArgs},
    bench::{BenchArgs, BenchCommand, BenchCostArgs, BenchEngineArgs, BenchExactArgs, BenchUploadsArgs},
    calibrate::{CalibrateArgs, SURE},
    chat::ChatArgs,
    config::{CompletionsArgs, ConfigArgs, ConfigCommand, ConfigShowArgs, ManArgs},
    demo::DemoArgs,
    engine::{EngineArgs, UploadArgs, UploadEncoding, UploadFeed, UploadWhen},
    eval::EvalArgs,
    experiments::{BenchClientsArgs, BenchCoreArgs, BenchPaperArgs, BenchRttArgs, ExperimentArgs, threshold_name},
    link::LinkArgs,
    model::{ExitsChoice, InspectArgs, LsArgs, PullArgs, RmArgs, SplitArgs, SplitShapeArgs},
    run::{RunArgs, WhoArgs},
    serve::{AheadChoice, CloudArgs, CloudMemoryArgs, DoctorArgs, EdgeArgs, PsArgs},
    tune::TuneArgs,
};

/// One language model, run by an edge and a cloud together.
#[derive(Debug, Parser)]
#[command(
    name = "collm",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  collm demo                                see an answer being written by both, and its cost
  collm run \"Why is the sky blue?\"          answer with the whole model, here
  collm split smollm2-135m --out parts      make the two parts of a model
  collm cloud --part parts/cloud.gguf --listen 127.0.0.1:7070
  collm run \"Hi\" --part parts/edge.gguf --cloud http://127.0.0.1:7070

`collm help COMMAND` shows the examples of a command. Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// When to colour what is printed (NO_COLOR is honoured too)
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub(crate) color: ColorWhen,

    /// Say more on stderr: -v the numbers of an answer and what happens, -vv also the tensor library
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,

    /// Show no progress
    #[arg(short, long, global = true, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer a prompt on an edge and a cloud process and compare six ways to answer it
    Demo(DemoArgs),
    /// Answer one prompt
    Run(RunArgs),
    /// Talk with a model
    Chat(ChatArgs),
    /// Fetch a model into the cache
    Pull(PullArgs),
    /// List the models and parts in the cache
    Ls(LsArgs),
    /// Remove a model and its parts from the cache
    Rm(RmArgs),
    /// Show what a model file holds
    Inspect(InspectArgs),
    /// Split a model into an edge part and a cloud part
    Split(SplitArgs),
    /// Serve the cloud part, or a whole model, to edges
    Cloud(CloudArgs),
    /// Serve answers made by an edge part and its cloud
    Edge(EdgeArgs),
    /// List the edges and clouds that run on this machine
    Ps(PsArgs),
    /// Emulate a network link between an edge and a cloud
    Link(LinkArgs),
    /// Check processor, devices, cache and cloud
    Doctor(DoctorArgs),
    /// Have a model write text, and find by it what an edge part can do without
    Tune(TuneArgs),
    /// Find thresholds that keep a promise, and write them into a file of fitted exits
    Calibrate(CalibrateArgs),
    /// Tell how good an edge part is: agreement, coverage, calibration, texts
    Eval(EvalArgs),
    /// Show what commands are told by file, environment and arguments
    Config(ConfigArgs),
    /// Measure
    Bench(BenchArgs),
    /// Print what completes commands in a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
