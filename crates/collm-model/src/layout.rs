//! Which tensors a model of each family consists of, and their shapes.
//!
//! The list is complete: a tensor that is not on it would change the computation in a way the engine does not know, so the
//! file is refused, as llama.cpp refuses it.

use crate::hyperparameters::{Architecture, Hyperparameters};

/// A tensor that a family's models have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Whole name, or what follows `blk.3.` for tensors of a layer.
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
}

/// Row length first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Norm gains, biases, factors: always f32.
    Vector(u32),
    /// Weights `[row length, rows]`, of any type that can be multiplied with.
    Matrix(u32, u32),
}

impl Shape {
    pub(crate) fn dims(self) -> [u64; 4] {
        match self {
            Self::Vector(length) => [length.into(), 1, 1, 1],
            Self::Matrix(row, rows) => [row.into(), rows.into(), 1, 1],
        }
    }
}

/// Where a layer's tensors are in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerName {
    /// Under the layer's own index: `blk.3.attn_q.weight`.
    Block(u32),
    /// In an edge part, under the index in its tail: `tail.3.attn_q.weight`.
    Tail(u32),
}

impl LayerName {
    /// The name of one of the layer's tensors, `suffix` being `attn_q.weight` for example.
    pub fn tensor(self, suffix: &str) -> String {
        match self {
            Self::Block(index) => format!("blk.{index}.{suffix}"),
            Self::Tail(index) => format!("tail.{index}.{suffix}"),
        }
    }
}

const fn required(name: &'static str, shape: Shape) -> Expected {
    Expected { name, shape, required: true }
}

const fn optional(name: &'static str, shape: Shape) -> Expected {
    Expected { name, shape, required: false }
}

/// Token embedding `[width, vocabulary]`.
pub(crate) fn token_embedding(h: &Hyperparameters) -> Expected {
    required("token_embd.weight", Shape::Matrix(h.width, h.vocabulary))
}

/// Final norm, LM head if it is not the token embedding, and rope factors if the model has them.
pub(crate) fn head(h: &Hyperparameters) -> Vec<Expected> {
    let mut head = vec![
        required("output_norm.weight", Shape::Vector(h.width)),
        optional("output.weight", Shape::Matrix(h.width, h.vocabulary)),
    ];
    if h.architecture == Architecture::Llama {
        head.push(optional("rope_freqs.weight", Shape::Vector(h.rope.dimensions / 2)));
    }
    head
}

/// The tensors of one layer.
pub(crate) fn layer(h: &Hyperparameters) -> Vec<Expected> {
    let mut tensors = attention(h);
    tensors.extend(feed_forward(h));
    tensors
}

fn attention(h: &Hyperparameters) -> Vec<Expected> {
    use Shape::{Matrix, Vector};
    let (query, key, value) = (h.query_width(), h.key_width(), h.value_width());
    let mut tensors = vec![
        required("attn_norm.weight", Vector(h.width)),
        required("attn_q.weight", Matrix(h.width, query)),
        required("attn_k.weight", Matrix(h.width, key)),
        required("attn_v.weight", Matrix(h.width, value)),
        required("attn_output.weight", Matrix(query, h.width)),
    ];
    let bias = if h.architecture == Architecture::Qwen2 { required } else { optional };
    tensors.extend([
        bias("attn_q.bias", Vector(query)),
        bias("attn_k.bias", Vector(key)),
        bias("attn_v.bias", Vector(value)),
    ]);
    match h.architecture {
        Architecture::Llama => tensors.push(optional("attn_output.bias", Vector(h.width))),
        Architecture::Qwen2 => (),
        Architecture::Qwen3 | Architecture::Gemma3 => tensors.extend([
            required("attn_q_norm.weight", Vector(h.head_dim_k)),
            required("attn_k_norm.weight", Vector(h.head_dim_k)),
        ]),
    }
    if h.architecture == Architecture::Gemma3 {
        tensors.push(required("post_attention_norm.weight", Vector(h.width)));
    }
    tensors
}

fn feed_forward(h: &Hyperparameters) -> Vec<Expected> {
    use Shape::{Matrix, Vector};
    let mut tensors = vec![
        required("ffn_norm.weight", Vector(h.width)),
        required("ffn_gate.weight", Matrix(h.width, h.ffn)),
        required("ffn_up.weight", Matrix(h.width, h.ffn)),
        required("ffn_down.weight", Matrix(h.ffn, h.width)),
    ];
    match h.architecture {
        Architecture::Llama => tensors.extend([
            optional("ffn_gate.bias", Vector(h.ffn)),
            optional("ffn_up.bias", Vector(h.ffn)),
            optional("ffn_down.bias", Vector(h.width)),
        ]),
        Architecture::Gemma3 => tensors.push(required("post_ffw_norm.weight", Vector(h.width))),
        Architecture::Qwen2 | Architecture::Qwen3 => (),
    }
    tensors
}

/// The tensors that an exit's head may consist of, after `exit.1.`.
pub(crate) const EXIT_HEAD: [&str; 5] = ["norm.weight", "map.weight", "map.bias", "mlp.up.weight", "mlp.down.weight"];

/// The shapes of [`EXIT_HEAD`]. `hidden` is the inner width of its MLP.
pub(crate) fn exit_head(h: &Hyperparameters, hidden: u32) -> [Expected; 5] {
    use Shape::{Matrix, Vector};
    let [norm, map, bias, up, down] = EXIT_HEAD;
    [
        optional(norm, Vector(h.width)),
        optional(map, Matrix(h.width, h.width)),
        optional(bias, Vector(h.width)),
        optional(up, Matrix(h.width, hidden)),
        optional(down, Matrix(hidden, h.width)),
    ]
}
