//! What the experiments on answers share: ways of answering that take turns on the same prompts, one row an answer, and figures that
//! are computed from the rows.
//!
//! `plan` says which answers there are to be, `row` asks for them, `judged` compares them with the whole model's, and `figures` sums
//! them up. What a table or a plot shows of them is each experiment's own.

mod figures;
mod judged;
mod plan;
mod row;
mod timetable;
mod variant;

use serde::Serialize;

pub(super) use self::{
    figures::{Figures, figures, time_ratio},
    judged::Judged,
    plan::{Plan, rtt_ms},
    row::Row,
    timetable::Timetable,
    variant::{CLOUD_ONLY, STANDALONE, Variant},
};
use crate::{args::ExperimentArgs, commands::demo::Scene, experiment::Experiment, ui::progress::ProgressMode};

/// Measures what the plan lacks, and has the whole model judge all of it.
pub(super) fn carry_out(
    plan: &Plan,
    common: &ExperimentArgs,
    settings: &impl Serialize,
    progress: ProgressMode,
) -> anyhow::Result<(Experiment<Row>, Vec<Judged>)> {
    let mut experiment = Experiment::open(common.out.as_deref(), settings)?;
    let scene = Scene::of_experiment(common, progress)?;
    row::measure(plan, &mut experiment, &scene, progress)?;
    let judged = judged::judge(plan, experiment.rows(), &scene, progress)?;
    if let Some(folder) = experiment.folder() {
        folder.write_lines("judged.jsonl", &judged)?;
    }
    Ok((experiment, judged))
}
