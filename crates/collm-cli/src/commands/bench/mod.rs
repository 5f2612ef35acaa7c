//! `collm bench`: measurements that write result folders.

mod converted;
mod cost;
mod engine;
mod exact;
mod network;
mod uploads;

use crate::{args::BenchCommand, ui::progress::ProgressMode};

pub(super) fn run(command: &BenchCommand, progress: ProgressMode) -> anyhow::Result<()> {
    match command {
        BenchCommand::Cost(args) => cost::run(args, progress),
        BenchCommand::Engine(args) => engine::run(args, progress),
        BenchCommand::Exact(args) => exact::run(args, progress),
        BenchCommand::Network(args) => network::run(args, progress),
        BenchCommand::Uploads(args) => uploads::run(args, progress),
    }
}
