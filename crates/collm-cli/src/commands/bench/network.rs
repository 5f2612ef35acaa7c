//! `collm bench network`: what distance costs each way of answering.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use collm_core::{ids::TokenId, policy::Mode};
use collm_link::LinkSpec;
use collm_stats::median;
use serde::Serialize;

use crate::{
    agreement::Judge,
    args::BenchNetworkArgs,
    chart::{self, Labels, Series, Spacing},
    client::{Prompt, Question},
    commands::{
        demo::{CONTEXT, Scene, stage::Stage},
        runtime,
    },
    prompts,
    report::{Report, ReportStats},
    results::ResultFolder,
    ui::{self, progress::ProgressMode, table},
};

/// Ways of answering, in the order they take turns.
const VARIANTS: [Variant; 6] = [
    Variant { name: "cloud-only", mode: Mode::Cloud, ahead: true },
    Variant { name: "collaborative, standing still", mode: Mode::Collaborative, ahead: false },
    Variant { name: "collaborative", mode: Mode::Collaborative, ahead: true },
    Variant { name: "exact, standing still", mode: Mode::Exact, ahead: false },
    Variant { name: "exact", mode: Mode::Exact, ahead: true },
    Variant { name: "standalone", mode: Mode::Standalone, ahead: true },
];

#[derive(Debug, Clone, Copy)]
struct Variant {
    name: &'static str,
    mode: Mode,
    ahead: bool,
}

/// One answer.
#[derive(Debug, Serialize)]
struct Row {
    prompt: usize,
    rtt_ms: f64,
    variant: &'static str,
    tokens: Vec<u32>,
    /// Tokens that are the whole model's after the same prompt and the same answer so far.
    agreeing: usize,
    /// The answer is cloud-only's, token for token.
    same_as_cloud: bool,
    finish_reason: String,
    stats: ReportStats,
}

/// All answers of one variant at one round-trip time.
#[derive(Debug, Serialize)]
struct Summary {
    rtt_ms: f64,
    variant: &'static str,
    answers: usize,
    /// Medians over answers.
    time_per_token_ms: Option<f64>,
    first_token_ms: Option<f64>,
    /// Median of the ratios to cloud-only's total time on the same prompt.
    total_to_cloud_only: Option<f64>,
    /// Median of the ratios to the same mode standing still, where there is one.
    total_to_standing_still: Option<f64>,
    /// Over all tokens.
    tokens_per_round_trip_waited: Option<f64>,
    waited_share: f64,
    cloud_token_share: f64,
    cloud_compute_to_cloud_only: f64,
    bytes_up_per_token: f64,
    agreement: f64,
    answers_same_as_cloud: usize,
}

pub(super) fn run(args: &BenchNetworkArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let prompts = prompts::read(&args.prompts, None, args.limit as usize)?;
    let prompts: Vec<String> = prompts.into_iter().map(|asked| asked.prompt).collect();
    let folder = args.out.as_deref().map(ResultFolder::create).transpose()?;
    let scene = Scene::prepare(&args.model, None, progress)?;
    let mut rows = measure(args, &scene, &prompts, progress)?;
    judge(&mut rows, &scene, &prompts, progress)?;
    let summaries = summarize(&rows);
    if let Some(folder) = folder {
        folder.write_rows(&rows)?;
        folder.write_summary(&summaries)?;
        folder.write("time-per-token.svg", &chart(args, &summaries))?;
    }
    anstream::println!("{}", render(&summaries));
    Ok(())
}

fn measure(
    args: &BenchNetworkArgs,
    scene: &Scene,
    prompts: &[String],
    progress: ProgressMode,
) -> anyhow::Result<Vec<Row>> {
    let runtime = runtime()?;
    let spec = |rtt| LinkSpec { rtt, up: args.bandwidth, down: args.bandwidth, ..LinkSpec::PERFECT };
    let mut stage = Stage::open(scene, spec(Duration::ZERO), &runtime, progress)?;
    // The whole model serves every variant; the part would not serve cloud-only.
    stage.exchange_cloud()?;
    let mut step = progress.step("measuring");
    let mut rows = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let prompt = Prompt::Chat { system: None, user: prompt.clone() };
        let question = Question::new(prompt, args.threshold, args.max_tokens);
        for rtt in &args.rtt {
            stage.reshape(spec(*rtt))?;
            step.now(&format!("prompt {} of {}, round trip {}", index + 1, prompts.len(), ui::time(*rtt)));
            rows.extend(answers(&stage, &question, index, *rtt)?);
        }
    }
    step.done("took");
    Ok(rows)
}

/// The answers of all variants to one question, in turns.
fn answers(stage: &Stage, question: &Question, prompt: usize, rtt: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for variant in VARIANTS {
        let question = question.clone().in_mode(variant.mode);
        let question = if variant.ahead { question } else { question.standing_still() };
        let answer =
            stage.edge().ask(&question, &mut |_| Ok(())).with_context(|| format!("{} failed", variant.name))?;
        let report: Report = serde_json::from_value(answer).context("the edge's report cannot be read")?;
        let tokens: Vec<u32> = report.tokens.iter().map(|token| token.id).collect();
        let same_as_cloud = rows.first().is_none_or(|cloud| cloud.tokens == tokens);
        rows.push(Row {
            prompt,
            rtt_ms: rtt.as_secs_f64() * 1e3,
            variant: variant.name,
            tokens,
            agreeing: 0,
            same_as_cloud,
            finish_reason: report.finish_reason,
            stats: report.stats,
        });
    }
    Ok(rows)
}

/// Counts agreement when the processes are gone: the comparison needs a core, too.
fn judge(rows: &mut [Row], scene: &Scene, prompts: &[String], progress: ProgressMode) -> anyhow::Result<()> {
    let mut judge = Judge::load(&scene.model.path, CONTEXT as usize, progress)?;
    let mut step = progress.step("comparing with the whole model");
    // Most answers come again at every round-trip time.
    let mut known: BTreeMap<(usize, Vec<u32>), usize> = BTreeMap::new();
    for row in rows {
        let key = (row.prompt, row.tokens.clone());
        let agreeing = match known.get(&key) {
            Some(agreeing) => *agreeing,
            None => {
                step.now(&format!("prompt {} of {}", row.prompt + 1, prompts.len()));
                let prompt = judge.prompt(&prompts[row.prompt])?;
                let answer: Vec<TokenId> = row.tokens.iter().copied().map(TokenId).collect();
                judge.agrees(&prompt, &answer)?.into_iter().filter(|agrees| *agrees).count()
            }
        };
        known.insert(key, agreeing);
        row.agreeing = agreeing;
    }
    step.done("took");
    Ok(())
}

fn summarize(rows: &[Row]) -> Vec<Summary> {
    let mut rtts: Vec<f64> = rows.iter().map(|row| row.rtt_ms).collect();
    rtts.sort_by(f64::total_cmp);
    rtts.dedup();
    rtts.iter().flat_map(|rtt| VARIANTS.iter().map(|variant| summary(rows, *rtt, *variant))).collect()
}

fn summary(rows: &[Row], rtt_ms: f64, variant: Variant) -> Summary {
    let of = |name: &'static str| rows.iter().filter(move |row| row.rtt_ms == rtt_ms && row.variant == name);
    let own: Vec<&Row> = of(variant.name).collect();
    let total = |value: fn(&ReportStats) -> f64| own.iter().map(|row| value(&row.stats)).sum::<f64>();
    let tokens: f64 = own.iter().map(|row| row.tokens.len() as f64).sum();
    let round_trips = total(|stats| f64::from(stats.round_trips_waited));
    let still = VARIANTS.iter().find(|other| other.mode == variant.mode && !other.ahead && variant.ahead);
    let cloud_compute: f64 = of(VARIANTS[0].name).map(|row| row.stats.cloud_compute_ms).sum();
    Summary {
        rtt_ms,
        variant: variant.name,
        answers: own.len(),
        time_per_token_ms: median(own.iter().filter_map(|row| row.stats.time_per_token_ms)),
        first_token_ms: median(own.iter().filter_map(|row| row.stats.first_token_ms)),
        total_to_cloud_only: median(ratios(&own, of(VARIANTS[0].name))),
        total_to_standing_still: still.and_then(|still| median(ratios(&own, of(still.name)))),
        tokens_per_round_trip_waited: (round_trips > 0.0).then(|| tokens / round_trips),
        waited_share: total(|stats| stats.waited_ms) / total(|stats| stats.total_ms),
        cloud_token_share: own.iter().map(|row| row.stats.cloud_share * row.tokens.len() as f64).sum::<f64>() / tokens,
        cloud_compute_to_cloud_only: total(|stats| stats.cloud_compute_ms) / cloud_compute,
        bytes_up_per_token: total(|stats| stats.bytes_up as f64) / tokens,
        agreement: own.iter().map(|row| row.agreeing as f64).sum::<f64>() / tokens,
        answers_same_as_cloud: own.iter().filter(|row| row.same_as_cloud).count(),
    }
}

/// Time per token against another variant's on the same prompt: answers of other lengths stay comparable.
fn ratios<'a>(own: &[&Row], other: impl Iterator<Item = &'a Row>) -> impl Iterator<Item = f64> {
    let per_token = |row: &Row| row.stats.total_ms / row.tokens.len().max(1) as f64;
    let other: BTreeMap<usize, f64> = other.map(|row| (row.prompt, per_token(row))).collect();
    let pairs: Vec<f64> = own.iter().filter_map(|row| Some(per_token(row) / other.get(&row.prompt)?)).collect();
    pairs.into_iter()
}

fn render(summaries: &[Summary]) -> String {
    let header = [
        "variant",
        "round trip",
        "ms/token",
        "to cloud-only",
        "to standing still",
        "tokens/round trip",
        "stood still",
        "cloud tokens",
        "cloud compute",
        "bytes up/token",
        "agrees",
        "same as cloud",
    ];
    table::numbers(&header, summaries.iter().map(cells))
}

fn cells(summary: &Summary) -> Vec<String> {
    let optional =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"));
    vec![
        summary.variant.to_owned(),
        format!("{:.0} ms", summary.rtt_ms),
        optional(summary.time_per_token_ms, 1),
        optional(summary.total_to_cloud_only, 2),
        optional(summary.total_to_standing_still, 2),
        optional(summary.tokens_per_round_trip_waited, 1),
        format!("{:.0} %", 100.0 * summary.waited_share),
        format!("{:.0} %", 100.0 * summary.cloud_token_share),
        format!("{:.0} %", 100.0 * summary.cloud_compute_to_cloud_only),
        format!("{:.0}", summary.bytes_up_per_token),
        format!("{:.1} %", 100.0 * summary.agreement),
        format!("{}/{}", summary.answers_same_as_cloud, summary.answers),
    ]
}

fn chart(args: &BenchNetworkArgs, summaries: &[Summary]) -> String {
    let points = |name| {
        let own = summaries.iter().filter(move |summary| summary.variant == name);
        own.filter_map(|summary| Some((summary.rtt_ms, summary.time_per_token_ms?))).collect()
    };
    let series = VARIANTS.map(|variant| Series { name: variant.name.to_owned(), points: points(variant.name) });
    let title = format!("{}: time per token over distance, {} each way", args.model, args.bandwidth);
    chart::render(&Labels { title, x: "round trip, ms", y: "time per token, ms (median)" }, Spacing::Even, &series)
}
