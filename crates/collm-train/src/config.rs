//! What to fit, and how.

use collm_model::gguf::TensorType;

use crate::optimizer::Schedule;

/// How to heal a tail. [`HealConfig::new`] gives every field but the tail a value that serves small models.
#[derive(Debug, Clone, PartialEq)]
pub struct HealConfig {
    /// Layers of the whole model that make up the tail, in its order. An empty tail fits the exit alone.
    pub tail: Vec<u32>,
    /// Rank of the deltas.
    pub rank: usize,
    /// Whether the exit gets an affine map behind its norm.
    pub map: bool,
    /// Inner width of the MLP that the exit gets beside its map, or beside its norm alone; 0 is none.
    pub mlp: usize,
    /// Ascending token ids that the loss tells apart, which makes it cheaper; `None` is the whole vocabulary.
    pub classes: Option<Vec<u32>>,
    /// Type that the tail's matrices will be stored as where their rows allow it, to learn with its rounding in place; `None` is what each
    /// has in the model.
    pub quantize: Option<TensorType>,
    /// Highest learning rate.
    pub learning_rate: f32,
    /// Share of the budget in which the learning rate rises to its highest.
    pub warm_up: f32,
    /// How fast deltas shrink, in learning rates a step.
    pub weight_decay: f32,
    /// Longest gradient that a step follows; a longer one is shortened to it.
    pub gradient_norm_max: f32,
    /// Weight of the teacher's first candidate alone; the rest, up to 1, goes to all of its candidates as they are.
    pub top_weight: f32,
    /// Of the first values of the deltas.
    pub seed: u64,
    /// Threads. The result does not depend on them.
    pub threads: usize,
}

impl HealConfig {
    /// Deltas of rank 16 on `tail`, the exit's norm, and the whole vocabulary.
    pub fn new(tail: Vec<u32>) -> Self {
        Self {
            tail,
            rank: 16,
            map: false,
            mlp: 0,
            classes: None,
            quantize: None,
            learning_rate: 1e-3,
            warm_up: 0.03,
            weight_decay: 0.0,
            gradient_norm_max: 1.0,
            top_weight: 0.2,
            seed: 1,
            threads: 2,
        }
    }

    pub(crate) fn schedule(&self) -> Schedule {
        Schedule { highest: self.learning_rate, warm_up: self.warm_up }
    }
}
