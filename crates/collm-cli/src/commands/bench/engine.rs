//! `collm bench engine`: our engine against llama.cpp.

use std::path::Path;

use anyhow::Context as _;
use collm_bench::engine::{Options, Pair, Report, Subject, Summary, Task, compare};
use collm_model::{ModelFile, gguf::TensorType};
use tempfile::TempDir;

use super::converted;
use crate::{
    args::BenchEngineArgs,
    models::{self, Located},
    results::ResultFolder,
    ui::{
        self,
        colour::{GOOD, Painted, WARNING},
        progress::ProgressMode,
        table,
    },
};

pub(super) fn run(args: &BenchEngineArgs, progress: ProgressMode) -> anyhow::Result<()> {
    // Before minutes of measuring, not after.
    let folder = args.out.as_deref().map(ResultFolder::create).transpose()?;
    let model = models::locate(&args.model, progress)?;
    let converted = tempfile::tempdir().context("no room for converted models")?;
    let report = measure(args, subjects(args, &model, &converted, progress)?, progress)?;
    if let Some(folder) = folder {
        folder.write_rows(&report.pairs)?;
        folder.write_summary(&report.summaries)?;
    }
    if args.json {
        ui::print::line(serde_json::to_string_pretty(&report)?)?;
    } else {
        ui::print::line(render(&report))?;
    }
    Ok(())
}

fn measure(args: &BenchEngineArgs, subjects: Vec<Subject>, progress: ProgressMode) -> anyhow::Result<Report> {
    let threads = args.threads.iter().map(|threads| *threads as usize).collect();
    let options = Options { subjects, threads, rounds: args.pairs as usize };
    let mut step = progress.step("measuring");
    let report = compare(&options, |pair| step.now(&now_at(pair)))?;
    step.done("took");
    Ok(report)
}

/// The model as it is, then in each type asked for.
fn subjects(
    args: &BenchEngineArgs,
    model: &Located,
    folder: &TempDir,
    progress: ProgressMode,
) -> anyhow::Result<Vec<Subject>> {
    let original =
        Subject { name: model.reference.to_string(), ours: model.path.clone(), llama_cpp: model.path.clone() };
    let file = models::open(&model.path)?;
    let mut subjects = vec![original];
    for ty in &args.also {
        subjects.push(convert(&file, *ty, args.against_original, folder.path(), progress)?);
    }
    Ok(subjects)
}

fn convert(
    file: &ModelFile,
    ty: TensorType,
    against_original: bool,
    folder: &Path,
    progress: ProgressMode,
) -> anyhow::Result<Subject> {
    let path = converted::write(file, ty, folder, progress)?;
    let (name, llama_cpp) = match against_original {
        true => (format!("as {ty}, llama.cpp on the original"), file.path().to_owned()),
        false => (format!("as {ty}"), path.clone()),
    };
    Ok(Subject { name, ours: path, llama_cpp })
}

fn now_at(pair: &Pair) -> String {
    format!("{}, {} threads, {}, pair {}", pair.subject, pair.threads, task_name(pair.task), pair.round + 1)
}

fn render(report: &Report) -> String {
    let header = ["file", "task", "threads", "ours tok/s", "llama.cpp tok/s", "ratio", "expected"];
    table::numbers(&header, report.summaries.iter().map(row))
}

fn row(summary: &Summary) -> Vec<String> {
    let style = if summary.ratio >= summary.ratio_expected { GOOD } else { WARNING };
    vec![
        summary.subject.clone(),
        task_name(summary.task),
        summary.threads.to_string(),
        format!("{:.0}", summary.ours_tokens_per_second),
        format!("{:.0}", summary.llama_cpp_tokens_per_second),
        Painted(style, format!("{:.2}", summary.ratio)).to_string(),
        format!("{:.2}", summary.ratio_expected),
    ]
}

fn task_name(task: Task) -> String {
    match task {
        Task::Prefill(tokens) => format!("prefill {tokens}"),
        Task::Decode(tokens) => format!("decode {tokens}"),
    }
}
