//! A run of healing.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use collm_model::ModelFile;

use crate::checkpoint::{self, State};
use crate::config::HealConfig;
use crate::deltas::Deltas;
use crate::error::{CheckpointError, HealError};
use crate::loss::{Classes, Score, Target};
use crate::optimizer::{AdamW, length, shorten};
use crate::piece::Piece;
use crate::tail::{Batch, Merged, Tail};
use crate::tape::Variables;
use crate::weights::{self, Converter};
use crate::workers::Workers;

/// Positions that run through the network together: enough for products to be fast, and their states still fit in memory.
const BATCH_POSITIONS: usize = 512;

/// Heals a tail, step after step. The result depends on the configuration and on the steps alone, not on threads or on
/// having been stopped in between.
pub struct Healer<'a> {
    config: HealConfig,
    converter: Converter<'a>,
    tail: Tail,
    classes: Classes,
    state: State,
    workers: Workers,
    /// The matrices with the deltas of now; none when these have just moved.
    merged: Option<Merged>,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps so far, this one included.
    pub step: u64,
    /// How well the tail did on the pieces before the step.
    pub score: Score,
    /// Positions that ran through the tail.
    pub positions: usize,
    /// How long it took.
    pub seconds: f64,
    /// The learning rate in force.
    pub learning_rate: f32,
    /// Length of the gradient before it was shortened.
    pub gradient_norm: f32,
}

/// Pieces that run together, and what to say after them.
struct Work {
    batch: Batch,
    targets: Vec<Target>,
}

impl<'a> Healer<'a> {
    /// Starts a run on a whole model. `converter` reads the model's weights and, where the tail is to be requantised, rounds
    /// them.
    pub fn new(file: &ModelFile, converter: Converter<'a>, config: HealConfig) -> Result<Self, HealError> {
        let h = file.hyperparameters();
        check(&config, h.layers, h.vocabulary)?;
        let tail = Tail::load(file, converter, &config)?;
        let output = file.output();
        let head = weights::values(converter, output.name, &output)?;
        let classes = Classes::new(head, tail.width(), config.classes.as_deref());
        let parameters = tail.initial(file, &config);
        let state = State { optimizer: AdamW::new(&parameters), parameters, seconds: 0.0 };
        Ok(Self { workers: Workers::new(config.threads)?, converter, tail, classes, state, merged: None, config })
    }

    /// Learns from some pieces together. `progress` in [0, 1] is how much of the budget (of time or of steps) is used up: it
    /// decides the learning rate, which is next to nothing at 1.
    ///
    /// # Errors
    /// After any error the run is as it was before the step.
    pub fn step(&mut self, pieces: &[Piece], progress: f64) -> Result<StepReport, HealError> {
        let started = Instant::now();
        let works = self.works(pieces)?;
        let weight: f32 = pieces.iter().flat_map(Piece::weights).sum();
        if weight <= 0.0 {
            return Err(HealError::Nothing { pieces: pieces.len() });
        }
        let variables = Variables::new(&self.state.parameters)?;
        self.merge()?;
        let found = self.workers.map(&works, |work| self.learn(work, &variables, 1.0 / weight));
        let found: Vec<(Score, Vec<Vec<f32>>)> = found.into_iter().collect::<Result<_, _>>()?;
        let score = Score::joined(found.iter().map(|(score, _)| *score));
        let mut gradients = sum(found.into_iter().map(|(_, gradients)| gradients));
        let gradient_norm = length(&gradients);
        if !gradient_norm.is_finite() {
            return Err(HealError::Diverged { steps: self.steps() });
        }
        shorten(&mut gradients, gradient_norm, self.config.gradient_norm_max);
        let learning_rate = self.config.schedule().rate(progress);
        let State { parameters, optimizer, .. } = &mut self.state;
        optimizer.step(parameters, &gradients, learning_rate, self.config.weight_decay);
        self.merged = None;
        let seconds = started.elapsed().as_secs_f64();
        self.state.seconds += seconds;
        let positions = pieces.iter().map(Piece::positions).sum();
        Ok(StepReport { step: self.steps(), score, positions, seconds, learning_rate, gradient_norm })
    }

    /// How well the tail does on pieces, for example held-back ones. Nothing is learnt.
    pub fn evaluate(&mut self, pieces: &[Piece]) -> Result<Score, HealError> {
        let works = self.works(pieces)?;
        let variables = Variables::new(&self.state.parameters)?;
        self.merge()?;
        let scores = self.workers.map(&works, |work| {
            let states = self.exit_states(&work.batch, &variables, false)?.flatten_all()?.to_vec1()?;
            Ok::<_, HealError>(self.classes.judge(&states, &work.targets, None)?.0)
        });
        let scores: Vec<Score> = scores.into_iter().collect::<Result<_, _>>()?;
        Ok(Score::joined(scores))
    }

    /// The same pieces of the states after the tail's last layer: what its exit alone can learn from.
    pub fn pass(&mut self, pieces: &[Piece]) -> Result<Vec<Piece>, HealError> {
        let works = self.works(pieces)?;
        let variables = Variables::new(&self.state.parameters)?;
        self.merge()?;
        let passed = self.workers.map(&works, |work| {
            let states = self.tail.states(&work.batch, self.merged(), &variables, false)?;
            Ok::<Vec<f32>, HealError>(states.flatten_all()?.to_vec1()?)
        });
        let passed: Vec<Vec<f32>> = passed.into_iter().collect::<Result<_, _>>()?;
        let mut rest = &passed.concat()[..];
        let after = |piece: &Piece| {
            let (states, later) = rest.split_at(piece.states().len());
            rest = later;
            piece.with_states(states.to_vec()).map_err(|error| HealError::Piece(error.to_string()))
        };
        pieces.iter().map(after).collect()
    }

    /// What was learnt so far.
    pub fn deltas(&self) -> Deltas {
        Deltas::new(&self.state.parameters, self.config.tail.len())
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.state.optimizer.steps
    }

    /// Time spent in steps so far, in seconds.
    pub fn seconds(&self) -> f64 {
        self.state.seconds
    }

    /// Writes everything that later steps depend on to `path`, which is replaced as a whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        checkpoint::save(&self.state, path)
    }

    /// Goes on from a file that [`Healer::save`] wrote for the same model and configuration.
    pub fn resume(&mut self, path: &Path) -> Result<(), CheckpointError> {
        self.state = checkpoint::load(&self.state, path)?;
        self.merged = None;
        Ok(())
    }

    fn works(&self, pieces: &[Piece]) -> Result<Vec<Work>, HealError> {
        for piece in pieces {
            self.check_piece(piece)?;
        }
        packed(pieces).map(|pieces| self.work(pieces)).collect()
    }

    fn check_piece(&self, piece: &Piece) -> Result<(), HealError> {
        let (width, vocabulary) = (self.tail.width(), self.classes.vocabulary());
        if piece.width() != width {
            return Err(HealError::Piece(format!("its states have {} values, the model's {width}", piece.width())));
        }
        let id = piece.largest_id();
        if id as usize >= vocabulary {
            return Err(HealError::Piece(format!("the candidate {id} is outside the vocabulary of {vocabulary}")));
        }
        Ok(())
    }

    fn work(&self, pieces: &[Piece]) -> Result<Work, HealError> {
        let batch = Batch::new(pieces.iter().map(Piece::states), self.tail.width())?;
        let (mut targets, mut row) = (Vec::new(), 0);
        for piece in pieces {
            targets.extend(self.classes.targets(piece, row, self.config.top_weight));
            row += piece.positions();
        }
        Ok(Work { batch, targets })
    }

    fn merge(&mut self) -> Result<(), HealError> {
        if self.merged.is_none() {
            self.merged = Some(self.tail.merge(&self.state.parameters, self.converter, &self.workers)?);
        }
        Ok(())
    }

    fn merged(&self) -> &Merged {
        self.merged.as_ref().expect("merged before anything runs")
    }

    fn exit_states(&self, batch: &Batch, variables: &Variables, learns: bool) -> Result<Tensor, HealError> {
        let states = self.tail.states(batch, self.merged(), variables, learns)?;
        Ok(self.tail.exit(&states, variables)?)
    }

    /// The score of some pieces and the gradients of all parameters, the loss being scaled by `scale`.
    fn learn(&self, work: &Work, variables: &Variables, scale: f32) -> Result<(Score, Vec<Vec<f32>>), HealError> {
        let states = self.exit_states(&work.batch, variables, true)?;
        let values = states.flatten_all()?.to_vec1()?;
        let (score, gradient) = self.classes.judge(&values, &work.targets, Some(scale))?;
        // The product with a constant has that constant as its gradient, so differentiation starts from the one found here.
        let gradient = Tensor::from_vec(gradient, states.shape(), &Device::Cpu)?;
        let found = (&states * gradient)?.sum_all()?.backward()?;
        Ok((score, variables.gradients(&self.state.parameters, &found)?))
    }
}

/// Pieces in their order, as many together as make up a batch.
fn packed(pieces: &[Piece]) -> impl Iterator<Item = &[Piece]> {
    let mut rest = pieces;
    std::iter::from_fn(move || {
        let mut positions = 0;
        let fitting = rest.iter().take_while(|piece| {
            positions += piece.positions();
            positions <= BATCH_POSITIONS
        });
        let count = fitting.count().max(1).min(rest.len());
        let (pack, later) = rest.split_at(count);
        rest = later;
        (!pack.is_empty()).then_some(pack)
    })
}

/// The sum of gradients, added in order.
fn sum(gradients: impl Iterator<Item = Vec<Vec<f32>>>) -> Vec<Vec<f32>> {
    let joined = gradients.reduce(|mut all, more| {
        all.iter_mut().zip(&more).for_each(|(all, more)| crate::lanes::add(all, more));
        all
    });
    joined.unwrap_or_default()
}

fn check(config: &HealConfig, layers: u32, vocabulary: u32) -> Result<(), HealError> {
    let fail = |what: String| Err(HealError::Config(what));
    if let Some(layer) = config.tail.iter().find(|layer| **layer >= layers) {
        return fail(format!("the model has no layer {layer}, only {layers} layers"));
    }
    if config.rank == 0 {
        return fail("deltas of rank 0 learn nothing".into());
    }
    if !(0.0..=1.0).contains(&config.top_weight) {
        return fail(format!("the weight {} of the first candidate is not in [0, 1]", config.top_weight));
    }
    if let Some(ids) = &config.classes {
        let ascending = ids.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || ids.last().is_none_or(|last| *last >= vocabulary) {
            return fail(format!(
                "the loss has no classes, or they are not ascending, or outside the vocabulary of {vocabulary}"
            ));
        }
    }
    Ok(())
}
