//! The network that learns: the tail's layers and the exit's head, over frozen weights.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use collm_model::gguf::TensorType;
use collm_model::split::stored_type;
use collm_model::{Architecture, Hyperparameters, LayerName, ModelFile, RopeScaling};

use crate::config::HealConfig;
use crate::dense::{Matrix, product};
use crate::error::HealError;
use crate::layer::{GAINS, Layer, LayerWeights, MATRICES};
use crate::ops::{Activation, Attention, Gate, Heads, Projection, RmsNorm, Rotation};
use crate::parameters::{Parameter, find, tail_name};
use crate::tape::{LayerOperation, NormOperation, Variables};
use crate::weights::{self, Converter};
use crate::workers::Workers;

/// The exit's norm gain `[width]`, its affine map, `[width, width]` and `[width]`, and its MLP, `[hidden, width]` and
/// `[width, hidden]`.
pub(crate) const EXIT_NORM: &str = "exit.norm.weight";
pub(crate) const EXIT_MAP: &str = "exit.map.weight";
pub(crate) const EXIT_MAP_BIAS: &str = "exit.map.bias";
pub(crate) const EXIT_MLP_UP: &str = "exit.mlp.up.weight";
pub(crate) const EXIT_MLP_DOWN: &str = "exit.mlp.down.weight";

/// A matrix of the model.
#[derive(Debug)]
struct Frozen {
    name: String,
    /// `[out, in]`.
    values: Matrix,
    /// What a split stores it as.
    stored: TensorType,
    bias: Option<Arc<[f32]>>,
}

/// A layer of the model.
#[derive(Debug)]
struct FrozenLayer {
    matrices: Vec<Frozen>,
    local: bool,
}

/// The frozen part of the network.
#[derive(Debug)]
pub(crate) struct Tail {
    hyperparameters: Hyperparameters,
    layers: Vec<FrozenLayer>,
    /// Factors on rotation frequencies, of models whose context was stretched by a table.
    rope_factors: Option<Vec<f32>>,
}

/// The layers with their deltas in them.
pub(crate) type Merged = Vec<Arc<LayerWeights>>;

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
        let layer = |source: &u32| FrozenLayer::load(file, converter, *source, config.quantize);
        Ok(Self {
            hyperparameters: h.clone(),
            layers: config.tail.iter().map(layer).collect::<Result<_, _>>()?,
            rope_factors: weights::vector(file, "rope_freqs.weight"),
        })
    }

    /// Everything that learns, as it is before the first step: the deltas change nothing.
    pub(crate) fn initial(&self, file: &ModelFile, config: &HealConfig) -> Vec<Parameter> {
        let mut random = fastrand::Rng::with_seed(config.seed);
        let mut parameters = Vec::new();
        for (index, (layer, source)) in self.layers.iter().zip(&config.tail).enumerate() {
            for (stem, matrix) in MATRICES.iter().zip(&layer.matrices) {
                let dims = [matrix.values.rows(), matrix.values.columns()];
                let names = ["a", "b"].map(|part| tail_name(index, &format!("{stem}.weight.{part}")));
                parameters.extend(silent(names, Some(index), dims, config.rank, &mut random));
            }
            for gain in GAINS {
                let values = weights::vector(file, &LayerName::Block(*source).tensor(gain));
                parameters.extend(values.map(|values| Parameter::vector(tail_name(index, gain), Some(index), values)));
            }
        }
        let norm = weights::vector(file, "output_norm.weight").expect("checked when the file was opened");
        parameters.push(Parameter::vector(EXIT_NORM.into(), None, norm));
        if config.map {
            parameters.extend(identity(self.width()));
        }
        if config.mlp > 0 {
            let names = [EXIT_MLP_UP, EXIT_MLP_DOWN].map(str::to_owned);
            parameters.extend(silent(names, None, [self.width(); 2], config.mlp, &mut random));
        }
        parameters
    }

    pub(crate) fn width(&self) -> usize {
        self.hyperparameters.width as usize
    }

    /// Merges the deltas into the matrices and rounds them, as a split will.
    pub(crate) fn merge(
        &self,
        parameters: &[Parameter],
        converter: Converter<'_>,
        workers: &Workers,
    ) -> Result<Merged, HealError> {
        let indexes: Vec<usize> = (0..self.layers.len()).collect();
        let merged = workers.map(&indexes, |&index| {
            let delta = |stem: &str, part: &str| {
                let found = find(parameters, &tail_name(index, &format!("{stem}.weight.{part}")));
                let found = found.expect("made for every matrix");
                Matrix::new(found.values.clone(), found.dims[1])
            };
            let matrices = MATRICES.iter().zip(&self.layers[index].matrices);
            let projections =
                matrices.map(|(stem, matrix)| matrix.merge([delta(stem, "a"), delta(stem, "b")], converter));
            let gain = |gain: &&str| Some(find(parameters, &tail_name(index, gain))?.values.clone());
            let projections = projections.collect::<Result<_, _>>()?;
            Ok(Arc::new(LayerWeights { projections, gains: GAINS.iter().map(gain).collect() }))
        });
        merged.into_iter().collect()
    }

    /// The states after the last layer, `[rows, width]`; with a gradient only if they are to learn.
    pub(crate) fn states(
        &self,
        batch: &Batch,
        merged: &Merged,
        variables: &Variables,
        learns: bool,
    ) -> candle_core::Result<Tensor> {
        let h = &self.hyperparameters;
        let positions = batch.longest();
        let rotation = |local| Arc::new(Rotation::new(h, local, self.rope_factors.as_deref(), positions));
        let rotations = [rotation(false), rotation(true)];
        let mut states = batch.states.clone();
        for (index, (frozen, weights)) in self.layers.iter().zip(merged).enumerate() {
            let attention = Attention {
                heads: Heads::new(h, frozen.local),
                rotation: Arc::clone(&rotations[usize::from(frozen.local)]),
                sequences: Arc::clone(&batch.sequences),
            };
            let layer = Layer { weights: Arc::clone(weights), attention, norm: self.norm(), gate: self.gate() };
            states = states.apply_op2(variables.layer(index), LayerOperation::new(layer, learns))?;
        }
        Ok(states)
    }

    /// What the LM head takes, from the states after the last layer.
    pub(crate) fn exit(&self, states: &Tensor, variables: &Variables) -> candle_core::Result<Tensor> {
        let gain = variables.of(EXIT_NORM).expect("made for every tail");
        let normed = states.apply_op2(gain, NormOperation(self.norm()))?;
        let mapped = match variables.of(EXIT_MAP).zip(variables.of(EXIT_MAP_BIAS)) {
            Some((map, bias)) => normed.matmul(&map.t()?)?.broadcast_add(bias)?,
            None => normed.clone(),
        };
        let Some((up, down)) = variables.of(EXIT_MLP_UP).zip(variables.of(EXIT_MLP_DOWN)) else { return Ok(mapped) };
        mapped + normed.matmul(&up.t()?)?.silu()?.matmul(&down.t()?)?
    }

    fn norm(&self) -> RmsNorm {
        RmsNorm { epsilon: self.hyperparameters.rms_eps }
    }

    fn gate(&self) -> Gate {
        let gelu = self.hyperparameters.architecture == Architecture::Gemma3;
        Gate(if gelu { Activation::Gelu } else { Activation::Silu })
    }
}

impl FrozenLayer {
    fn load(
        file: &ModelFile,
        converter: Converter<'_>,
        source: u32,
        quantize: Option<TensorType>,
    ) -> Result<Self, HealError> {
        let name = LayerName::Block(source);
        let matrices = MATRICES.iter().map(|stem| Frozen::load(file, converter, (name, stem), quantize));
        Ok(Self { matrices: matrices.collect::<Result<_, _>>()?, local: file.hyperparameters().is_local(source) })
    }
}

impl Frozen {
    fn load(
        file: &ModelFile,
        converter: Converter<'_>,
        (layer, stem): (LayerName, &str),
        quantize: Option<TensorType>,
    ) -> Result<Self, HealError> {
        let name = layer.tensor(&format!("{stem}.weight"));
        let tensor = file.tensor(&name).expect("a whole model has every layer");
        let stored = stored_type(&tensor, quantize);
        let values = Matrix::new(weights::values(converter, &name, &tensor)?, tensor.dims[0] as usize);
        let bias = weights::vector(file, &layer.tensor(&format!("{stem}.bias"))).map(Arc::from);
        Ok(Self { name, values, stored, bias })
    }

    fn merge(&self, [a, b]: [Matrix; 2], converter: Converter<'_>) -> Result<Projection, HealError> {
        let mut merged = product(b.view(), a.view())?;
        merged.add(&self.values);
        let columns = merged.columns();
        let rounded = weights::rounded(converter, &self.name, merged.values(), columns, self.stored)?;
        Ok(Projection { merged: Matrix::new(rounded, columns), bias: self.bias.clone(), a, b })
    }
}

/// Two matrices, one after the other, that add nothing yet: the first spreads what comes in over the rank, the second is 0.
fn silent(
    [first, second]: [String; 2],
    layer: Option<usize>,
    [out, input]: [usize; 2],
    rank: usize,
    random: &mut fastrand::Rng,
) -> [Parameter; 2] {
    let spread = (3.0 / input as f32).sqrt();
    let spreading = (0..rank * input).map(|_| (random.f32() * 2.0 - 1.0) * spread).collect();
    let matrix = |name, dims, values| Parameter { name, layer, dims, values, decays: true };
    [matrix(first, [rank, input], spreading), matrix(second, [out, rank], vec![0.0; out * rank])]
}

/// An affine map that changes nothing yet.
fn identity(width: usize) -> [Parameter; 2] {
    let mut values = vec![0.0; width * width];
    values.iter_mut().step_by(width + 1).for_each(|value| *value = 1.0);
    let map = Parameter { name: EXIT_MAP.into(), layer: None, dims: [width, width], values, decays: false };
    [map, Parameter::vector(EXIT_MAP_BIAS.into(), None, vec![0.0; width])]
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
