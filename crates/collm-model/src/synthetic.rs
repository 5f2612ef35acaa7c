//! Small random models that are valid down to the tokenizer, for tests: llama.cpp loads them as it loads real ones.
//!
//! Weights are scaled so that the residual stream keeps its size and logits spread by a few units: rounding does not decide
//! the greedy token, and the token changes along the way.

mod tokenizer;
mod weights;

use std::io::Write;
use std::path::Path;

use crate::gguf::{Gguf, GgufWriter, TensorType, Value, WriteError};
use crate::hyperparameters::{Architecture, Hyperparameters};
use crate::layout::{self, Expected, LayerName, Shape};
use weights::Random;

/// What to make. [`SyntheticModel::new`] gives every field a value that makes a valid model.
#[derive(Debug, Clone)]
pub struct SyntheticModel {
    /// Model family.
    pub architecture: Architecture,
    /// Same seed and fields, same file.
    pub seed: u64,
    /// Layers.
    pub layers: u32,
    /// Values of a hidden state; a multiple of 32 for quantised weights, as are `ffn` and `heads * head_dim`.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Values of a head. `width / heads` for llama and qwen2.
    pub head_dim: u32,
    /// Inner width of the feed-forward network.
    pub ffn: u32,
    /// Type of matrices: f32, f16, q8_0 or q4_0. Norms and biases are f32.
    pub weights: TensorType,
    /// Whether the LM head is the token embedding. Random models of this kind soon repeat one token.
    pub tied: bool,
    /// Whether optional biases are there.
    pub biases: bool,
    /// Whether the model carries Llama 3's factors on rotation frequencies (llama only).
    pub rope_factors: bool,
    /// Size of the sliding window, in positions (gemma3 only).
    pub sliding_window: u32,
    /// Key and value of more metadata, a chat template for example.
    pub metadata: Vec<(String, Value<'static>)>,
}

impl SyntheticModel {
    /// A model of six layers and about a third of a million weights.
    pub fn new(architecture: Architecture) -> Self {
        let free_head = matches!(architecture, Architecture::Qwen3 | Architecture::Gemma3);
        Self {
            architecture,
            seed: 1,
            layers: 6,
            width: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: if free_head { 32 } else { 16 },
            ffn: 128,
            weights: TensorType::F32,
            tied: false,
            biases: false,
            rope_factors: false,
            sliding_window: 16,
            metadata: Vec::new(),
        }
    }

    /// Writes the model to `path`.
    ///
    /// # Panics
    /// If the fields make no valid model, which is an error in a test.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let mut writer = self.metadata();
        let header = Gguf::from_bytes(writer.header()).expect("a header without tensors is a valid file");
        let hyperparameters = Hyperparameters::read(&header).expect("the fields make a valid model");
        let tensors = self.tensors(&hyperparameters);
        for (name, expected) in &tensors {
            writer.add_tensor(name, self.tensor_type(expected.shape), stated_dims(expected.shape).as_slice())?;
        }
        let mut random = Random::new(self.seed);
        let mut remaining = tensors.iter();
        writer.write(path, |_, out| {
            let (_, expected) = remaining.next().expect("asked for once per tensor, in order");
            self.write_values(expected, &mut random, out)
        })
    }

    fn metadata(&self) -> GgufWriter<'static> {
        let mut writer = GgufWriter::new();
        let name = self.architecture.name();
        writer.set("general.architecture", Value::string(name));
        writer.set("general.name", Value::string(format!("synthetic {name}")));
        let mut set = |key: &str, value| writer.set(&format!("{name}.{key}"), value);
        set("context_length", Value::U32(512));
        set("block_count", Value::U32(self.layers));
        set("embedding_length", Value::U32(self.width));
        set("feed_forward_length", Value::U32(self.ffn));
        set("attention.head_count", Value::U32(self.heads));
        set("attention.head_count_kv", Value::U32(self.kv_heads));
        set("attention.key_length", Value::U32(self.head_dim));
        set("attention.value_length", Value::U32(self.head_dim));
        set("attention.layer_norm_rms_epsilon", Value::F32(1e-6));
        set("rope.freq_base", Value::F32(10_000.0));
        if self.architecture == Architecture::Gemma3 {
            set("attention.sliding_window", Value::U32(self.sliding_window));
            set("rope.freq_base", Value::F32(100_000.0));
        }
        tokenizer::write(&mut writer);
        for (key, value) in &self.metadata {
            writer.set(key, value.clone());
        }
        writer
    }

    /// Every tensor with its whole name, in the order of real files.
    fn tensors(&self, h: &Hyperparameters) -> Vec<(String, Expected)> {
        let globals = std::iter::once(layout::token_embedding(h)).chain(layout::head(h));
        let globals =
            globals.filter(|expected| self.has(expected)).map(|expected| (expected.name.to_owned(), expected));
        let layers = (0..h.layers).flat_map(|layer| {
            let tensors = layout::layer(h).into_iter().filter(|expected| self.has(expected));
            tensors.map(move |expected| (LayerName::Block(layer).tensor(expected.name), expected))
        });
        globals.chain(layers).collect()
    }

    fn has(&self, expected: &Expected) -> bool {
        expected.required
            || match expected.name {
                "output.weight" => !self.tied,
                "rope_freqs.weight" => self.rope_factors,
                _ => self.biases,
            }
    }

    fn tensor_type(&self, shape: Shape) -> TensorType {
        match shape {
            Shape::Vector(_) => TensorType::F32,
            Shape::Matrix(..) => self.weights,
        }
    }

    fn write_values(&self, expected: &Expected, random: &mut Random, out: &mut dyn Write) -> std::io::Result<()> {
        let values = expected.shape.dims().iter().product::<u64>() as usize;
        let values: Vec<f32> = match expected.shape {
            Shape::Vector(_) if expected.name == "rope_freqs.weight" => (0..values).map(|i| 1.0 + i as f32).collect(),
            Shape::Vector(_) if expected.name.ends_with("bias") => random.spread(values, 0.0, 0.1),
            Shape::Vector(_) => random.spread(values, 1.0, 0.2),
            Shape::Matrix(row, _) => random.spread(values, 0.0, spread_of(expected.name) / (row as f32).sqrt()),
        };
        out.write_all(&weights::encode(self.tensor_type(expected.shape), &values))
    }
}

/// Standard deviation of what a matrix makes of values of deviation 1: LM heads and embeddings spread wide, so that logits do.
fn spread_of(name: &str) -> f32 {
    if matches!(name, "token_embd.weight" | "output.weight") { 3.0 } else { 1.0 }
}

fn stated_dims(shape: Shape) -> Vec<u64> {
    match shape {
        Shape::Vector(length) => vec![length.into()],
        Shape::Matrix(row, rows) => vec![row.into(), rows.into()],
    }
}
