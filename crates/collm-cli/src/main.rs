//! The `collm` program: arguments to settled configurations to commands. Everything it does is done by the libraries; here
//! is what people type and see. Deliberately absent: protocol, policy, tensors.

mod agreement;
mod args;
mod bars;
mod builtin_exits;
mod chart;
mod client;
mod commands;
mod counting;
mod edge_server;
mod exits;
mod experiment;
mod failure;
mod logging;
mod models;
mod nodes;
mod parts;
mod process;
mod prompts;
mod report;
mod results;
mod running;
mod settings;
mod text_model;
mod ui;
mod upload;

use std::process::ExitCode;

use crate::ui::progress::ProgressMode;

fn main() -> ExitCode {
    let cli = match settings::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(unusable) => return unusable.report(),
    };
    ui::colour::choose(cli.color);
    logging::start(cli.verbose);
    let progress = ProgressMode::detect(cli.quiet);
    match process::die_with_parent_if_asked().and_then(|()| commands::run(cli.command, progress, cli.verbose > 0)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(error),
    }
}
