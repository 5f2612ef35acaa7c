//! What decoding one position costs on this machine, step by step, so that parts which do not exist yet can be compared.
//!
//! Every step is measured in every round, so that a machine whose speed drifts is as slow for one as for the other; what counts is
//! each step's median. Deliberately absent: the cost of parts that do exist, which `collm-bench` measures as a whole.

use std::sync::Arc;
use std::time::Instant;

use collm_engine::{Engine, Head, Input, Position, Row, Scope, Scores, SlotId, Stack, TokenId};
use collm_ggml::{GgmlEngine, LoadOptions, Threads};
use collm_model::ModelFile;

use crate::TuneError;

/// Positions before those that are measured.
const DEPTH: usize = 128;

/// Positions measured in a round.
const POSITIONS: usize = 8;

const SLOT: SlotId = SlotId(0);

/// Times of the steps of one position, in microseconds, on one thread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostModel {
    /// Layers before the upload.
    pub lower_us: f64,
    /// All layers after it.
    pub upper_us: f64,
    /// Running any tail at all.
    pub tail_us: f64,
    /// Each layer of the tail.
    pub layer_us: f64,
    /// The share of its time that a position of the tail takes where several are computed at once.
    pub together: f64,
    /// The LM head over the whole vocabulary.
    pub head_us: f64,
}

impl CostModel {
    /// Measures a model. The tail's layers are those of `tail_source`: the model itself, or the model with its matrices in another
    /// type.
    ///
    /// # Errors
    /// When a model cannot be loaded or run.
    pub fn measure(
        whole: &Arc<ModelFile>,
        tail_source: &Arc<ModelFile>,
        upload_at: u32,
        rounds: usize,
    ) -> Result<Self, TuneError> {
        let mut model = Bench::load(whole, upload_at)?;
        let mut tail = Bench::load(tail_source, upload_at)?;
        let layers: Vec<u32> = (upload_at..whole.hyperparameters().layers).collect();
        let mut times: [Vec<f64>; 6] = Default::default();
        for round in 0..=rounds {
            let now = [
                model.stack(Stack::Lower, 1)?,
                model.stack(Stack::Upper, 1)?,
                model.head()?,
                tail.tail(&layers, 1)?,
                tail.tail(&layers, POSITIONS)?,
                tail.tail(&layers[..1], 1)?,
            ];
            // The first round takes memory and reads weights from the file.
            for (times, time) in times.iter_mut().zip(now).filter(|_| round > 0) {
                times.push(time);
            }
        }
        let [lower_us, upper_us, head_us, all, all_together, one] = times.map(median);
        let layer_us = ((all - one) / (layers.len().max(2) - 1) as f64).max(0.0);
        let tail_us = (one - layer_us).max(0.0);
        Ok(Self { lower_us, upper_us, head_us, layer_us, tail_us, together: all_together / all })
    }

    /// The whole model's time.
    pub fn whole_us(&self) -> f64 {
        self.lower_us + self.upper_us + self.head_us
    }

    /// The time of an edge part with a tail of so many layers, whose check costs a share `check` of the LM head: all steps, one after
    /// the other.
    pub fn edge_us(&self, tail_layers: usize, check: f64) -> f64 {
        self.lower_us + self.tail_time_us(tail_layers) + self.head_us * check
    }

    fn tail_time_us(&self, layers: usize) -> f64 {
        if layers == 0 { 0.0 } else { self.tail_us + layers as f64 * self.layer_us }
    }

    /// The same as a share of the whole model's time.
    pub fn edge_share(&self, tail_layers: usize, check: f64) -> f64 {
        self.edge_us(tail_layers, check) / self.whole_us()
    }

    /// What a position that leaves before a tail of so many layers saves, as a share of the whole model's time. Its place in the tail's KV
    /// is filled when a later position goes deeper, together with others.
    pub fn deferred_share(&self, tail_layers: usize) -> f64 {
        self.tail_time_us(tail_layers) * (1.0 - self.together).max(0.0) / self.whole_us()
    }

    /// An exit's check, as the same share.
    pub fn check_share(&self, check: f64) -> f64 {
        self.head_us * check / self.whole_us()
    }
}

/// A model with one text in it.
struct Bench {
    engine: GgmlEngine,
    upload_at: usize,
    /// Input of anything but the first layer.
    states: Vec<f32>,
    hidden: Vec<f32>,
    scores: Scores,
}

impl Bench {
    fn load(file: &Arc<ModelFile>, upload_at: u32) -> Result<Self, TuneError> {
        let options = LoadOptions {
            upload_at: Some(upload_at),
            tail: Some((upload_at..file.hyperparameters().layers).collect()),
            context: DEPTH + POSITIONS,
            batch_rows_max: DEPTH,
            threads: Threads::unbound(1),
            ..LoadOptions::default()
        };
        let mut engine = GgmlEngine::load(file, &options)?;
        let (mut states, hidden, scores) = Default::default();
        engine.run(Stack::Lower, &rows(0..DEPTH), Input::Tokens(&[TokenId(1); DEPTH]), &mut states)?;
        Ok(Self { engine, upload_at: upload_at as usize, states, hidden, scores })
    }

    /// With so many positions before, the time of a position where `rows` are computed at once.
    fn stack(&mut self, stack: Stack, rows: usize) -> Result<f64, TuneError> {
        debug_assert!(stack != Stack::Lower || self.upload_at > 0);
        self.engine.truncate(SLOT, 0);
        self.run(stack, 0..DEPTH)?;
        let started = Instant::now();
        for position in (DEPTH..DEPTH + POSITIONS).step_by(rows) {
            self.run(stack, position..position + rows)?;
        }
        debug_assert_eq!(self.hidden.len(), rows * self.engine.shape().width);
        Ok(micros(started))
    }

    fn run(&mut self, stack: Stack, positions: std::ops::Range<usize>) -> Result<(), TuneError> {
        let rows = rows(positions);
        let states = &self.states[..rows.len() * self.engine.shape().width];
        let tokens = [TokenId(1); DEPTH];
        let input = if stack == Stack::Lower { Input::Tokens(&tokens[..rows.len()]) } else { Input::Hidden(states) };
        Ok(self.engine.run(stack, &rows, input, &mut self.hidden)?)
    }

    fn tail(&mut self, layers: &[u32], rows: usize) -> Result<f64, TuneError> {
        self.engine.change_tail(layers)?;
        self.stack(Stack::Tail, rows)
    }

    fn head(&mut self) -> Result<f64, TuneError> {
        let width = self.engine.shape().width;
        let started = Instant::now();
        for state in self.states.chunks_exact(width).take(POSITIONS) {
            self.engine.score(Head::Final, Scope::Full, state, &mut self.scores)?;
        }
        Ok(micros(started))
    }
}

fn rows(positions: std::ops::Range<usize>) -> Vec<Row> {
    positions.map(|position| Row { slot: SLOT, position: Position(position as u32) }).collect()
}

/// Of one position.
fn micros(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e6 / POSITIONS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use collm_model::Architecture;
    use collm_model::synthetic::SyntheticModel;

    #[test]
    fn a_part_costs_the_sum_of_its_steps() {
        let cost =
            CostModel { lower_us: 100.0, upper_us: 200.0, tail_us: 5.0, layer_us: 10.0, together: 0.6, head_us: 80.0 };
        assert_eq!(cost.whole_us(), 380.0);
        assert_eq!(cost.edge_us(3, 0.25), 100.0 + 5.0 + 30.0 + 20.0);
        assert_eq!(cost.edge_us(0, 1.0), 180.0);
        assert_eq!(cost.edge_share(0, 1.0), 180.0 / 380.0);
        assert_eq!((cost.deferred_share(0), cost.deferred_share(3)), (0.0, 35.0 * 0.4 / 380.0));
        assert_eq!(cost.check_share(0.25), 20.0 / 380.0);
    }

    #[test]
    fn every_step_takes_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        SyntheticModel::new(Architecture::Llama).write(&path).unwrap();
        let file = Arc::new(ModelFile::open(&path).unwrap());
        let cost = CostModel::measure(&file, &file, 2, 1).unwrap();
        assert!(cost.lower_us > 0.0 && cost.upper_us > 0.0 && cost.head_us > 0.0, "{cost:?}");
        assert!(cost.edge_us(4, 0.1) >= cost.lower_us, "{cost:?}");
    }
}
