//! The modes answer themselves, as an edge process and a cloud process on loopback, and the whole model judges.

use std::collections::BTreeMap;

use anyhow::Context as _;
use collm_core::{
    edge::Source,
    policy::{Mode, Threshold},
};
use collm_engine::TokenId;
use collm_ggml::LoadOptions;
use collm_link::LinkSpec;
use collm_stats::{Bootstrap, Interval, exact_match, rouge_l};
use serde::Serialize;

use super::figure::Figure;
use crate::{
    agreement::Judge,
    args::{AheadChoice, EvalArgs, values::Auto},
    client::{Prompt, Question},
    commands::{
        demo::stage::Stage,
        evidence::{Subject, WholeAnswer, WholeAnswers},
        runtime,
    },
    prompts::AskedFor,
    report::Report,
    ui::progress::ProgressMode,
};

/// One way of answering.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Variant {
    mode: Mode,
    threshold: Option<Auto<Threshold>>,
}

/// One answer.
#[derive(Debug, Serialize)]
pub(super) struct RunningRow {
    prompt: usize,
    mode: &'static str,
    threshold: Option<String>,
    tokens: Vec<u32>,
    /// Of each token.
    sources: Vec<String>,
    /// Tokens that are the whole model's after the same text.
    agreeing: usize,
    degraded_tokens: u32,
    text: String,
    to_whole: Overlap,
    to_reference: Option<Overlap>,
}

/// How much of another text an answer says.
#[derive(Debug, Clone, Copy, Serialize)]
struct Overlap {
    rouge_l: f64,
    exact_match: bool,
}

/// All answers of one variant.
#[derive(Debug, Serialize)]
pub(super) struct RunningSummary {
    pub(super) mode: &'static str,
    pub(super) threshold: Option<String>,
    pub(super) answers: usize,
    pub(super) tokens: usize,
    pub(super) degraded_tokens: u32,
    pub(super) agreement: Option<Figure>,
    pub(super) sources: Vec<SourceShare>,
    pub(super) to_whole: OverlapSummary,
    pub(super) to_reference: OverlapSummary,
}

/// How many of the tokens a source decided.
#[derive(Debug, Serialize)]
pub(super) struct SourceShare {
    pub(super) source: &'static str,
    pub(super) share: Option<Figure>,
}

/// Means over the answers that have another text to compare with.
#[derive(Debug, Serialize)]
pub(super) struct OverlapSummary {
    pub(super) rouge_l: Option<Figure>,
    pub(super) exact_match: Option<Figure>,
}

/// Every prompt in every variant.
pub(super) fn measure(
    args: &EvalArgs,
    subject: &Subject,
    options: &LoadOptions,
    whole: &WholeAnswers,
    progress: ProgressMode,
) -> anyhow::Result<Vec<RunningRow>> {
    let asked: Vec<Variant> = variants(args).into_iter().filter(|variant| variant.mode != Mode::Whole).collect();
    let mut rows = if args.modes.contains(&Mode::Whole) { of_whole(whole) } else { Vec::new() };
    if !asked.is_empty() {
        rows.extend(ask(args, &asked, subject, whole, progress)?);
        judge(&mut rows, subject, options, whole, progress)?;
    }
    Ok(rows)
}

/// Thresholds matter where the edge decides by them.
fn variants(args: &EvalArgs) -> Vec<Variant> {
    let of = |mode: &Mode| -> Vec<Variant> {
        match mode {
            Mode::Collaborative => {
                let at =
                    |threshold: &Auto<Threshold>| Variant { mode: Mode::Collaborative, threshold: Some(*threshold) };
                args.thresholds.iter().map(at).collect()
            }
            mode => vec![Variant { mode: *mode, threshold: None }],
        }
    };
    args.modes.iter().flat_map(of).collect()
}

fn label(threshold: Auto<Threshold>) -> String {
    match threshold {
        Auto::Auto => "auto".to_owned(),
        Auto::Given(threshold) => threshold.value().to_string(),
    }
}

/// The whole model has answered already.
fn of_whole(whole: &WholeAnswers) -> Vec<RunningRow> {
    let row = |(prompt, (asked, answer)): (usize, &(AskedFor, WholeAnswer))| RunningRow {
        prompt,
        mode: Mode::Whole.name(),
        threshold: None,
        tokens: answer.tokens.clone(),
        sources: vec![Source::Whole.name().to_owned(); answer.tokens.len()],
        agreeing: answer.tokens.len(),
        degraded_tokens: 0,
        text: answer.text.clone(),
        to_whole: Overlap::of(&answer.text, &answer.text),
        to_reference: asked.reference.as_deref().map(|reference| Overlap::of(&answer.text, reference)),
    };
    whole.answers.iter().enumerate().map(row).collect()
}

fn ask(
    args: &EvalArgs,
    variants: &[Variant],
    subject: &Subject,
    whole: &WholeAnswers,
    progress: ProgressMode,
) -> anyhow::Result<Vec<RunningRow>> {
    let runtime = runtime()?;
    let mut stage = Stage::open(&subject.scene, LinkSpec::PERFECT, &runtime, progress)?;
    if variants.iter().any(|variant| variant.mode == Mode::Cloud) {
        // The cloud part cannot read a prompt.
        stage.exchange_cloud(AheadChoice::default())?;
    }
    let mut step = progress.step("answering in the modes");
    let mut rows = Vec::new();
    for (index, (asked, answer)) in whole.answers.iter().enumerate() {
        step.count(index, whole.answers.len());
        let prompt = Prompt::Chat { system: None, user: asked.prompt.clone() };
        for variant in variants {
            let question = Question::new(prompt.clone(), Threshold::DEFAULT, args.max_tokens);
            let question = question.at(variant.threshold).in_mode(variant.mode);
            let said = stage.edge().ask(&question, &mut |_| Ok(()));
            let said = said.with_context(|| format!("mode {} failed", variant.mode.name()))?;
            let report: Report = serde_json::from_value(said).context("the edge's report cannot be read")?;
            rows.push(RunningRow {
                prompt: index,
                mode: variant.mode.name(),
                threshold: variant.threshold.map(label),
                tokens: report.tokens.iter().map(|token| token.id).collect(),
                sources: report.tokens.into_iter().map(|token| token.source).collect(),
                agreeing: 0,
                degraded_tokens: report.stats.degraded_tokens,
                to_whole: Overlap::of(&report.text, &answer.text),
                to_reference: asked.reference.as_deref().map(|reference| Overlap::of(&report.text, reference)),
                text: report.text,
            });
        }
    }
    step.done("took");
    Ok(rows)
}

/// Counts agreement when the processes are gone: the comparison needs the cores, too.
fn judge(
    rows: &mut [RunningRow],
    subject: &Subject,
    options: &LoadOptions,
    whole: &WholeAnswers,
    progress: ProgressMode,
) -> anyhow::Result<()> {
    let mut step = progress.step("comparing with the whole model");
    let mut judge = Judge::of_model(&subject.whole, options)?;
    // The whole model agrees with its own answers, and modes often say the same.
    let own = whole.answers.iter().enumerate();
    let mut known: BTreeMap<(usize, Vec<u32>), usize> =
        own.map(|(prompt, (_, answer))| ((prompt, answer.tokens.clone()), answer.tokens.len())).collect();
    let total = rows.len();
    for (index, row) in rows.iter_mut().enumerate() {
        step.count(index, total);
        let key = (row.prompt, row.tokens.clone());
        row.agreeing = match known.get(&key) {
            Some(agreeing) => *agreeing,
            None => {
                let text = whole.answers[row.prompt].1.text();
                let answer: Vec<TokenId> = row.tokens.iter().copied().map(TokenId).collect();
                judge.agrees(&text.prompt, &answer)?.into_iter().filter(|agrees| *agrees).count()
            }
        };
        known.insert(key, row.agreeing);
    }
    step.done("took");
    Ok(())
}

impl Overlap {
    fn of(text: &str, other: &str) -> Self {
        Self { rouge_l: rouge_l(text, other), exact_match: exact_match(text, other) }
    }
}

/// One a variant, in the order they came.
pub(super) fn summarize(rows: &[RunningRow]) -> Vec<RunningSummary> {
    let mut variants: Vec<Vec<&RunningRow>> = Vec::new();
    for row in rows {
        match variants.iter_mut().find(|own| (own[0].mode, &own[0].threshold) == (row.mode, &row.threshold)) {
            Some(own) => own.push(row),
            None => variants.push(vec![row]),
        }
    }
    variants.iter().map(|own| RunningSummary::of(own)).collect()
}

impl RunningSummary {
    /// Of rows of one variant, at least one.
    fn of(rows: &[&RunningRow]) -> Self {
        let share = |count: &dyn Fn(&RunningRow) -> usize| {
            let counts: Vec<(f64, f64)> = rows.iter().map(|row| (count(row) as f64, row.tokens.len() as f64)).collect();
            Bootstrap::default().ratio(&counts).map(Figure::from)
        };
        let decided = |source: Source| {
            let by = |row: &RunningRow| row.sources.iter().filter(|name| *name == source.name()).count();
            (rows.iter().any(|row| by(row) > 0)).then(|| SourceShare { source: source.name(), share: share(&by) })
        };
        Self {
            mode: rows[0].mode,
            threshold: rows[0].threshold.clone(),
            answers: rows.len(),
            tokens: rows.iter().map(|row| row.tokens.len()).sum(),
            degraded_tokens: rows.iter().map(|row| row.degraded_tokens).sum(),
            agreement: share(&|row| row.agreeing),
            sources: [Source::Exit1, Source::Exit2, Source::Cloud, Source::Whole]
                .into_iter()
                .filter_map(decided)
                .collect(),
            to_whole: OverlapSummary::of(rows.iter().map(|row| row.to_whole)),
            to_reference: OverlapSummary::of(rows.iter().filter_map(|row| row.to_reference)),
        }
    }
}

impl OverlapSummary {
    fn of(overlaps: impl Iterator<Item = Overlap>) -> Self {
        let overlaps: Vec<Overlap> = overlaps.collect();
        let mean = |value: fn(&Overlap) -> f64| -> Option<Interval> {
            Bootstrap::default().mean(&overlaps.iter().map(value).collect::<Vec<_>>())
        };
        Self {
            rouge_l: mean(|overlap| overlap.rouge_l).map(Figure::from),
            exact_match: mean(|overlap| f64::from(u8::from(overlap.exact_match))).map(Figure::from),
        }
    }
}
