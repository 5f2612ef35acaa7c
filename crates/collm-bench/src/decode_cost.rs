//! What a decoded position costs an edge part, as a share of what it costs the whole model.
//!
//! Both decode the same positions in turn: `[0, e1)`, the second stage and the check of the last head, each over the same positions
//! of their contexts. A machine's speed drifts, so what counts is the ratio within a pair of neighbours in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use collm_core::edge::{Batch, Job, SecondStage, Stage};
use collm_core::ids::{Position, SessionId, SlotId, TokenId};
use collm_core::policy::Scope;
use collm_core::sampling::{Sampling, Scoring};
use collm_exec::{EdgeExecutor, Judges};
use collm_ggml::{GgmlEngine, LoadOptions, Threads};
use collm_model::{Holding, ModelFile};
use serde::Serialize;

/// Positions before the first that is measured.
const PROMPT: usize = 128;

/// Positions measured at once: enough for a clock, few enough for neighbours in time.
const POSITIONS: usize = 16;

const SLOT: SlotId = SlotId(0);

/// What an edge part's decoding costs.
#[derive(Debug, Clone, Serialize)]
pub struct CostReport {
    /// The edge part's time as a share of the whole model's: median over the rounds.
    pub ratio: f64,
    /// Lower and upper quartile of the share.
    pub quartiles: [f64; 2],
    /// Median time of a position of the whole model, in microseconds.
    pub whole_us: f64,
    /// Median time of a position of the edge part, in microseconds.
    pub edge_us: f64,
    /// Pairs measured.
    pub rounds: usize,
}

/// Somebody who decodes, one position after the other.
pub struct Decoder {
    executor: EdgeExecutor<GgmlEngine>,
    scope: Scope,
    vocabulary: usize,
    length: usize,
}

/// Measures the edge part `edge` with its checks judged by `judges` against the model `whole` that it was cut from, in one run, each
/// pair after the other.
///
/// # Errors
/// When a file cannot be loaded or run.
pub fn edge_cost(
    whole: &Arc<ModelFile>,
    edge: &Arc<ModelFile>,
    judges: Judges,
    threads: &Threads,
    rounds: usize,
) -> anyhow::Result<CostReport> {
    anyhow::ensure!(rounds > 0, "nothing can be measured in no rounds");
    let mut whole = Decoder::load(whole, Judges::default(), threads)?;
    let mut edge = Decoder::load(edge, judges, threads)?;
    // The first pass reads weights from the file and takes memory; it is not measured.
    whole.time_positions()?;
    edge.time_positions()?;
    let pairs = (0..rounds).map(|_| Ok([whole.time_positions()?, edge.time_positions()?]));
    let pairs: Vec<[f64; 2]> = pairs.collect::<anyhow::Result<_>>()?;
    let ratios = Sorted::new(pairs.iter().map(|[whole, edge]| edge / whole));
    Ok(CostReport {
        ratio: ratios.quantile(0.5),
        quartiles: [0.25, 0.75].map(|share| ratios.quantile(share)),
        whole_us: Sorted::new(pairs.iter().map(|pair| pair[0])).quantile(0.5),
        edge_us: Sorted::new(pairs.iter().map(|pair| pair[1])).quantile(0.5),
        rounds,
    })
}

impl Decoder {
    /// A whole model, which scores all of its vocabulary, or an edge part, which checks exit 2 as it does beside a cloud.
    ///
    /// # Errors
    /// When the file cannot be loaded.
    pub fn load(file: &Arc<ModelFile>, judges: Judges, threads: &Threads) -> anyhow::Result<Self> {
        let (second, scope) = match file.holding() {
            Holding::Whole => (SecondStage::Whole, Scope::Full),
            Holding::Edge(_) => (SecondStage::Tail, Scope::Shortlist),
            Holding::Cloud(_) => anyhow::bail!("a cloud part cannot decode by itself"),
        };
        let context = PROMPT + POSITIONS;
        let options =
            LoadOptions { context, batch_rows_max: context, threads: threads.clone(), ..LoadOptions::default() };
        let engine = GgmlEngine::load(file, &options)?;
        let vocabulary = file.hyperparameters().vocabulary as usize;
        let executor = EdgeExecutor::new(engine, second).judged_by(judges);
        let mut decoder = Self { executor, scope, vocabulary, length: 0 };
        decoder.advance(PROMPT)?;
        Ok(decoder)
    }

    /// Decodes some positions one by one and forgets them again. The time of one, in microseconds.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn time_positions(&mut self) -> anyhow::Result<f64> {
        let mut taken = Duration::ZERO;
        for _ in 0..POSITIONS {
            let started = Instant::now();
            self.advance(1)?;
            taken += started.elapsed();
        }
        self.length = PROMPT;
        self.executor.truncate(SLOT, PROMPT as u32);
        Ok(taken.as_secs_f64() * 1e6 / POSITIONS as f64)
    }

    /// Text without meaning, for it does not change how long it takes; the last position is checked.
    fn advance(&mut self, rows: usize) -> anyhow::Result<()> {
        let first = Position(u32::try_from(self.length)?);
        let positions = self.length..self.length + rows;
        self.length = positions.end;
        let tokens = positions.map(|index| TokenId((index * 7919 % self.vocabulary) as u32)).collect();
        let stage = Stage::First { tokens, upload: None };
        self.run(Job { slot: SLOT, first, scores: Vec::new(), scope: Scope::Full, stage })?;
        let last = Position(u32::try_from(self.length - 1)?);
        let scores = vec![Scoring::alone(last, Sampling::GREEDY)];
        let stage = Stage::Second { rows: u32::try_from(rows)? };
        self.run(Job { slot: SLOT, first, scores, scope: self.scope, stage })
    }

    fn run(&mut self, job: Job) -> anyhow::Result<()> {
        let batch = Batch { jobs: vec![(SessionId(0), job)] };
        for result in self.executor.run(&batch) {
            result?;
        }
        Ok(())
    }
}

/// Numbers in rising order, at least one.
struct Sorted(Vec<f64>);

impl Sorted {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Between neighbours in proportion.
    fn quantile(&self, share: f64) -> f64 {
        let place = share * (self.0.len() - 1) as f64;
        let (below, above) = (self.0[place.floor() as usize], self.0[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }
}

#[cfg(test)]
mod tests {
    use collm_model::Architecture;
    use collm_model::split::{SplitOptions, plan};
    use collm_model::synthetic::SyntheticModel;

    use super::*;

    #[test]
    fn quantiles_are_between_neighbours() {
        let sorted = Sorted::new([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|share| sorted.quantile(share)), [1.0, 1.75, 2.5, 4.0]);
    }

    #[test]
    fn a_part_is_measured_against_its_whole() {
        let folder = tempfile::tempdir().unwrap();
        let [source, edge, cloud] = ["source", "edge", "cloud"].map(|name| folder.path().join(name));
        SyntheticModel::new(Architecture::Llama).write(&source).unwrap();
        let whole = Arc::new(ModelFile::open(&source).unwrap());
        let cut = SplitOptions { upload_at: 2, tail: vec![5], exit1: false, requantize: None, exits: None };
        plan(&whole, &cut, &mut |_| ()).unwrap().write(&edge, &cloud, None, &mut |_| ()).unwrap();
        let edge = Arc::new(ModelFile::open(&edge).unwrap());
        let threads = Threads::unbound(1);
        let report = edge_cost(&whole, &edge, Judges::default(), &threads, 3).unwrap();
        assert_eq!(report.rounds, 3);
        assert!(report.ratio > 0.0 && report.quartiles[0] <= report.ratio && report.ratio <= report.quartiles[1]);
        let cloud = Arc::new(ModelFile::open(&cloud).unwrap());
        assert!(edge_cost(&whole, &cloud, Judges::default(), &threads, 1).is_err());
    }
}
