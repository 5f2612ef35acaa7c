//! `collm tune`: text by the model itself, what it tells about tails, and exits fitted to it.

mod first_exit;
mod fit;
mod frontier;
mod learn;

use std::{fs, path::Path, sync::Arc, thread};

use anyhow::{Context as _, bail, ensure};
use collm_ggml::Threads;
use collm_model::{Digest, ExitNumber, ExitsFile, Holding, ModelFile, gguf::TensorType};
use collm_stats::Target;
use collm_tune::{
    Corpus, Teacher, TeacherOptions,
    corpus::CorpusWriter,
    cost::CostModel,
    dialogue::Dialogue,
    search::{self, SearchOptions},
    text::{self, TextOptions},
};

use crate::{
    args::{SURE, TuneArgs},
    failure::{Usage, usage},
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

/// A model that is being tuned, by the text that it wrote.
#[derive(Clone, Copy)]
struct Tuning<'a> {
    args: &'a TuneArgs,
    subject: &'a Subject,
    corpus: &'a Corpus,
    cost: &'a CostModel,
    progress: ProgressMode,
}

/// What is tuned.
struct Subject {
    model: Located,
    file: Arc<ModelFile>,
    digest: Digest,
    upload_at: u32,
    threads: Threads,
    /// Exits of which something is to be fitted anew.
    refitted: Option<ExitsFile>,
    /// Type of the tail's matrices. `None`: as in the model.
    tail_type: Option<TensorType>,
}

pub(super) fn run(args: &TuneArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let subject = Subject::settle(args, progress)?;
    let dialogue = Dialogue::of_model(&subject.file)?;
    write_text(args, &subject, &dialogue, progress)?;
    let corpus = Corpus::read(&args.work, &subject.digest)?;
    if !args.search_tail && args.tail.is_none() && args.refit.is_none() {
        return Ok(());
    }
    let cost = measure_cost(args, &subject, progress)?;
    let tuning = Tuning { args, subject: &subject, corpus: &corpus, cost: &cost, progress };
    let tail = if args.search_tail { tuning.search_tail()? } else { subject.named_tail(args) };
    match (&args.out, tail) {
        (Some(out), Some(tail)) => tuning.fit(tail, out),
        (Some(_), None) => bail!("there is no tail to fit exits to"),
        (None, Some(tail)) if !args.search_tail => tuning.judge(&tail),
        (None, _) => Ok(()),
    }
}

impl Subject {
    fn settle(args: &TuneArgs, progress: ProgressMode) -> anyhow::Result<Self> {
        // Before hours of work, not after them.
        Target::new(args.target_agreement, SURE).map_err(|error| Usage(error.to_string()))?;
        let model = models::locate(&args.model, progress)?;
        let file = Arc::new(models::open(&model.path)?);
        let width = file.hyperparameters().width;
        if args.shortlist_rank > width {
            return usage(format!("--shortlist-rank {} is above the model's width, {width}", args.shortlist_rank));
        }
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
        let named_type = args.tail_type.as_deref().map(str::parse).transpose().context("--tail-type is not usable")?;
        let tail_type = named_type.or_else(|| refitted.as_ref().and_then(|exits| exits.cut().tail_type));
        Ok(Self { model, file, digest, upload_at, threads, refitted, tail_type })
    }

    /// The tail that somebody asked for, or that is fitted already.
    fn named_tail(&self, args: &TuneArgs) -> Option<Vec<u32>> {
        let refitted = || self.refitted.as_ref().map(|exits| exits.cut().tail.clone());
        args.tail.as_ref().map(|tail| tail.0.clone()).or_else(refitted)
    }

    /// The model, with room for so many texts at once.
    fn teacher(&self, slots: usize) -> anyhow::Result<Teacher> {
        let (context, threads) = self.reading();
        let options = TeacherOptions { upload_at: self.upload_at, slots, context, threads };
        Ok(Teacher::load(&self.file, &options)?)
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

    /// What the map and the MLP of an exit's head cost, as the same share.
    fn head_share(&self, exits: &ExitsFile, exit: ExitNumber) -> f64 {
        let h = self.file.hyperparameters();
        let tensor = |suffix| exits.gguf().tensor(&exit.tensor(suffix));
        let matrices = ["map.weight", "mlp.up.weight", "mlp.down.weight"].into_iter().filter_map(tensor);
        let values: u64 = matrices.map(|matrix| matrix.dims.iter().product::<u64>()).sum();
        values as f64 / (f64::from(h.width) * f64::from(h.vocabulary))
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
    let mut teacher = subject.teacher(args.at_once as usize)?;
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
    let requantized = subject.tail_type.map(|ty| requantized(&args.work, &subject.file, ty)).transpose()?;
    let tail = requantized.as_ref().unwrap_or(&subject.file);
    let cost = CostModel::measure(&subject.file, tail, subject.upload_at, COST_ROUNDS)?;
    step.done("took");
    Ok(cost)
}

/// The model with matrices of another type, to measure them. Mapped, so that the file can go at once.
fn requantized(work: &Path, file: &ModelFile, ty: TensorType) -> anyhow::Result<Arc<ModelFile>> {
    let path = work.join("requantized.gguf");
    collm_bench::requantized::write(file, ty, &path)?;
    let file = models::open(&path)?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(Arc::new(file))
}

impl Tuning<'_> {
    /// Shows the tails that are worth having, and returns the best one that costs no more than was asked for.
    fn search_tail(&self) -> anyhow::Result<Option<Vec<u32>>> {
        let Self { args, subject, corpus, cost, progress } = *self;
        let layers = (subject.file.hyperparameters().layers - subject.upload_at) as usize;
        let check = subject.check_share(args);
        let enough = |&length: &usize| cost.edge_share(length, check) <= COST_MARGIN * args.edge_cost;
        let layers_min = (0..layers).rev().find(enough).unwrap_or(0);
        let mut step = progress.step("searching tails");
        let options = self.search_options(layers_min);
        let scores = search::search(&subject.file, corpus, &options, &mut |now| {
            step.count((1000.0 * now.done) as usize, 1000);
        })?;
        step.done("took");
        let points = frontier::points(&scores, cost, check);
        ui::print::line(format_args!("\n{}", frontier::table(&points)))?;
        frontier::write(&args.work, &subject.model.reference.to_string(), &points)?;
        let best = frontier::best(&points, args.edge_cost);
        ui::print::line(format_args!("\n{}", frontier::recommend(best, subject.upload_at, args.edge_cost)))?;
        Ok(best.map(|point| point.tail.clone()))
    }

    /// Shows what one tail is worth.
    fn judge(&self, tail: &[u32]) -> anyhow::Result<()> {
        let score = search::judge(&self.subject.file, self.corpus, &self.search_options(0), tail)?;
        let points = frontier::points(&[score], self.cost, self.subject.check_share(self.args));
        ui::print::line(format_args!("\n{}", frontier::table(&points)))?;
        Ok(())
    }

    fn search_options(&self, layers_min: usize) -> SearchOptions {
        SearchOptions {
            upload_at: self.subject.upload_at,
            beam: self.args.beam as usize,
            positions: self.args.positions,
            positions_first: POSITIONS_FIRST,
            layers_min,
            threads: self.subject.threads.clone(),
        }
    }
}
