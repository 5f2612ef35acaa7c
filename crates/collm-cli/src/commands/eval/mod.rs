//! `collm eval`: how good an edge part is. Teacher-forced over the whole model's own answers, free-running in the modes, and
//! as perplexity of a text.

mod figure;
mod forced;
mod perplexity;
mod report;
mod running;

use std::path::Path;

use collm_ggml::LoadOptions;
use serde::Serialize;

use self::{
    forced::{ExitSummary, ForcedRow},
    perplexity::Perplexity,
    running::{RunningRow, RunningSummary},
};
use super::evidence::{self, KnownAnswers, Subject, WholeAnswers};
use crate::{
    args::EvalArgs,
    prompts,
    results::ResultFolder,
    ui::{self, progress::ProgressMode},
};

/// Everything found out.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    model_sha256: String,
    /// Layers `[0, upload_at)` come before the upload.
    upload_at: u32,
    tail: Vec<u32>,
    exits_sha256: Option<String>,
    /// Answers looked at.
    answers: usize,
    /// Prompts left out because they do not fit the context.
    too_long: usize,
    teacher_forced: Vec<ExitSummary>,
    free_running: Vec<RunningSummary>,
    perplexity: Option<Perplexity>,
}

/// A line of `rows.jsonl`.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Row {
    TeacherForced(ForcedRow),
    FreeRunning(RunningRow),
}

pub(super) fn run(args: &EvalArgs, progress: ProgressMode) -> anyhow::Result<()> {
    // Before minutes of computing, not after.
    let folder = args.out.as_deref().map(ResultFolder::create).transpose()?;
    let known = args.answers.as_deref().map(KnownAnswers::read).transpose()?.unwrap_or_default();
    let subject = Subject::prepare(&args.model, &args.shape, progress)?;
    let options = subject.options(&args.engine)?;
    let mut report = Report::about(&subject);
    let mut rows = Vec::new();
    if let Some(path) = &args.prompts {
        let answers = answers(args, path, &subject, &options, &known, progress)?;
        if let Some(folder) = &folder {
            folder.write("answers.jsonl", &answers.to_lines()?)?;
        }
        (report.answers, report.too_long) = (answers.answers.len(), answers.too_long);
        let records = evidence::observe(&subject.edge, &options, &answers.texts(), progress)?;
        report.teacher_forced = records.iter().map(|record| ExitSummary::of(record, &args.thresholds)).collect();
        rows.extend(records.iter().flat_map(forced::rows).map(Row::TeacherForced));
        if let Some(folder) = &folder {
            forced::write_charts(&records, folder)?;
        }
        let running = running::measure(args, &subject, &options, &answers, progress)?;
        report.free_running = running::summarize(&running);
        rows.extend(running.into_iter().map(Row::FreeRunning));
    }
    if let Some(path) = &args.text {
        report.perplexity = Some(perplexity::measure(path, &subject, &options, progress)?);
    }
    if let Some(folder) = &folder {
        folder.write_rows(&rows)?;
        folder.write_summary(&report)?;
    }
    if args.json {
        ui::print::line(serde_json::to_string_pretty(&report)?)?;
    } else {
        ui::print::line(report::render(&report))?;
    }
    Ok(())
}

fn answers(
    args: &EvalArgs,
    path: &Path,
    subject: &Subject,
    options: &LoadOptions,
    known: &KnownAnswers,
    progress: ProgressMode,
) -> anyhow::Result<WholeAnswers> {
    let prompts = prompts::read(path, args.category.as_deref(), args.limit as usize)?;
    WholeAnswers::make(subject, options, prompts, args.max_tokens, known, progress)
}

impl Report {
    fn about(subject: &Subject) -> Self {
        let exits_sha256 = match subject.edge.holding() {
            collm_model::Holding::Edge(part) => part.exits_sha256.map(|digest| digest.to_string()),
            _ => None,
        };
        Self {
            model: subject.scene.model.reference.to_string(),
            model_sha256: subject.digest.to_string(),
            upload_at: subject.scene.upload_at,
            tail: subject.edge.holding().tail().to_vec(),
            exits_sha256,
            answers: 0,
            too_long: 0,
            teacher_forced: Vec::new(),
            free_running: Vec::new(),
            perplexity: None,
        }
    }
}
