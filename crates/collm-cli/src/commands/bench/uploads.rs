//! `collm bench uploads`: what the encodings of an upload cost, in bytes and in tokens.

use anyhow::Context as _;
use collm_bench::uploads::{BATCH_ROWS, UploadReader};
use collm_core::states::Encoding;
use collm_ggml::{GgmlEngine, LoadOptions};
use collm_stats::{Bootstrap, Interval};
use serde::Serialize;

use crate::{
    args::BenchUploadsArgs,
    commands::evidence::{KnownAnswers, Subject, WholeAnswers},
    nodes::EngineSettings,
    prompts,
    results::ResultFolder,
    ui::{self, progress::ProgressMode, table},
};

/// What the others are compared with: what the paper uploads.
const BASELINE: Encoding = Encoding::F16;

/// One answer in one encoding.
#[derive(Debug, Serialize)]
struct Row {
    prompt: usize,
    encoding: &'static str,
    positions: usize,
    /// Where another token than the whole model's was most likely; none if the encoding cannot carry the states.
    flips: Option<usize>,
}

/// All answers.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    model_sha256: String,
    /// Layers `[0, upload_at)` come before the upload.
    upload_at: u32,
    width: u32,
    answers: usize,
    /// Prompts left out because they do not fit the context.
    too_long: usize,
    positions: usize,
    encodings: Vec<Summary>,
}

/// One encoding.
#[derive(Debug, Serialize)]
struct Summary {
    encoding: &'static str,
    bytes_a_position: usize,
    /// Of what f16 takes.
    bytes_share: f64,
    /// Share of the positions; none if the encoding cannot carry the states of some answer, which `fault` then says.
    flips: Option<Figure>,
    /// More than f16 flips, over the same positions.
    more_than_f16: Option<Figure>,
    fault: Option<String>,
}

/// A share, and the 95 % interval over answers.
#[derive(Debug, Clone, Copy, Serialize)]
struct Figure {
    value: f64,
    low: f64,
    high: f64,
}

/// Flips and positions of each answer in one encoding.
type Counts = Vec<(f64, f64)>;

/// Flips and positions of each answer, or why the encoding cannot carry its states.
struct Measured {
    encoding: Encoding,
    counts: Result<Counts, String>,
}

pub(super) fn run(args: &BenchUploadsArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let folder = args.out.as_deref().map(ResultFolder::create).transpose()?;
    let known = args.answers.as_deref().map(KnownAnswers::read).transpose()?.unwrap_or_default();
    let subject = Subject::prepare(&args.model, &args.shape, progress)?;
    let prompts = prompts::read(&args.prompts, None, args.limit as usize)?;
    let options = subject.options(&args.engine)?;
    let answers = WholeAnswers::make(&subject, &options, prompts, args.max_tokens, &known, progress)?;
    if let Some(folder) = &folder {
        folder.write("answers.jsonl", &answers.to_lines()?)?;
    }
    let (measured, rows) = measure(args, &subject, &answers, progress)?;
    let report = Report::new(&subject, &answers, &measured);
    if let Some(folder) = &folder {
        folder.write_rows(&rows)?;
        folder.write_summary(&report)?;
    }
    if args.json {
        ui::print::line(serde_json::to_string_pretty(&report)?)?;
    } else {
        ui::print::line(render(&report))?;
    }
    Ok(())
}

fn measure(
    args: &BenchUploadsArgs,
    subject: &Subject,
    answers: &WholeAnswers,
    progress: ProgressMode,
) -> anyhow::Result<(Vec<Measured>, Vec<Row>)> {
    let mut step = progress.step("reading the answers in every encoding");
    let slots = Encoding::ALL.len() as u32;
    let options = EngineSettings::settle(&args.engine, &subject.whole)?.load_options(slots, BATCH_ROWS as u32);
    let options = LoadOptions { upload_at: Some(subject.scene.upload_at), ..options };
    let engine = GgmlEngine::load(&subject.whole, &options).context("cannot load the model")?;
    let mut reader = UploadReader::new(engine, &Encoding::ALL);
    let mut measured = Encoding::ALL.map(|encoding| Measured { encoding, counts: Ok(Vec::new()) });
    let mut rows = Vec::new();
    let texts = answers.texts();
    for (prompt, text) in texts.iter().enumerate() {
        step.count(prompt, texts.len());
        for (flips, measured) in reader.read(&text.prompt, &text.answer)?.into_iter().zip(&mut measured) {
            let positions = text.answer.len();
            let flips = flips.map(|flips| flips.into_iter().filter(|flip| *flip).count());
            rows.push(Row {
                prompt,
                encoding: measured.encoding.name(),
                positions,
                flips: flips.as_ref().ok().copied(),
            });
            match (&mut measured.counts, flips) {
                (Ok(counts), Ok(flips)) => counts.push((flips as f64, positions as f64)),
                (Ok(_), Err(error)) => measured.counts = Err(error.to_string()),
                (Err(_), _) => {}
            }
        }
    }
    step.done("took");
    Ok((measured.into(), rows))
}

impl Report {
    fn new(subject: &Subject, answers: &WholeAnswers, measured: &[Measured]) -> Self {
        let width = subject.whole.hyperparameters().width;
        let baseline = measured.iter().find(|measured| measured.encoding == BASELINE);
        let baseline = baseline.and_then(|measured| measured.counts.as_ref().ok());
        Self {
            model: subject.scene.model.reference.to_string(),
            model_sha256: subject.digest.to_string(),
            upload_at: subject.scene.upload_at,
            width,
            answers: answers.answers.len(),
            too_long: answers.too_long,
            positions: answers.answers.iter().map(|(_, answer)| answer.tokens.len()).sum(),
            encodings: measured.iter().map(|measured| Summary::new(measured, baseline, width)).collect(),
        }
    }
}

impl Summary {
    fn new(measured: &Measured, baseline: Option<&Counts>, width: u32) -> Self {
        let Measured { encoding, counts } = measured;
        let (counts, fault) = match counts {
            Ok(counts) => (Some(counts), None),
            Err(fault) => (None, Some(fault.clone())),
        };
        let bytes_a_position = encoding.row_bytes(width);
        let compared = counts.zip(baseline).filter(|_| *encoding != BASELINE);
        Self {
            encoding: encoding.name(),
            bytes_a_position,
            bytes_share: bytes_a_position as f64 / BASELINE.row_bytes(width) as f64,
            flips: counts.and_then(|counts| Bootstrap::default().ratio(counts)).map(Figure::from),
            more_than_f16: compared.and_then(|(counts, baseline)| difference(counts, baseline)).map(Figure::from),
            fault,
        }
    }
}

/// Paired: an answer is drawn for both or for none.
fn difference(counts: &Counts, baseline: &Counts) -> Option<Interval> {
    let more = |((flips, positions), (others, _)): (&(f64, f64), &(f64, f64))| (flips - others, *positions);
    Bootstrap::default().ratio(&counts.iter().zip(baseline).map(more).collect::<Vec<_>>())
}

impl From<Interval> for Figure {
    fn from(interval: Interval) -> Self {
        Self { value: interval.estimate, low: interval.low, high: interval.high }
    }
}

fn render(report: &Report) -> String {
    let percent = |figure: &Figure| {
        format!("{:.2} % ({:.2} to {:.2})", 100.0 * figure.value, 100.0 * figure.low, 100.0 * figure.high)
    };
    let rows = report.encodings.iter().map(|summary| {
        let or_dash = |figure: Option<Figure>| figure.as_ref().map_or_else(|| "–".to_owned(), percent);
        vec![
            summary.encoding.to_owned(),
            summary.bytes_a_position.to_string(),
            format!("{:.1} %", 100.0 * summary.bytes_share),
            or_dash(summary.flips),
            or_dash(summary.more_than_f16),
        ]
    });
    let header = ["encoding", "bytes a position", "of f16", "flips", "more than f16, in points"];
    let mut text = table::numbers(&header, rows);
    for summary in &report.encodings {
        if let Some(fault) = &summary.fault {
            text.push_str(&format!("\n{}: {fault}", summary.encoding));
        }
    }
    format!(
        "{text}\n\n{} positions of {} answers, upload after layer {}; in brackets 95 % intervals over answers",
        report.positions, report.answers, report.upload_at
    )
}
