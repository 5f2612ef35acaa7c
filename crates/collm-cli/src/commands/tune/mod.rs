//! `collm tune`: text by the model itself, and what it tells about tails.

mod fit;
mod frontier;

use std::{fs, path::Path, sync::Arc, thread};

use anyhow::{Context as _, ensure};
use collm_ggml::Threads;
use collm_model::{Digest, ExitsFile, Holding, ModelFile, gguf::TensorType};
use collm_tune::{
    Corpus, Teacher, TeacherOptions,
    corpus::CorpusWriter,
    cost::CostModel,
    dialogue::Dialogue,
    search::{self, SearchOptions, TailScore},
    text::{self, TextOptions},
};

use crate::{
    args::TuneArgs,
    failure::usage,
    models::{self, Located},
    parts, prompts,
    ui::{self, progress::ProgressMode},
};

/// Rounds in which costs are measured.
const COST_ROUNDS: usize = 15;

/// Positions that every tail is tried on before the promising ones are judged.
const POSITIONS_FIRST: usize = 600;

/// The search ends at the tails that cost this share of what was asked for: a little beyond, to see what less would give.
const COST_MARGIN: f64 = 0.9;

/// What is tuned.
struct Subject {
    model: Located,
    file: Arc<ModelFile>,
    digest: Digest,
    upload_at: u32,
    threads: Threads,
    /// Exits of which something is to be fitted anew.
    refitted: Option<ExitsFile>,
}

pub(super) fn run(args: &TuneArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let subject = Subject::settle(args, progress)?;
    let dialogue = Dialogue::of_model(&subject.file)?;
    write_text(args, &subject, &dialogue, progress)?;
    let corpus = Corpus::read(&args.work, &subject.digest)?;
    if let Some(out) = &args.out {
        return fit::run(args, &subject, &corpus, out, progress);
    }
    if !args.search_tail && args.tail.is_none() {
        return Ok(());
    }
    let cost = measure_cost(args, &subject, progress)?;
    let scores = match &args.tail {
        Some(tail) => vec![search::judge(&subject.file, &corpus, &search_options(args, &subject, 0), &tail.0)?],
        None => search_tail(args, &subject, (&corpus, &cost), progress)?,
    };
    let points = frontier::points(&scores, &cost, subject.check_share(args));
    ui::print::line(format_args!("\n{}", frontier::table(&points)))?;
    if args.search_tail {
        frontier::write(&args.work, &subject.model.reference.to_string(), &points)?;
        ui::print::line(format_args!("\n{}", frontier::recommend(&points, subject.upload_at, args.edge_cost)))?;
    }
    Ok(())
}

impl Subject {
    fn settle(args: &TuneArgs, progress: ProgressMode) -> anyhow::Result<Self> {
        let model = models::locate(&args.model, progress)?;
        let file = Arc::new(models::open(&model.path)?);
        ensure!(*file.holding() == Holding::Whole, "{} is a part; name the whole model", model.path.display());
        let refitted = args.refit.as_deref().map(ExitsFile::open).transpose()?;
        let of_exits = refitted.as_ref().map(|exits| exits.cut().upload_at);
        let of_preset = || model.alias().map(|alias| alias.preset().upload_at);
        let Some(upload_at) = of_exits.or(args.upload_at).or_else(of_preset) else {
            return usage(format!("{} has no preset; say after which layer to upload: --upload-at N", model.reference));
        };
        let digest = parts::digest(&file, progress);
        let available = thread::available_parallelism().map_or(1, usize::from);
        let threads = Threads::unbound(args.threads.map_or(available, |threads| threads as usize));
        if let Some(exits) = &refitted {
            exits.check(file.hyperparameters(), digest)?;
        }
        Ok(Self { model, file, digest, upload_at, threads, refitted })
    }

    /// How text is read: positions of a text at most, and the threads that read it.
    fn reading(&self) -> (usize, Threads) {
        (text::CONTEXT, self.threads.clone())
    }

    /// What an exit's check costs, as a share of the LM head: by the products that it makes.
    fn check_share(&self, args: &TuneArgs) -> f64 {
        let h = self.file.hyperparameters();
        let length = args.shortlist.min(h.vocabulary);
        f64::from(args.shortlist_rank) / f64::from(h.width) + f64::from(length) / f64::from(h.vocabulary)
    }
}

fn write_text(args: &TuneArgs, subject: &Subject, dialogue: &Dialogue, progress: ProgressMode) -> anyhow::Result<()> {
    let mut corpus = CorpusWriter::open(&args.work, &subject.digest, args.seed)?;
    if corpus.answer_tokens() >= args.tokens {
        return Ok(());
    }
    let prompts = match &args.prompts {
        Some(path) => prompts::read(path, None, usize::MAX)?.into_iter().map(|asked| asked.prompt).collect(),
        None => Vec::new(),
    };
    let options = TeacherOptions {
        upload_at: subject.upload_at,
        slots: args.at_once as usize,
        context: text::CONTEXT,
        threads: subject.threads.clone(),
    };
    let mut teacher = Teacher::load(&subject.file, &options)?;
    let options = TextOptions { tokens: args.tokens, seed: args.seed, prompts };
    let mut step = progress.step("writing text");
    let mut show = |now: &text::TextProgress| step.count(now.tokens.min(now.tokens_wanted), now.tokens_wanted);
    let report = text::write(&mut teacher, dialogue, &mut corpus, &options, &mut show)?;
    let rate = report.tokens_now as f64 / report.elapsed.as_secs_f64();
    step.done(&format!("({} tokens, {rate:.0} a second) took", report.tokens_now));
    Ok(())
}

fn measure_cost(args: &TuneArgs, subject: &Subject, progress: ProgressMode) -> anyhow::Result<CostModel> {
    let step = progress.step("measuring costs");
    let requantized = args.tail_type.as_deref().map(|ty| requantized(&args.work, &subject.file, ty)).transpose()?;
    let tail = requantized.as_ref().unwrap_or(&subject.file);
    let cost = CostModel::measure(&subject.file, tail, subject.upload_at, COST_ROUNDS)?;
    step.done("took");
    Ok(cost)
}

/// The model with matrices of another type, to measure them. Mapped, so that the file can go at once.
fn requantized(work: &Path, file: &ModelFile, ty: &str) -> anyhow::Result<Arc<ModelFile>> {
    let ty: TensorType = ty.parse().context("--tail-type is not usable")?;
    let path = work.join("requantized.gguf");
    collm_bench::requantized::write(file, ty, &path)?;
    let file = models::open(&path)?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(Arc::new(file))
}

fn search_tail(
    args: &TuneArgs,
    subject: &Subject,
    (corpus, cost): (&Corpus, &CostModel),
    progress: ProgressMode,
) -> anyhow::Result<Vec<TailScore>> {
    let layers = (subject.file.hyperparameters().layers - subject.upload_at) as usize;
    let check = subject.check_share(args);
    let enough = |&length: &usize| cost.edge_share(length, check) <= COST_MARGIN * args.edge_cost;
    let layers_min = (0..layers).rev().find(enough).unwrap_or(0);
    let mut step = progress.step("searching tails");
    let options = search_options(args, subject, layers_min);
    let scores = search::search(&subject.file, corpus, &options, &mut |now| {
        step.count((1000.0 * now.done) as usize, 1000);
    })?;
    step.done("took");
    Ok(scores)
}

fn search_options(args: &TuneArgs, subject: &Subject, layers_min: usize) -> SearchOptions {
    SearchOptions {
        upload_at: subject.upload_at,
        beam: args.beam as usize,
        positions: args.positions,
        positions_first: POSITIONS_FIRST,
        layers_min,
        threads: subject.threads.clone(),
    }
}
