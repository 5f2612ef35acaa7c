//! The network that learns: the tail's layers and the exit's norm, over frozen weights.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, Device, Tensor};
use collm_model::gguf::TensorType;
use collm_model::{Architecture, Hyperparameters, LayerName, ModelFile, RopeScaling};

use crate::config::HealConfig;
use crate::error::HealError;
use crate::lanes;
use crate::ops::{Activation, Attention, Gate, Heads, Projection, RmsNorm, Rotation};
use crate::parameters::{Parameter, Tape, tail_name};
use crate::weights::{self, Converter};
use crate::workers::Workers;

/// The matrices of a layer, in the order in which a state meets them.
pub(crate) const MATRICES: [&str; 7] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// The gains of a layer; which of them a layer has depends on the family.
pub(crate) const GAINS: [&str; 6] = [
    "attn_norm.weight",
    "attn_q_norm.weight",
    "attn_k_norm.weight",
    "post_attention_norm.weight",
    "ffn_norm.weight",
    "post_ffw_norm.weight",
];

/// The exit's norm gain `[width]`, and its affine map: `[width, width]` and `[width]`.
pub(crate) const EXIT_NORM: &str = "exit.norm.weight";
pub(crate) const EXIT_MAP: &str = "exit.map.weight";
pub(crate) const EXIT_MAP_BIAS: &str = "exit.map.bias";

/// A matrix of the model.
#[derive(Debug)]
struct Frozen {
    name: String,
    values: Vec<f32>,
    bias: Option<Arc<[f32]>>,
    /// `[out, in]`.
    dims: [usize; 2],
}

/// A layer of the model.
#[derive(Debug)]
struct Layer {
    matrices: Vec<Frozen>,
    local: bool,
}

/// The frozen part of the network.
#[derive(Debug)]
pub(crate) struct Tail {
    hyperparameters: Hyperparameters,
    layers: Vec<Layer>,
    /// Factors on rotation frequencies, of models whose context was stretched by a table.
    rope_factors: Option<Vec<f32>>,
    quantize: Option<TensorType>,
}

/// The matrices of every layer with their deltas in them.
pub(crate) type Merged = Vec<Vec<Projection>>;

/// Sequences that run through the network together, one after another.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `[rows, width]`.
    states: Tensor,
    sequences: Arc<[Range<usize>]>,
}

impl Batch {
    /// Sequences of whole states of `width` values.
    pub(crate) fn new<'a>(sequences: impl Iterator<Item = &'a [f32]>, width: usize) -> candle_core::Result<Self> {
        let (mut states, mut ranges) = (Vec::new(), Vec::new());
        for sequence in sequences {
            let start = states.len() / width;
            states.extend_from_slice(sequence);
            ranges.push(start..states.len() / width);
        }
        let rows = states.len() / width;
        Ok(Self { states: Tensor::from_vec(states, (rows, width), &Device::Cpu)?, sequences: ranges.into() })
    }

    fn longest(&self) -> usize {
        self.sequences.iter().map(Range::len).max().unwrap_or(0)
    }
}

impl Tail {
    pub(crate) fn load(file: &ModelFile, converter: Converter<'_>, config: &HealConfig) -> Result<Self, HealError> {
        let h = file.hyperparameters();
        refuse_unsupported(file)?;
        let layer = |source: &u32| Layer::load(file, converter, *source);
        Ok(Self {
            hyperparameters: h.clone(),
            layers: config.tail.iter().map(layer).collect::<Result<_, _>>()?,
            rope_factors: weights::vector(file, "rope_freqs.weight"),
            quantize: config.quantize,
        })
    }

    /// Everything that learns, as it is before the first step: the deltas change nothing.
    pub(crate) fn initial(&self, file: &ModelFile, config: &HealConfig) -> Vec<Parameter> {
        let mut random = fastrand::Rng::with_seed(config.seed);
        let mut parameters = Vec::new();
        for (index, (layer, source)) in self.layers.iter().zip(&config.tail).enumerate() {
            for (stem, matrix) in MATRICES.iter().zip(&layer.matrices) {
                parameters.extend(delta(tail_name(index, stem), matrix.dims, config.rank, &mut random));
            }
            for gain in GAINS {
                let values = weights::vector(file, &LayerName::Block(*source).tensor(gain));
                parameters.extend(values.map(|values| Parameter::vector(tail_name(index, gain), values)));
            }
        }
        let norm = weights::vector(file, "output_norm.weight").expect("checked when the file was opened");
        parameters.push(Parameter::vector(EXIT_NORM.into(), norm));
        if config.map {
            parameters.extend(identity(self.width()));
        }
        parameters
    }

    pub(crate) fn width(&self) -> usize {
        self.hyperparameters.width as usize
    }

    /// Merges the deltas into the matrices and rounds them to the tail's type, as a split will.
    pub(crate) fn merge(&self, tape: &Tape, converter: Converter<'_>, workers: &Workers) -> Result<Merged, HealError> {
        let indexes: Vec<usize> = (0..self.layers.len()).collect();
        let merged = workers.map(&indexes, |&index| {
            let matrices = MATRICES.iter().zip(&self.layers[index].matrices);
            let merged = matrices.map(|(stem, matrix)| {
                let [a, b] = ["a", "b"].map(|part| tape.required(&format!("{}.weight.{part}", tail_name(index, stem))));
                matrix.merge(a, b, converter, self.quantize)
            });
            merged.collect::<Result<Vec<_>, _>>()
        });
        merged.into_iter().collect()
    }

    /// The states after the last layer, `[rows, width]`.
    pub(crate) fn states(&self, batch: &Batch, merged: &Merged, tape: &Tape) -> candle_core::Result<Tensor> {
        let h = &self.hyperparameters;
        let positions = batch.longest();
        let rotation = |local| Arc::new(Rotation::new(h, local, self.rope_factors.as_deref(), positions));
        let rotations = [rotation(false), rotation(true)];
        let mut states = batch.states.clone();
        for (index, (layer, merged)) in self.layers.iter().zip(merged).enumerate() {
            let attention = Attention {
                heads: Heads::new(h, layer.local),
                rotation: Arc::clone(&rotations[usize::from(layer.local)]),
                sequences: Arc::clone(&batch.sequences),
            };
            states = Pass { index, merged, tape, h }.run(states, attention)?;
        }
        Ok(states)
    }

    /// What the LM head takes, from the states after the last layer.
    pub(crate) fn exit(&self, states: Tensor, tape: &Tape) -> candle_core::Result<Tensor> {
        let normed = tape.normed(states, EXIT_NORM, RmsNorm { epsilon: self.hyperparameters.rms_eps })?;
        match tape.variable(EXIT_MAP) {
            Some(map) => normed.matmul(&map.t()?)?.broadcast_add(tape.required(EXIT_MAP_BIAS)),
            None => Ok(normed),
        }
    }
}

/// One layer on its way.
struct Pass<'a> {
    index: usize,
    merged: &'a [Projection],
    tape: &'a Tape,
    h: &'a Hyperparameters,
}

impl Pass<'_> {
    fn run(&self, states: Tensor, attention: Attention) -> candle_core::Result<Tensor> {
        let normed = self.normed(states.clone(), "attn_norm.weight")?;
        let queries = self.normed(self.project(0, &normed)?, "attn_q_norm.weight")?;
        let keys = self.normed(self.project(1, &normed)?, "attn_k_norm.weight")?;
        let attended = queries.apply_op3(&keys, &self.project(2, &normed)?, attention)?;
        let middle = (states + self.normed(self.project(3, &attended)?, "post_attention_norm.weight")?)?;
        let normed = self.normed(middle.clone(), "ffn_norm.weight")?;
        let gated = self.project(4, &normed)?.apply_op2(&self.project(5, &normed)?, Gate(self.activation()))?;
        middle + self.normed(self.project(6, &gated)?, "post_ffw_norm.weight")?
    }

    fn activation(&self) -> Activation {
        if self.h.architecture == Architecture::Gemma3 { Activation::Gelu } else { Activation::Silu }
    }

    fn normed(&self, states: Tensor, gain: &str) -> candle_core::Result<Tensor> {
        self.tape.normed(states, &tail_name(self.index, gain), RmsNorm { epsilon: self.h.rms_eps })
    }

    fn project(&self, matrix: usize, states: &Tensor) -> candle_core::Result<Tensor> {
        let name = tail_name(self.index, MATRICES[matrix]);
        let [a, b] = ["a", "b"].map(|part| self.tape.required(&format!("{name}.weight.{part}")));
        states.apply_op3(a, b, self.merged[matrix].clone())
    }
}

impl Layer {
    fn load(file: &ModelFile, converter: Converter<'_>, source: u32) -> Result<Self, HealError> {
        let name = LayerName::Block(source);
        let matrices = MATRICES.iter().map(|stem| Frozen::load(file, converter, name, stem));
        Ok(Self { matrices: matrices.collect::<Result<_, _>>()?, local: file.hyperparameters().is_local(source) })
    }
}

impl Frozen {
    fn load(file: &ModelFile, converter: Converter<'_>, layer: LayerName, stem: &str) -> Result<Self, HealError> {
        let name = layer.tensor(&format!("{stem}.weight"));
        let tensor = file.tensor(&name).expect("a whole model has every layer");
        let values = weights::values(converter, &name, &tensor)?;
        let bias = weights::vector(file, &layer.tensor(&format!("{stem}.bias"))).map(Arc::from);
        Ok(Self { dims: [tensor.dims[1] as usize, tensor.dims[0] as usize], name, values, bias })
    }

    fn merge(
        &self,
        a: &Tensor,
        b: &Tensor,
        converter: Converter<'_>,
        quantize: Option<TensorType>,
    ) -> Result<Projection, HealError> {
        let mut values = b.matmul(a)?.flatten_all()?.to_vec1::<f32>()?;
        lanes::add(&mut values, &self.values);
        if let Some(ty) = quantize {
            values = weights::rounded(converter, &self.name, &values, self.dims[1], ty)?;
        }
        Ok(Projection { merged: Arc::new(CpuStorage::F32(values)), bias: self.bias.clone(), dims: self.dims })
    }
}

/// A delta that changes nothing yet: `a` spreads what comes in over its rank, `b` is 0.
fn delta(stem: String, [out, input]: [usize; 2], rank: usize, random: &mut fastrand::Rng) -> [Parameter; 2] {
    let spread = (3.0 / input as f32).sqrt();
    let a = (0..rank * input).map(|_| (random.f32() * 2.0 - 1.0) * spread).collect();
    let b = vec![0.0; out * rank];
    [
        Parameter { name: format!("{stem}.weight.a"), dims: [rank, input], values: a, decays: true },
        Parameter { name: format!("{stem}.weight.b"), dims: [out, rank], values: b, decays: true },
    ]
}

/// An affine map that changes nothing yet.
fn identity(width: usize) -> [Parameter; 2] {
    let mut values = vec![0.0; width * width];
    values.iter_mut().step_by(width + 1).for_each(|value| *value = 1.0);
    let map = Parameter { name: EXIT_MAP.into(), dims: [width, width], values, decays: false };
    [map, Parameter::vector(EXIT_MAP_BIAS.into(), vec![0.0; width])]
}

fn refuse_unsupported(file: &ModelFile) -> Result<(), HealError> {
    if !matches!(file.holding(), collm_model::Holding::Whole) {
        return Err(HealError::Unsupported("parts of a model; give the whole model".into()));
    }
    if file.hyperparameters().rope.scaling == RopeScaling::Yarn {
        return Err(HealError::Unsupported("models whose context was stretched by YaRN".into()));
    }
    Ok(())
}
