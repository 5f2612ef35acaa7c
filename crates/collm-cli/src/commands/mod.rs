//! One file a command. Each takes its arguments, settles them, and calls the libraries.

mod bench;
mod calibrate;
mod chat;
mod cloud;
mod config;
mod demo;
mod describe;
mod doctor;
mod edge;
mod eval;
mod evidence;
mod inspect;
mod link;
mod ls;
mod ps;
mod pull;
mod rm;
mod run;
mod split;
mod tune;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use crate::{args::Command, ui::progress::ProgressMode};

pub(crate) fn run(command: Command, progress: ProgressMode, verbose: bool) -> anyhow::Result<()> {
    match command {
        Command::Tune(args) => tune::run(&args, progress),
        Command::Eval(args) => eval::run(&args, progress),
        Command::Calibrate(args) => calibrate::run(&args, progress),
        Command::Config(args) => config::run(args),
        Command::Completions(args) => describe::completions(&args),
        Command::Man(args) => describe::man(&args),
        Command::Ps(args) => ps::run(&args),
        Command::Link(args) => link::run(&args),
        Command::Pull(args) => pull::run(&args, progress),
        Command::Ls(args) => ls::run(&args),
        Command::Rm(args) => rm::run(&args),
        Command::Split(args) => split::run(&args, progress),
        Command::Demo(args) => demo::run(&args, progress),
        Command::Run(args) => run::run(args, progress, verbose),
        Command::Chat(args) => chat::run(args, progress, verbose),
        Command::Edge(args) => edge::run(args, progress),
        Command::Doctor(args) => doctor::run(&args),
        Command::Cloud(args) => cloud::run(&args, progress),
        Command::Inspect(args) => inspect::run(&args, progress),
        Command::Bench(args) => bench::run(&args.command, progress),
    }
}

/// Threads for sockets; the engine has its own.
fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start threads")
}

/// Resolves on ctrl-c or, where there is such a thing, on a polite request to end.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without a handler the process ends at once, which is what was asked for.
    let _ = tokio::signal::ctrl_c().await;
}
