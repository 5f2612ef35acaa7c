//! `collm bench exact`: whether exact answers are the whole model's, token for token.
//!
//! Edge and cloud answer every prompt over a link with random delays, greedy and drawn with a seed. Then the same edge process,
//! with the whole model in place of its part, says what it should have been.

use anyhow::{Context as _, ensure};
use collm_core::{
    policy::{Mode, Threshold},
    sampling::Sampling,
};
use collm_link::LinkSpec;
use serde::Serialize;

use super::converted;
use crate::{
    args::BenchExactArgs,
    client::{EdgeClient, Prompt, Question},
    commands::{
        demo::{Scene, stage::Stage},
        runtime,
    },
    models, prompts,
    report::{Report, ReportStats},
    results::ResultFolder,
    ui::{self, progress::ProgressMode, table},
};

/// One exact answer against the whole model's.
#[derive(Debug, Serialize)]
struct Row {
    weights: String,
    drawn: &'static str,
    prompt: usize,
    rtt_ms: f64,
    exact: Vec<u32>,
    whole: Vec<u32>,
    stats: ReportStats,
}

impl Row {
    /// Index of the first token that differs.
    fn differs_at(&self) -> Option<usize> {
        let length = self.exact.len().max(self.whole.len());
        (0..length).find(|&index| self.exact.get(index) != self.whole.get(index))
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    weights: String,
    drawn: &'static str,
    answers: usize,
    answers_equal: usize,
    tokens: usize,
    /// Tokens up to and with the first that differs: both sides decided them after the same tokens. What comes later is another
    /// text.
    tokens_comparable: usize,
    /// Answers that differ, over the tokens that could.
    flips_per_token: f64,
    rollbacks: u32,
    tokens_per_round_trip_waited: Option<f64>,
}

pub(super) fn run(args: &BenchExactArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let folder = args.out.as_deref().map(ResultFolder::create).transpose()?;
    let prompts = prompts::read(&args.prompts, None, args.limit as usize)?;
    let prompts: Vec<String> = prompts.into_iter().map(|asked| asked.prompt).collect();
    let model = models::locate(&args.model, progress)?;
    let mut rows = measure(args, &args.model, "as it is", &prompts, progress)?;
    let converted = tempfile::tempdir().context("no room for converted models")?;
    for ty in &args.also {
        let file = converted::write(&models::open(&model.path)?, *ty, converted.path(), progress)?;
        rows.extend(measure(args, &file.display().to_string(), &format!("as {ty}"), &prompts, progress)?);
    }
    let summaries = summarize(&rows);
    if let Some(folder) = folder {
        folder.write_rows(&rows)?;
        folder.write_summary(&summaries)?;
    }
    ui::print::line(render(&summaries))?;
    Ok(())
}

/// Greedy, and drawn with a seed of the prompt's own.
fn draws(prompt: usize) -> [(&'static str, Sampling); 2] {
    let drawn = Sampling { temperature: 0.8, top_p: 0.95, seed: prompt as u64, ..Sampling::GREEDY };
    [("greedy", Sampling::GREEDY), ("seeded", drawn)]
}

fn measure(
    args: &BenchExactArgs,
    model: &str,
    weights: &str,
    prompts: &[String],
    progress: ProgressMode,
) -> anyhow::Result<Vec<Row>> {
    let scene = Scene::prepare(model, None, progress)?;
    let runtime = runtime()?;
    let mut stage = Stage::open(&scene, LinkSpec::PERFECT, &runtime, progress)?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut rows = Vec::new();
    let mut step = progress.step(format!("asking edge and cloud, weights {weights}"));
    for (prompt, text) in prompts.iter().enumerate() {
        let rtt = args.rtt_max.mul_f64(random.f64());
        stage.reshape(LinkSpec { rtt, jitter: rtt / 2, seed: prompt as u64, ..LinkSpec::PERFECT })?;
        for (drawn, sampling) in draws(prompt) {
            let report = ask(stage.edge(), args, text, Mode::Exact, &sampling)?;
            let (weights, rtt_ms) = (weights.to_owned(), rtt.as_secs_f64() * 1e3);
            let exact = ids(&report);
            rows.push(Row { weights, drawn, prompt, rtt_ms, exact, whole: Vec::new(), stats: report.stats });
        }
        step.count(prompt + 1, prompts.len());
    }
    step.done("took");
    stage.exchange_edge()?;
    let mut step = progress.step(format!("asking the whole model, weights {weights}"));
    let count = rows.len();
    for (done, row) in rows.iter_mut().enumerate() {
        let draws = draws(row.prompt);
        let (_, sampling) = draws.iter().find(|(drawn, _)| *drawn == row.drawn).expect("rows are made of draws");
        row.whole = ids(&ask(stage.edge(), args, &prompts[row.prompt], Mode::Whole, sampling)?);
        step.count(done + 1, count);
    }
    step.done("took");
    Ok(rows)
}

fn ask(
    edge: &EdgeClient,
    args: &BenchExactArgs,
    prompt: &str,
    mode: Mode,
    sampling: &Sampling,
) -> anyhow::Result<Report> {
    let prompt = Prompt::Chat { system: None, user: prompt.to_owned() };
    let question = Question::new(prompt, Threshold::DEFAULT, args.max_tokens).in_mode(mode).sampled(sampling);
    let answer = edge.ask(&question, &mut |_| Ok(())).with_context(|| format!("mode {} failed", mode.name()))?;
    let report: Report = serde_json::from_value(answer).context("the edge's report cannot be read")?;
    // Else the comparison would be of another mode.
    ensure!(report.stats.degraded_tokens == 0, "the cloud was lost; run it again on a machine that is less busy");
    Ok(report)
}

fn ids(report: &Report) -> Vec<u32> {
    report.tokens.iter().map(|token| token.id).collect()
}

fn summarize(rows: &[Row]) -> Vec<Summary> {
    rows.chunk_by(|a, b| a.weights == b.weights)
        .flat_map(|rows| draws(0).map(|(drawn, _)| summary(rows, drawn)))
        .collect()
}

fn summary(rows: &[Row], drawn: &'static str) -> Summary {
    let own: Vec<&Row> = rows.iter().filter(|row| row.drawn == drawn).collect();
    let flips = own.iter().filter(|row| row.differs_at().is_some()).count();
    let comparable = own.iter().map(|row| row.differs_at().map_or(row.exact.len(), |index| index + 1)).sum();
    let waits: u32 = own.iter().map(|row| row.stats.round_trips_waited).sum();
    let tokens: usize = own.iter().map(|row| row.exact.len()).sum();
    Summary {
        weights: own.first().map(|row| row.weights.clone()).unwrap_or_default(),
        drawn,
        answers: own.len(),
        answers_equal: own.len() - flips,
        tokens,
        tokens_comparable: comparable,
        flips_per_token: flips as f64 / comparable as f64,
        rollbacks: own.iter().map(|row| row.stats.rollbacks).sum(),
        tokens_per_round_trip_waited: (waits > 0).then(|| tokens as f64 / f64::from(waits)),
    }
}

fn render(summaries: &[Summary]) -> String {
    let header = ["weights", "tokens are", "answers", "equal", "tokens", "flips", "rollbacks", "tokens/round trip"];
    table::numbers(&header, summaries.iter().map(cells))
}

fn cells(summary: &Summary) -> Vec<String> {
    vec![
        summary.weights.clone(),
        summary.drawn.to_owned(),
        summary.answers.to_string(),
        summary.answers_equal.to_string(),
        summary.tokens.to_string(),
        format!("{:.2} %", 100.0 * summary.flips_per_token),
        summary.rollbacks.to_string(),
        summary.tokens_per_round_trip_waited.map_or_else(|| "–".to_owned(), |tokens| format!("{tokens:.1}")),
    ]
}
