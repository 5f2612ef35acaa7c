//! `collm bench exact`: whether exact answers are the whole model's, token for token.
//!
//! Edge and cloud answer every prompt over a link with random delays, greedy and drawn with a seed. Then the same edge process,
//! with the whole model in place of its part, says what it should have been.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, ensure};
use collm_core::{
    policy::{Mode, Threshold},
    sampling::Sampling,
};
use collm_link::LinkSpec;
use collm_model::gguf::TensorType;
use serde::{Deserialize, Serialize};

use super::converted;
use crate::{
    args::{BenchExactArgs, SplitShapeArgs},
    client::{EdgeClient, Prompt, Question},
    commands::{
        demo::{Scene, stage::Stage},
        runtime,
    },
    experiment::{Experiment, fingerprint},
    models,
    parts::{self, Cut, Parts},
    prompts,
    report::{Report, ReportStats},
    ui::{self, progress::ProgressMode, table},
};

/// Names of ways to choose tokens.
const GREEDY: &str = "greedy";
const SEEDED: &str = "seeded";

/// What decides which answers there are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Settings<'a> {
    experiment: &'static str,
    model: &'a str,
    prompts: String,
    limit: usize,
    max_tokens: u32,
    rtt_max_ms: f64,
    also: Vec<String>,
}

/// An answer to make, in mode exact or by the whole model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Run {
    weights: String,
    mode: String,
    prompt: usize,
    drawn: String,
}

/// One that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    run: Run,
    tokens: Vec<u32>,
    stats: ReportStats,
}

#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    weights: String,
    drawn: String,
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

/// A measurement under way.
struct Measuring<'a> {
    args: &'a BenchExactArgs,
    prompts: &'a [String],
    experiment: Experiment<Row>,
    progress: ProgressMode,
}

pub(super) fn run(args: &BenchExactArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let prompts = prompts::read(&args.prompts, None, args.limit())?;
    let prompts: Vec<String> = prompts.into_iter().map(|asked| asked.prompt).collect();
    let experiment = Experiment::open(args.out.as_deref(), &settings(args, &prompts)?)?;
    let mut measuring = Measuring { args, prompts: &prompts, experiment, progress };
    measuring.measure(None)?;
    args.also.iter().try_for_each(|ty| measuring.measure(Some(*ty)))?;
    let summaries = summarize(measuring.experiment.rows());
    measuring.experiment.publish(&summaries, [])?;
    ui::print::line(render(&summaries))?;
    Ok(())
}

fn settings<'a>(args: &'a BenchExactArgs, prompts: &[String]) -> anyhow::Result<Settings<'a>> {
    Ok(Settings {
        experiment: "exact",
        model: &args.model,
        prompts: fingerprint(prompts.iter().map(String::as_str))?,
        limit: prompts.len(),
        max_tokens: args.max_tokens(),
        rtt_max_ms: args.rtt_max.as_secs_f64() * 1e3,
        also: args.also.iter().map(ToString::to_string).collect(),
    })
}

/// Greedy, or drawn with a seed of the prompt's own.
fn sampling(run: &Run) -> Sampling {
    match run.drawn.as_str() {
        SEEDED => Sampling { temperature: 0.8, top_p: 0.95, seed: run.prompt as u64, ..Sampling::GREEDY },
        _ => Sampling::GREEDY,
    }
}

impl Measuring<'_> {
    /// Makes the answers that are not there yet, with the model as it is or as another type.
    fn measure(&mut self, ty: Option<TensorType>) -> anyhow::Result<()> {
        let weights = ty.map_or_else(|| "as it is".to_owned(), |ty| format!("as {ty}"));
        let [exact, whole] = [Mode::Exact, Mode::Whole].map(|mode| self.left(&weights, mode));
        if exact.is_empty() && whole.is_empty() {
            return Ok(());
        }
        let folder = tempfile::tempdir().context("no room for a converted model")?;
        let scene = match ty {
            None => Scene::prepare(&self.args.model, None, self.progress)?,
            Some(ty) => self.converted_scene(ty, folder.path())?,
        };
        let runtime = runtime()?;
        let mut stage = Stage::open(&scene, LinkSpec::PERFECT, &runtime, self.progress)?;
        self.ask_all(&stage, &exact, &format!("asking edge and cloud, weights {weights}"))?;
        stage.exchange_edge()?;
        self.ask_all(&stage, &whole, &format!("asking the whole model, weights {weights}"))
    }

    /// The model as another type, cut as it is itself. Fitted exits are of its own weights: exit 2 has the model's own head instead.
    fn converted_scene(&self, ty: TensorType, folder: &Path) -> anyhow::Result<Scene> {
        let original = models::locate(&self.args.model, self.progress)?;
        let cut = Cut::settle(&SplitShapeArgs::of_exits(None), &original, self.progress)?;
        let cut = Cut { exits: None, ..cut };
        let file = converted::write(&models::open(&original.path)?, ty, folder, self.progress)?;
        let model = models::locate(&file.display().to_string(), self.progress)?;
        let parts = Parts::in_folder(folder);
        parts::write(&model, &cut, &parts, self.progress)?;
        Ok(Scene::new(model, parts, cut.upload_at))
    }

    /// Answers without a row.
    fn left(&self, weights: &str, mode: Mode) -> Vec<Run> {
        let run = |prompt, drawn: &str| Run {
            weights: weights.to_owned(),
            mode: mode.name().to_owned(),
            prompt,
            drawn: drawn.to_owned(),
        };
        let runs = (0..self.prompts.len()).flat_map(|prompt| [GREEDY, SEEDED].map(|drawn| run(prompt, drawn)));
        runs.filter(|run| !self.experiment.rows().iter().any(|row| row.run == *run)).collect()
    }

    fn ask_all(&mut self, stage: &Stage, runs: &[Run], what: &str) -> anyhow::Result<()> {
        let mut step = self.progress.step(what.to_owned());
        for (done, run) in runs.iter().enumerate() {
            step.count(done, runs.len());
            stage.reshape(self.link(run.prompt))?;
            let report = self.ask(stage.edge(), run)?;
            let tokens = report.tokens.iter().map(|token| token.id).collect();
            self.experiment.add(Row { run: run.clone(), tokens, stats: report.stats })?;
        }
        step.done("took");
        Ok(())
    }

    /// Another distance for every prompt, the same at every run.
    fn link(&self, prompt: usize) -> LinkSpec {
        let rtt = self.args.rtt_max.mul_f64(fastrand::Rng::with_seed(prompt as u64).f64());
        LinkSpec { rtt, jitter: rtt / 2, seed: prompt as u64, ..LinkSpec::PERFECT }
    }

    fn ask(&self, edge: &EdgeClient, run: &Run) -> anyhow::Result<Report> {
        let mode = if run.mode == Mode::Whole.name() { Mode::Whole } else { Mode::Exact };
        let prompt = Prompt::Chat { system: None, user: self.prompts[run.prompt].clone() };
        let question = Question::new(prompt, Threshold::DEFAULT, self.args.max_tokens());
        let question = question.in_mode(mode).sampled(&sampling(run));
        let answer = edge.ask(&question, &mut |_| Ok(())).with_context(|| format!("mode {} failed", run.mode))?;
        let report: Report = serde_json::from_value(answer).context("the edge's report cannot be read")?;
        // Else the comparison would be of another mode.
        ensure!(
            report.stats.degraded_tokens == 0,
            "the cloud was lost at prompt {}; the same command goes on from there if it has an --out",
            run.prompt + 1
        );
        Ok(report)
    }
}

/// An exact answer and what it should be.
struct Pair<'a> {
    exact: &'a Row,
    whole: &'a [u32],
}

impl Pair<'_> {
    /// Index of the first token that differs.
    fn differs_at(&self) -> Option<usize> {
        let exact = &self.exact.tokens;
        let length = exact.len().max(self.whole.len());
        (0..length).find(|&index| exact.get(index) != self.whole.get(index))
    }
}

/// Of each kind of weights, as they were measured, and each way to choose tokens.
fn summarize(rows: &[Row]) -> Vec<Summary> {
    let of_mode = |mode: Mode| rows.iter().filter(move |row| row.run.mode == mode.name());
    let key = |run: &Run| (run.weights.clone(), run.drawn.clone(), run.prompt);
    let whole: BTreeMap<_, &[u32]> = of_mode(Mode::Whole).map(|row| (key(&row.run), &row.tokens[..])).collect();
    let pairs = of_mode(Mode::Exact).filter_map(|exact| Some(Pair { exact, whole: whole.get(&key(&exact.run))? }));
    let pairs: Vec<Pair<'_>> = pairs.collect();
    let mut kinds: Vec<&str> = Vec::new();
    for pair in &pairs {
        let weights = pair.exact.run.weights.as_str();
        if !kinds.contains(&weights) {
            kinds.push(weights);
        }
    }
    kinds.iter().flat_map(|weights| [GREEDY, SEEDED].map(|drawn| summary(&pairs, weights, drawn))).collect()
}

fn summary(pairs: &[Pair<'_>], weights: &str, drawn: &str) -> Summary {
    let is_own = |pair: &&Pair<'_>| pair.exact.run.weights == weights && pair.exact.run.drawn == drawn;
    let own: Vec<&Pair<'_>> = pairs.iter().filter(is_own).collect();
    let flips = own.iter().filter(|pair| pair.differs_at().is_some()).count();
    let comparable = own.iter().map(|pair| pair.differs_at().map_or(pair.exact.tokens.len(), |index| index + 1)).sum();
    let waits: u32 = own.iter().map(|pair| pair.exact.stats.round_trips_waited).sum();
    let tokens: usize = own.iter().map(|pair| pair.exact.tokens.len()).sum();
    Summary {
        weights: weights.to_owned(),
        drawn: drawn.to_owned(),
        answers: own.len(),
        answers_equal: own.len() - flips,
        tokens,
        tokens_comparable: comparable,
        flips_per_token: flips as f64 / comparable as f64,
        rollbacks: own.iter().map(|pair| pair.exact.stats.rollbacks).sum(),
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
        summary.drawn.clone(),
        summary.answers.to_string(),
        summary.answers_equal.to_string(),
        summary.tokens.to_string(),
        format!("{:.2} %", 100.0 * summary.flips_per_token),
        summary.rollbacks.to_string(),
        summary.tokens_per_round_trip_waited.map_or_else(|| "–".to_owned(), |tokens| format!("{tokens:.1}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::stats_json;

    fn row(weights: &str, mode: Mode, prompt: usize, tokens: &[u32]) -> Row {
        let stats = stats_json(&serde_json::json!({"round_trips_waited": 2, "rollbacks": 3}));
        let run = Run { weights: weights.into(), mode: mode.name().into(), prompt, drawn: GREEDY.into() };
        Row { run, tokens: tokens.to_vec(), stats: serde_json::from_value(stats).expect("stats") }
    }

    #[test]
    fn an_answer_flips_once_and_what_comes_after_is_another_text() {
        let rows = [
            row("as it is", Mode::Exact, 0, &[1, 2, 3, 4]),
            row("as it is", Mode::Exact, 1, &[5, 6, 7, 8]),
            row("as f16", Mode::Exact, 0, &[1, 2]),
            // Of an answer that the whole model has yet to give, nothing is said.
            row("as f16", Mode::Exact, 1, &[5]),
            row("as it is", Mode::Whole, 1, &[5, 9, 9, 9]),
            row("as it is", Mode::Whole, 0, &[1, 2, 3, 4]),
            row("as f16", Mode::Whole, 0, &[1, 2, 3]),
        ];
        let summaries = summarize(&rows);
        let greedy: Vec<&Summary> = summaries.iter().filter(|summary| summary.drawn == GREEDY).collect();
        let counts = |summary: &Summary| (summary.answers, summary.answers_equal, summary.tokens_comparable);
        assert_eq!((greedy[0].weights.as_str(), counts(greedy[0])), ("as it is", (2, 1, 4 + 2)));
        assert_eq!((greedy[1].weights.as_str(), counts(greedy[1])), ("as f16", (1, 0, 3)));
        assert_eq!((greedy[0].flips_per_token, greedy[0].rollbacks), (1.0 / 6.0, 6));
        assert_eq!(greedy[0].tokens_per_round_trip_waited, Some(2.0));
    }
}
