//! Our engine against llama.cpp, alternating on the same files with the same threads.
//!
//! Both read a prompt of 128 and of 512 tokens and score its last one, then decode 64 tokens one by one, each with its logits
//! and its most likely token. A machine's speed drifts, so what counts is the ratio within a pair of neighbours in time, and
//! of those the median.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use collm_core::ids::{Position, SlotId, TokenId};
use collm_engine::{Engine, Head, Input, Row, Scope, Scores, Stack};
use collm_ggml::oracle::{Oracle, OracleOptions};
use collm_ggml::{GgmlEngine, LoadOptions, Threads};
use collm_model::ModelFile;
use serde::Serialize;

/// Positions that both sides have room for: the longest prompt and what is decoded after the shorter one.
const CONTEXT: usize = 1024;

/// Rows computed at once by both sides.
const BATCH_ROWS: usize = 512;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Models, each for itself.
    pub subjects: Vec<Subject>,
    /// Numbers of threads, each for itself.
    pub threads: Vec<usize>,
    /// Pairs measured of each.
    pub rounds: usize,
}

/// A model to measure.
#[derive(Debug, Clone)]
pub struct Subject {
    /// For people, for example `smollm2-135m q4_1`.
    pub name: String,
    /// The whole model that our engine runs.
    pub ours: PathBuf,
    /// The whole model that llama.cpp runs: the same file, or what ours was requantised from.
    pub llama_cpp: PathBuf,
}

/// What both sides do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "tokens")]
pub enum Task {
    /// Reads a prompt of so many tokens in one call.
    Prefill(usize),
    /// Decodes so many tokens one by one, after a prompt of 128.
    Decode(usize),
}

impl Task {
    /// In the order they are measured.
    pub const ALL: [Self; 3] = [Self::Prefill(512), Self::Prefill(128), Self::Decode(64)];

    fn tokens(self) -> usize {
        match self {
            Self::Prefill(tokens) | Self::Decode(tokens) => tokens,
        }
    }

    /// The smallest ratio that this project is content with.
    pub fn ratio_expected(self) -> f64 {
        match self {
            Self::Prefill(_) => 0.95,
            Self::Decode(_) => 1.0,
        }
    }
}

/// One pair.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// Name of the subject.
    pub subject: String,
    /// Threads of each side.
    pub threads: usize,
    /// What was done.
    pub task: Task,
    /// From 0.
    pub round: usize,
    /// Our tokens a second.
    pub ours_tokens_per_second: f64,
    /// llama.cpp's tokens a second.
    pub llama_cpp_tokens_per_second: f64,
}

/// The pairs of one task on one subject, summarised.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Name of the subject.
    pub subject: String,
    /// Threads of each side.
    pub threads: usize,
    /// What was done.
    pub task: Task,
    /// Median of our tokens a second.
    pub ours_tokens_per_second: f64,
    /// Median of llama.cpp's tokens a second.
    pub llama_cpp_tokens_per_second: f64,
    /// Median of the ratios within pairs, ours to llama.cpp's.
    pub ratio: f64,
    /// See [`Task::ratio_expected`].
    pub ratio_expected: f64,
}

/// Everything measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One for each subject, number of threads and task.
    pub summaries: Vec<Summary>,
    /// What the summaries are computed from, in the order measured.
    pub pairs: Vec<Pair>,
}

/// Measures, and calls `progress` with each pair.
///
/// # Errors
/// When a model cannot be loaded or run.
pub fn compare(options: &Options, mut progress: impl FnMut(&Pair)) -> anyhow::Result<Report> {
    let mut report = Report { summaries: Vec::new(), pairs: Vec::new() };
    for subject in &options.subjects {
        for threads in options.threads.iter().copied() {
            let pairs = compare_one(subject, threads, options.rounds, &mut progress)?;
            report.summaries.extend(Task::ALL.iter().filter_map(|task| summarise(&pairs, *task)));
            report.pairs.extend(pairs);
        }
    }
    Ok(report)
}

fn compare_one(
    subject: &Subject,
    threads: usize,
    rounds: usize,
    progress: &mut impl FnMut(&Pair),
) -> anyhow::Result<Vec<Pair>> {
    let mut ours = Ours::load(&subject.ours, threads)?;
    let mut llama_cpp = LlamaCpp::load(&subject.llama_cpp, threads)?;
    let prompt = prompt(BATCH_ROWS, ours.engine.shape().vocabulary);
    // The first pass reads weights from the file and takes memory; it is not measured.
    let sides: [&mut dyn Side; 2] = [&mut ours, &mut llama_cpp];
    for side in sides {
        for task in Task::ALL {
            measure(side, task, &prompt)?;
        }
    }
    let mut pairs = Vec::new();
    for round in 0..rounds {
        for task in Task::ALL {
            let pair = Pair {
                subject: subject.name.clone(),
                threads,
                task,
                round,
                ours_tokens_per_second: measure(&mut ours, task, &prompt)?,
                llama_cpp_tokens_per_second: measure(&mut llama_cpp, task, &prompt)?,
            };
            progress(&pair);
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

/// Tokens a second.
fn measure(side: &mut dyn Side, task: Task, prompt: &[TokenId]) -> anyhow::Result<f64> {
    side.clear();
    let started = match task {
        Task::Prefill(tokens) => {
            let started = Instant::now();
            side.decode(&prompt[..tokens])?;
            started
        }
        Task::Decode(tokens) => {
            let mut next = side.decode(&prompt[..128])?;
            let started = Instant::now();
            for _ in 0..tokens {
                next = side.decode(&[next])?;
            }
            started
        }
    };
    Ok(task.tokens() as f64 / started.elapsed().as_secs_f64())
}

fn summarise(pairs: &[Pair], task: Task) -> Option<Summary> {
    let of_task = || pairs.iter().filter(move |pair| pair.task == task);
    let first = of_task().next()?;
    Some(Summary {
        subject: first.subject.clone(),
        threads: first.threads,
        task,
        ours_tokens_per_second: median(of_task().map(|pair| pair.ours_tokens_per_second)),
        llama_cpp_tokens_per_second: median(of_task().map(|pair| pair.llama_cpp_tokens_per_second)),
        ratio: median(of_task().map(|pair| pair.ours_tokens_per_second / pair.llama_cpp_tokens_per_second)),
        ratio_expected: task.ratio_expected(),
    })
}

/// Of an even number, the mean of the middle two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] }
}

/// Who is measured.
trait Side {
    fn clear(&mut self);
    /// Appends tokens and returns the most likely next one.
    fn decode(&mut self, tokens: &[TokenId]) -> anyhow::Result<TokenId>;
}

struct Ours {
    engine: GgmlEngine,
    length: usize,
    rows: Vec<Row>,
    middle: Vec<f32>,
    hidden: Vec<f32>,
    scores: Scores,
}

impl Ours {
    fn load(path: &Path, threads: usize) -> anyhow::Result<Self> {
        let file = Arc::new(ModelFile::open(path)?);
        let options = LoadOptions {
            context: CONTEXT,
            batch_rows_max: BATCH_ROWS,
            threads: Threads::unbound(threads),
            ..LoadOptions::default()
        };
        let engine = GgmlEngine::load(&file, &options)?;
        let (rows, middle, hidden, scores) = Default::default();
        Ok(Self { engine, length: 0, rows, middle, hidden, scores })
    }
}

impl Side for Ours {
    fn clear(&mut self) {
        self.engine.truncate(SlotId(0), 0);
        self.length = 0;
    }

    fn decode(&mut self, tokens: &[TokenId]) -> anyhow::Result<TokenId> {
        let positions = self.length..self.length + tokens.len();
        self.length = positions.end;
        self.rows.clear();
        self.rows.extend(positions.map(|position| Row { slot: SlotId(0), position: Position(position as u32) }));
        self.engine.run(Stack::Lower, &self.rows, Input::Tokens(tokens), &mut self.middle)?;
        self.engine.run(Stack::Upper, &self.rows, Input::Hidden(&self.middle), &mut self.hidden)?;
        let last = self.hidden.len() - self.engine.shape().width;
        self.engine.score(Head::Final, Scope::Full, &self.hidden[last..], &mut self.scores)?;
        Ok(most_likely(&self.scores.logits))
    }
}

struct LlamaCpp(Oracle);

impl LlamaCpp {
    fn load(path: &Path, threads: usize) -> anyhow::Result<Self> {
        let options = OracleOptions {
            context: CONTEXT as u32,
            batch_rows: BATCH_ROWS as u32,
            threads: u32::try_from(threads)?,
            repack: true,
        };
        Ok(Self(Oracle::load(path, options)?))
    }
}

impl Side for LlamaCpp {
    fn clear(&mut self) {
        self.0.clear();
    }

    fn decode(&mut self, tokens: &[TokenId]) -> anyhow::Result<TokenId> {
        Ok(most_likely(self.0.decode(tokens)?))
    }
}

fn most_likely(logits: &[f32]) -> TokenId {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    TokenId(best as u32)
}

/// Text without meaning: what is read does not change how long it takes.
fn prompt(length: usize, vocabulary: usize) -> Vec<TokenId> {
    (0..length).map(|index| TokenId((index * 7919 % vocabulary) as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use collm_model::Architecture;
    use collm_model::gguf::TensorType;
    use collm_model::synthetic::SyntheticModel;

    #[test]
    fn the_median_of_even_numbers_is_between() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn a_comparison_measures_every_task_on_a_requantised_model() {
        let folder = tempfile::tempdir().unwrap();
        let [original, ours] = ["original.gguf", "q4_0.gguf"].map(|name| folder.path().join(name));
        SyntheticModel { metadata: vec![], ..SyntheticModel::new(Architecture::Llama) }.write(&original).unwrap();
        crate::requantized::write(&ModelFile::open(&original).unwrap(), TensorType::Q4_0, &ours).unwrap();
        let subject = Subject { name: "small".into(), ours, llama_cpp: original };
        let options = Options { subjects: vec![subject], threads: vec![1], rounds: 2 };
        let mut seen = 0;
        let report = compare(&options, |_| seen += 1).unwrap();
        assert_eq!((report.pairs.len(), seen), (6, 6));
        assert_eq!(report.summaries.len(), 3);
        assert!(report.summaries.iter().all(|summary| summary.ratio > 0.0));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["summaries"][0]["task"], serde_json::json!({"kind": "prefill", "tokens": 512}));
    }
}
