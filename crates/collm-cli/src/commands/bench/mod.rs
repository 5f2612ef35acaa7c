//! `collm bench`: measurements that write result folders.

mod answering;
mod bookkeeping;
mod clients;
mod converted;
mod cost;
mod engine;
mod exact;
mod meter;
mod paper;
mod rtt;
mod subject;
mod uploads;

use crate::{args::BenchCommand, ui::progress::ProgressMode};

pub(super) fn run(command: &BenchCommand, progress: ProgressMode) -> anyhow::Result<()> {
    match command {
        BenchCommand::Cost(args) => cost::run(args, progress),
        BenchCommand::Engine(args) => engine::run(args, progress),
        BenchCommand::Exact(args) => exact::run(args, progress),
        BenchCommand::Uploads(args) => uploads::run(args, progress),
        BenchCommand::Paper(args) => paper::run(args, progress),
        BenchCommand::Rtt(args) => rtt::run(args, progress),
        BenchCommand::Clients(args) => clients::run(args, progress),
        BenchCommand::Core(args) => bookkeeping::run(args, progress),
    }
}
