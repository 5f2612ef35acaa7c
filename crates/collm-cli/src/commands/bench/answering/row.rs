//! One answer, and how it is come by.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use collm_core::policy::Mode;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::{
    super::meter::Meter,
    Plan, Timetable, Variant,
    plan::{Run, rtt_ms},
};
use crate::{
    args::AheadChoice,
    commands::{
        demo::{Scene, stage::Stage},
        runtime,
    },
    experiment::Experiment,
    report::{Report, ReportStats},
    ui::{self, progress::ProgressMode},
};

/// One answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::commands::bench) struct Row {
    pub(in crate::commands::bench) prompt: usize,
    pub(in crate::commands::bench) rtt_ms: f64,
    pub(in crate::commands::bench) variant: String,
    pub(in crate::commands::bench) tokens: Vec<u32>,
    pub(in crate::commands::bench) text: String,
    pub(in crate::commands::bench) finish_reason: String,
    pub(in crate::commands::bench) stats: ReportStats,
}

/// Tokens of the answers that come before the first that counts.
const WARM_UP_TOKENS: u32 = 4;

/// Makes the answers of the plan that the experiment does not have yet. Starts nothing if it has them all.
pub(in crate::commands::bench) fn measure(
    plan: &Plan,
    experiment: &mut Experiment<Row>,
    scene: &Scene,
    progress: ProgressMode,
) -> anyhow::Result<()> {
    let (left, mut timetable) = left(plan, experiment.rows());
    let Some(first) = left.first() else { return Ok(()) };
    let runtime = runtime()?;
    let stages = stages(plan, scene, &runtime, progress)?;
    let reshape = |rtt| stages.values().try_for_each(|stage| stage.reshape(plan.link(rtt)));
    let mut link = first.rtt;
    reshape(link)?;
    let mut step = progress.step("measuring");
    for run in left {
        let (undone, total) = timetable.counts();
        let detail = format!("prompt {}, {}, {}", run.prompt + 1, ui::time(run.rtt), run.variant.name);
        step.runs(total - undone, total, timetable.left(), &detail);
        if link != run.rtt {
            link = run.rtt;
            reshape(link)?;
        }
        let began = Instant::now();
        let stage = &stages[&run.variant.cloud];
        let (mut row, computed_ms) = Meter::of(stage.cloud()?)?.over(run.rtt, || answer(plan, stage, &run))?;
        // By the cloud's own count: the edge only knows what answers tell.
        row.stats.cloud_compute_ms = computed_ms;
        experiment.add(row)?;
        timetable.took(run.kind(), began.elapsed());
    }
    step.done("took");
    Ok(())
}

/// An edge and a cloud, ready to answer, for each kind of cloud that variants need. Those that have nothing to do take no time.
fn stages(
    plan: &Plan,
    scene: &Scene,
    runtime: &Runtime,
    progress: ProgressMode,
) -> anyhow::Result<BTreeMap<AheadChoice, Stage>> {
    let mut stages = BTreeMap::new();
    for cloud in plan.variants.iter().map(|variant| variant.cloud) {
        if let Entry::Vacant(entry) = stages.entry(cloud) {
            let mut stage = Stage::open(scene, plan.link(Duration::ZERO), runtime, progress)?;
            // The whole model serves every variant; the part would not serve cloud-only.
            stage.exchange_cloud(cloud)?;
            warm_up(plan, &stage)?;
            entry.insert(stage);
        }
    }
    Ok(stages)
}

/// Runs without a row, and how long they will take.
fn left<'a>(plan: &'a Plan, rows: &[Row]) -> (Vec<Run<'a>>, Timetable<(Duration, &'static str)>) {
    let mut timetable = Timetable::default();
    let mut left = Vec::new();
    for run in plan.runs() {
        timetable.expect(run.kind());
        match rows.iter().find(|row| run.made(row)) {
            Some(row) => timetable.took(run.kind(), Duration::from_secs_f64(row.stats.total_ms / 1e3)),
            None => left.push(run),
        }
    }
    (left, timetable)
}

/// Opening a connection and touching memory for the first time are no part of an answer.
fn warm_up(plan: &Plan, stage: &Stage) -> anyhow::Result<()> {
    for mode in [Mode::Cloud, Mode::Exact] {
        let question = Variant::new("", mode).question(&plan.prompts[0].prompt, WARM_UP_TOKENS);
        stage.edge().ask(&question, &mut |_| Ok(())).context("the first answer failed")?;
    }
    Ok(())
}

fn answer(plan: &Plan, stage: &Stage, run: &Run<'_>) -> anyhow::Result<Row> {
    let name = run.variant.name;
    let question = run.variant.question(&plan.prompts[run.prompt].prompt, plan.tokens_max);
    let answer = stage.edge().ask(&question, &mut |_| Ok(()));
    let answer = answer.with_context(|| format!("{name} failed at prompt {}", run.prompt + 1))?;
    let report: Report = serde_json::from_value(answer).context("the edge's report cannot be read")?;
    // The edge's own words in place of the cloud's are another variant.
    ensure!(
        report.stats.degraded_tokens == 0,
        "{name} lost its cloud at prompt {}; the same command goes on from there",
        run.prompt + 1
    );
    Ok(Row {
        prompt: run.prompt,
        rtt_ms: rtt_ms(run.rtt),
        variant: name.to_owned(),
        tokens: report.tokens.iter().map(|token| token.id).collect(),
        text: report.text,
        finish_reason: report.finish_reason,
        stats: report.stats,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::plan::tests::plan, *};
    use crate::report::tests::stats_json;

    /// An answer of these tokens that took `total_ms`, of which the cloud computed a tenth.
    pub(in crate::commands::bench::answering) fn row(
        prompt: usize,
        variant: &str,
        tokens: &[u32],
        total_ms: f64,
    ) -> Row {
        let stats = stats_json(&serde_json::json!({
            "total_ms": total_ms, "time_per_token_ms": total_ms - 10.0, "cloud_compute_ms": total_ms / 10.0,
            "answer_tokens": tokens.len(),
        }));
        Row {
            prompt,
            rtt_ms: 0.0,
            variant: variant.to_owned(),
            tokens: tokens.to_vec(),
            text: String::new(),
            finish_reason: "stop".to_owned(),
            stats: serde_json::from_value(stats).expect("stats"),
        }
    }

    #[test]
    fn what_has_a_row_is_not_measured_again() {
        let plan = plan();
        let rows = [row(0, "cloud-only", &[1], 2000.0), row(2, "cloud-only", &[1], 4000.0)];
        let (left, timetable) = left(&plan, &rows);
        let left: Vec<(usize, u128, &str)> =
            left.iter().map(|run| (run.prompt, run.rtt.as_millis(), run.variant.name)).collect();
        let (near, far) = ([(0, 0, "naive"), (1, 0, "cloud-only")], [(0, 80, "cloud-only"), (0, 80, "naive")]);
        let rest = [near[1], (1, 80, "cloud-only"), (2, 80, "cloud-only")];
        assert_eq!(left, [&near[..1], &far, &rest].concat());
        assert_eq!(timetable.counts(), (6, 8));
        assert_eq!(timetable.left(), Some(6 * Duration::from_secs(3)), "nothing is known of other kinds");
    }
}
