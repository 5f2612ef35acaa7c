//! Fitting a gate: a small network learns from examples whether an exit's guess was right.
//!
//! The network is the one of [`collm_core::gate`]: a low-rank look at the state beside standardised features of the logits, one hidden
//! layer, one score. Its derivative is a dozen lines, so it needs no tape. Deliberately absent: making examples, and the calibration
//! that turns scores into probabilities.

use collm_core::gate::{GATE_SCALARS, GateLook, GateWeights};

use crate::lanes::dot;
use crate::optimizer::{AdamW, Schedule};
use crate::parameters::Parameter;

/// Values that the look reduces a state to.
const RANK: usize = 16;
/// Inner width of the network.
const HIDDEN: usize = 32;
const BATCH: usize = 128;
/// Passes over the examples, at most.
const PASSES: usize = 16;
const SCHEDULE: Schedule = Schedule { highest: 3e-3, warm_up: 0.05 };
const DECAY: f32 = 0.05;

/// What an exit saw, and whether its guess was the whole model's token.
#[derive(Debug, Clone, PartialEq)]
pub struct GateExample {
    /// Of the check's logits, as [`collm_core::gate::GATE_SCALARS`] lists them.
    pub features: [f32; GATE_SCALARS],
    /// What the LM head read.
    pub state: Vec<f32>,
    /// Whether the guess was right.
    pub right: bool,
}

/// A gate, and how well it did on examples that it did not learn from.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedGate {
    /// The gate. Its calibration is the logistic function, of which ten points are given; a better one is fitted to text of its own.
    pub weights: GateWeights,
    /// Mean cross-entropy on the examples to judge by, in nats.
    pub loss: f64,
    /// Passes over the examples until that was lowest.
    pub passes: usize,
}

/// Fits a gate to some examples; others, of answers of their own, say when to stop, since what follows a token is too much like it to
/// judge by. `None` without an example to learn from and one to judge by.
pub fn fit_gate(learnt: &[GateExample], judged: &[GateExample], seed: u64) -> Option<FittedGate> {
    let [mut order, judged] = [learnt, judged].map(|examples| examples.iter().collect::<Vec<_>>());
    if order.is_empty() || judged.is_empty() {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut network = Network::new(&order, &mut random);
    let mut optimizer = AdamW::new(&network.parameters);
    let mut best = (network.clone(), network.loss(&judged), 0);
    for pass in 0..PASSES {
        random.shuffle(&mut order);
        let batches = order.len().div_ceil(BATCH);
        for (index, batch) in order.chunks(BATCH).enumerate() {
            let progress = (pass * batches + index) as f64 / (PASSES * batches) as f64;
            let gradients = network.gradients(batch);
            optimizer.step(&mut network.parameters, &gradients, SCHEDULE.rate(progress), DECAY);
        }
        let loss = network.loss(&judged);
        if loss < best.1 {
            best = (network.clone(), loss, pass + 1);
        }
    }
    let (network, loss, passes) = best;
    Some(FittedGate { weights: network.weights(), loss, passes })
}

#[derive(Debug, Clone)]
struct Network {
    /// Look, up, up's bias, down, down's bias.
    parameters: Vec<Parameter>,
    mean: [f32; GATE_SCALARS],
    scale: [f32; GATE_SCALARS],
}

const INPUTS: usize = RANK + GATE_SCALARS;

/// What a network thought on the way to a score.
struct Thought {
    inputs: [f32; INPUTS],
    /// Before the activation.
    inner: [f32; HIDDEN],
    score: f32,
}

impl Network {
    fn new(examples: &[&GateExample], random: &mut fastrand::Rng) -> Self {
        let (mean, scale) = standards(examples);
        let width = examples[0].state.len();
        let squares: f32 = examples.iter().take(256).map(|example| dot(&example.state, &example.state)).sum();
        let length = (squares / examples.len().min(256) as f32).sqrt().max(f32::MIN_POSITIVE);
        let right = examples.iter().filter(|example| example.right).count() as f32 + 1.0;
        let wrong = examples.len() as f32 + 2.0 - right;
        let mut matrix = |name: &str, rows: usize, row: usize, size: f32| Parameter {
            name: name.to_owned(),
            layer: None,
            dims: [rows, row],
            values: (0..rows * row).map(|_| (random.f32() * 2.0 - 1.0) * size).collect(),
            decays: true,
        };
        let parameters = vec![
            matrix("look", RANK, width, 3.0f32.sqrt() / length),
            matrix("up", HIDDEN, INPUTS, (3.0 / INPUTS as f32).sqrt()),
            Parameter::vector("up.bias".into(), None, vec![0.0; HIDDEN]),
            matrix("down", 1, HIDDEN, 0.1),
            Parameter::vector("down.bias".into(), None, vec![(right / wrong).ln()]),
        ];
        Self { parameters, mean, scale }
    }

    fn think(&self, example: &GateExample) -> Thought {
        let [look, up, up_bias, down, down_bias] = &self.parameters[..] else { unreachable!("made of five") };
        let mut inputs = [0.0; INPUTS];
        let rows = look.values.chunks_exact(example.state.len());
        inputs.iter_mut().zip(rows).for_each(|(input, row)| *input = dot(row, &example.state));
        for (index, feature) in example.features.iter().enumerate() {
            inputs[RANK + index] = (feature - self.mean[index]) * self.scale[index];
        }
        let mut inner = [0.0; HIDDEN];
        for (unit, value) in inner.iter_mut().enumerate() {
            *value = dot(&up.values[unit * INPUTS..][..INPUTS], &inputs) + up_bias.values[unit];
        }
        let score = inner.iter().zip(&down.values).map(|(value, down)| silu(*value) * down).sum::<f32>();
        Thought { inputs, inner, score: score + down_bias.values[0] }
    }

    /// Of the mean cross-entropy of a batch.
    fn gradients(&self, batch: &[&GateExample]) -> Vec<Vec<f32>> {
        let mut gradients: Vec<Vec<f32>> =
            self.parameters.iter().map(|parameter| vec![0.0; parameter.values.len()]).collect();
        for example in batch {
            let thought = self.think(example);
            let error = (logistic(thought.score) - f32::from(u8::from(example.right))) / batch.len() as f32;
            self.trace_back(example, &thought, error, &mut gradients);
        }
        gradients
    }

    fn trace_back(&self, example: &GateExample, thought: &Thought, error: f32, gradients: &mut [Vec<f32>]) {
        let [look, up, up_bias, down, down_bias] = gradients else { unreachable!("one a parameter") };
        let mut inputs = [0.0; INPUTS];
        down_bias[0] += error;
        for (unit, &inner) in thought.inner.iter().enumerate() {
            down[unit] += error * silu(inner);
            let slope = error * self.parameters[3].values[unit] * silu_slope(inner);
            up_bias[unit] += slope;
            let row = unit * INPUTS..(unit + 1) * INPUTS;
            add(&mut up[row.clone()], &thought.inputs, slope);
            add(&mut inputs, &self.parameters[1].values[row], slope);
        }
        for (row, slope) in look.chunks_exact_mut(example.state.len()).zip(inputs) {
            add(row, &example.state, slope);
        }
    }

    fn loss(&self, examples: &[&GateExample]) -> f64 {
        let surprise = |example: &&GateExample| {
            let score = self.think(example).score;
            // ln (1 + e^x), of the score against the truth.
            let against = f64::from(if example.right { -score } else { score });
            against.max(0.0) + (-against.abs()).exp().ln_1p()
        };
        examples.iter().map(surprise).sum::<f64>() / examples.len() as f64
    }

    fn weights(&self) -> GateWeights {
        let values = |index: usize| self.parameters[index].values.clone();
        GateWeights {
            look: Some(GateLook { rank: RANK, weight: values(0) }),
            mean: self.mean.to_vec(),
            scale: self.scale.to_vec(),
            up: values(1),
            up_bias: values(2),
            down: values(3),
            down_bias: self.parameters[4].values[0],
            calibration: (-5..=5).map(|score| (score as f32, logistic(score as f32))).collect(),
        }
    }
}

/// Mean of each feature, and the factor that makes its spread 1.
fn standards(examples: &[&GateExample]) -> ([f32; GATE_SCALARS], [f32; GATE_SCALARS]) {
    let count = examples.len() as f64;
    let (mut mean, mut scale) = ([0.0; GATE_SCALARS], [0.0; GATE_SCALARS]);
    for index in 0..GATE_SCALARS {
        let values = || examples.iter().map(|example| f64::from(example.features[index]));
        let middle = values().sum::<f64>() / count;
        let spread = (values().map(|value| (value - middle).powi(2)).sum::<f64>() / count).sqrt();
        mean[index] = middle as f32;
        scale[index] = (1.0 / spread.max(1e-6)) as f32;
    }
    (mean, scale)
}

fn add(sum: &mut [f32], values: &[f32], factor: f32) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn silu(x: f32) -> f32 {
    x * logistic(x)
}

fn silu_slope(x: f32) -> f32 {
    let share = logistic(x);
    share * (1.0 + x * (1.0 - share))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 12;

    /// Right where a direction of the state and a feature together are large: neither alone says it.
    fn examples(count: usize, seed: u64) -> Vec<GateExample> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut example = || {
            let mut value = || random.f32() * 2.0 - 1.0;
            let state: Vec<f32> = (0..WIDTH).map(|_| value()).collect();
            let features = std::array::from_fn(|index| 3.0 + 5.0 * value() * index as f32);
            let evidence = state[3] - state[7] + (features[2] - 3.0) / 10.0;
            GateExample { right: evidence > 0.3 * value(), features, state }
        };
        (0..count).map(|_| example()).collect()
    }

    #[test]
    fn a_gate_learns_from_states_and_features_together() {
        let (learnt, judged) = (examples(1600, 1), examples(400, 2));
        let fitted = fit_gate(&learnt, &judged, 1).unwrap();
        let blind = std::f64::consts::LN_2;
        assert!(fitted.loss < 0.5 * blind, "{}", fitted.loss);
        assert!(fitted.passes > 0);
        assert_eq!(fit_gate(&learnt, &judged, 1).unwrap(), fitted, "a seed names a gate");
        assert_eq!((fit_gate(&learnt, &[], 1), fit_gate(&[], &judged, 1)), (None, None));
    }

    #[test]
    fn gradients_are_slopes() {
        let examples = examples(20, 5);
        let batch: Vec<&GateExample> = examples.iter().collect();
        let network = Network::new(&batch, &mut fastrand::Rng::with_seed(2));
        let gradients = network.gradients(&batch);
        for (array, gradient) in gradients.iter().enumerate() {
            for index in (0..gradient.len()).step_by(7) {
                let at = |by: f32| {
                    let mut moved = network.clone();
                    moved.parameters[array].values[index] += by;
                    moved.loss(&batch)
                };
                let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!(
                    (slope - f64::from(gradient[index])).abs() < 2e-3,
                    "{array} {index}: {slope} {}",
                    gradient[index]
                );
            }
        }
    }
}
