//! The sizes of a model, and whether they go together.

use super::keys::Keys;
use super::{Architecture, HyperparameterError, LAYERS_MAX, Result};
use crate::gguf::{Gguf, Value};

/// Upper bound of any dimension: far above real ones, far below what overflows a product of three.
const DIMENSION_MAX: u64 = 1 << 20;

pub(super) struct Dimensions {
    pub(super) layers: u32,
    pub(super) width: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) head_dim_k: u32,
    pub(super) head_dim_v: u32,
    pub(super) ffn: u32,
    pub(super) vocabulary: u32,
    pub(super) context_train: u32,
    pub(super) rope_dimensions: u32,
}

impl Dimensions {
    pub(super) fn read(keys: &Keys<'_>) -> Result<Self> {
        let width = keys.count("embedding_length", DIMENSION_MAX)?;
        let heads = keys.count("attention.head_count", DIMENSION_MAX)?;
        let head_dim = || match width / heads {
            0 => Err(keys.impossible("attention.head_count", &heads)),
            quotient => Ok(quotient),
        };
        let dimension = |name| keys.optional_count(name, DIMENSION_MAX);
        let head_dim_k = dimension("attention.key_length")?.map_or_else(head_dim, Ok)?;
        Ok(Self {
            layers: keys.count("block_count", LAYERS_MAX)?,
            width,
            heads,
            kv_heads: dimension("attention.head_count_kv")?.unwrap_or(heads),
            head_dim_k,
            head_dim_v: dimension("attention.value_length")?.map_or_else(head_dim, Ok)?,
            ffn: keys.count("feed_forward_length", DIMENSION_MAX)?,
            vocabulary: read_vocabulary(keys.gguf)?,
            context_train: keys.count("context_length", u64::from(u32::MAX >> 1))?,
            rope_dimensions: dimension("rope.dimension_count")?.unwrap_or(head_dim_k),
        })
    }

    pub(super) fn check(&self, architecture: Architecture) -> Result<()> {
        let unsupported = |key: &str, value: u32| HyperparameterError::Unsupported {
            key: format!("{architecture}.{key}"),
            value: value.to_string(),
        };
        if u64::from(self.heads) * u64::from(self.head_dim_k) > DIMENSION_MAX {
            return Err(unsupported("attention.key_length", self.head_dim_k));
        }
        if self.heads > self.width {
            return Err(unsupported("attention.head_count", self.heads));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(unsupported("attention.head_count_kv", self.kv_heads));
        }
        if self.head_dim_v != self.head_dim_k {
            return Err(unsupported("attention.value_length", self.head_dim_v));
        }
        if self.rope_dimensions != self.head_dim_k || !self.rope_dimensions.is_multiple_of(2) {
            return Err(unsupported("rope.dimension_count", self.rope_dimensions));
        }
        Ok(())
    }
}

/// As in llama.cpp, the vocabulary is what the tokenizer lists.
fn read_vocabulary(gguf: &Gguf) -> Result<u32> {
    let key = "tokenizer.ggml.tokens";
    match gguf.value(key) {
        Some(Value::Array(tokens)) if !tokens.is_empty() => Ok(tokens.len() as u32),
        _ => Err(HyperparameterError::Missing(key.to_owned())),
    }
}
