//! `collm bench clients`: what one cloud can bear, cloud-only and together with its edges.
//!
//! `recording` has an edge make every answer once and writes down what it says; `load` lets clients say it again. What is compared is
//! the same cloud process with the same engine, whose batches take in all sessions that have work.

mod load;
mod recording;
mod servers;
mod summary;

use serde::Serialize;

use self::{
    load::Level,
    recording::{Recording, WAYS},
    summary::{charts, render, summarize},
};
use super::{answering::Timetable, subject::Subject};
use crate::{
    args::{BenchClientsArgs, threshold_name},
    commands::demo::Scene,
    experiment::Experiment,
    prompts,
    ui::{self, progress::ProgressMode},
};

/// What decides which levels there are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Settings<'a> {
    experiment: &'static str,
    #[serde(flatten)]
    subject: Subject<'a>,
    threshold: String,
    clients: Vec<u32>,
    duration_s: f64,
}

pub(super) fn run(args: &BenchClientsArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let sizes = args.sizes();
    let prompts = prompts::read(&args.common.prompts, None, sizes.limit)?;
    let prompts: Vec<String> = prompts.into_iter().map(|asked| asked.prompt).collect();
    let settings = Settings {
        experiment: "clients",
        subject: Subject::of(&args.common, prompts.iter().map(String::as_str), sizes.tokens_max)?,
        threshold: threshold_name(args.threshold),
        clients: args.clients(),
        duration_s: args.duration().as_secs_f64(),
    };
    let mut experiment = Experiment::open(args.common.out.as_deref(), &settings)?;
    measure(args, &prompts, &mut experiment, progress)?;
    let summary = summarize(experiment.rows());
    experiment.publish(&summary, charts(&summary))?;
    ui::print::line(render(&summary))?;
    Ok(())
}

/// Measures the levels that are not there yet. Records nothing if there are none.
fn measure(
    args: &BenchClientsArgs,
    prompts: &[String],
    experiment: &mut Experiment<Level>,
    progress: ProgressMode,
) -> anyhow::Result<()> {
    let levels = args.clients().into_iter().flat_map(|clients| WAYS.map(|way| (way, clients)));
    let is_there = |(way, clients): &(&str, u32)| {
        experiment.rows().iter().any(|level| level.way == *way && level.clients == *clients)
    };
    let left: Vec<(&str, u32)> = levels.filter(|level| !is_there(level)).collect();
    if left.is_empty() {
        return Ok(());
    }
    let scene = Scene::of_experiment(&args.common, progress)?;
    let recording = Recording::make(&scene, prompts, args, progress)?;
    let load = load::Load::start(&scene, args)?;
    let mut timetable = Timetable::default();
    left.iter().for_each(|_| timetable.expect(()));
    let mut step = progress.step("measuring");
    for (way, clients) in left {
        let (undone, total) = timetable.counts();
        step.runs(total - undone, total, timetable.left(), &format!("{clients} clients, {way}"));
        let began = std::time::Instant::now();
        experiment.add(load.level(way, clients, recording.traces(way))?)?;
        timetable.took((), began.elapsed());
    }
    step.done("took");
    Ok(())
}
