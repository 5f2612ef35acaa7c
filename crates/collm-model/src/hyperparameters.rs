//! The numbers that define a model, read from metadata exactly as llama.cpp reads them.
//!
//! What llama.cpp would compute differently from a plain decoder of these four families (experts, other rope scalings,
//! non-causal attention, soft caps) is refused by name: unsupported is an error, never a silently wrong result.

mod dimensions;
mod keys;
mod rope;
mod window;

use std::fmt;

use dimensions::Dimensions;
use keys::Keys;
use rope::read_rope;
use window::read_window;

use crate::gguf::Gguf;

/// A model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Llama 2 and 3, SmolLM2, Mistral.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
    /// Gemma 3, text.
    Gemma3,
}

impl Architecture {
    /// Every supported family.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gemma3];

    /// Name in `general.architecture`, and prefix of the family's keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
        }
    }

    /// Which values of a head are rotated together.
    pub fn rope_kind(self) -> RopeKind {
        match self {
            Self::Llama => RopeKind::Adjacent,
            Self::Qwen2 | Self::Qwen3 | Self::Gemma3 => RopeKind::Halves,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which two values of a head a rotation turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeKind {
    /// Values `2i` and `2i + 1`; ggml's mode 0.
    Adjacent,
    /// Values `i` and `i + dimensions / 2`; ggml's NEOX mode.
    Halves,
}

/// Rotary position embedding: the arguments of `ggml_rope_ext`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Values of a head that are rotated.
    pub dimensions: u32,
    /// Frequency base; of the global layers where there are sliding ones.
    pub base: f32,
    /// Frequency base of sliding layers. Their frequency scale is 1.
    pub base_local: Option<f32>,
    /// How the context was stretched.
    pub scaling: RopeScaling,
    /// Factor on frequencies: 1 / stretch.
    pub frequency_scale: f32,
    /// YaRN mix between interpolation (0) and extrapolation (1).
    pub ext_factor: f32,
    /// Factor on queries and keys.
    pub attn_factor: f32,
    /// YaRN's ramp, fast end.
    pub beta_fast: f32,
    /// YaRN's ramp, slow end.
    pub beta_slow: f32,
    /// Context the model had before it was stretched, in positions.
    pub context_original: u32,
}

/// How a model's context was stretched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeScaling {
    /// Not at all, whatever factor the file states.
    None,
    /// All frequencies by one factor; also what a file without a statement means.
    Linear,
    /// YaRN.
    Yarn,
}

/// Layers that attend to the last positions only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// A query at `p` sees keys at positions above `p - size`.
    pub size: u32,
    /// For each layer, whether it slides.
    pub local: Vec<bool>,
}

/// The numbers that define a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperparameters {
    /// Model family.
    pub architecture: Architecture,
    /// Layers of the whole model, also in a part.
    pub layers: u32,
    /// Values of a hidden state.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads; divides `heads`.
    pub kv_heads: u32,
    /// Values of a query or key head.
    pub head_dim_k: u32,
    /// Values of a value head; equal to `head_dim_k` in all supported models.
    pub head_dim_v: u32,
    /// Inner width of the feed-forward network.
    pub ffn: u32,
    /// Tokens.
    pub vocabulary: u32,
    /// Positions the model was trained on.
    pub context_train: u32,
    /// Added under the root of every norm.
    pub rms_eps: f32,
    /// Position embedding.
    pub rope: Rope,
    /// Sliding layers, if there are any.
    pub sliding_window: Option<SlidingWindow>,
    /// Factor on the dot product of query and key.
    pub attention_scale: f32,
    /// Factor on token embeddings; 1 except for gemma3.
    pub embedding_scale: f32,
}

impl Hyperparameters {
    /// Whether a layer attends to a window only.
    pub fn is_local(&self, layer: u32) -> bool {
        let window = self.sliding_window.as_ref();
        window.and_then(|window| window.local.get(layer as usize)).copied().unwrap_or(false)
    }

    /// Values of all query heads of a position.
    pub fn query_width(&self) -> u32 {
        self.heads * self.head_dim_k
    }

    /// Values of all key heads of a position.
    pub fn key_width(&self) -> u32 {
        self.kv_heads * self.head_dim_k
    }

    /// Values of all value heads of a position.
    pub fn value_width(&self) -> u32 {
        self.kv_heads * self.head_dim_v
    }

    /// Reads and checks the metadata of a model or part.
    pub fn read(gguf: &Gguf) -> Result<Self, HyperparameterError> {
        let architecture = read_architecture(gguf)?;
        let keys = Keys { gguf, prefix: architecture.name() };
        keys.refuse_unsupported()?;
        let dims = Dimensions::read(&keys)?;
        dims.check(architecture)?;
        let window = read_window(&keys, architecture, dims.layers)?;
        Ok(Self {
            architecture,
            layers: dims.layers,
            width: dims.width,
            heads: dims.heads,
            kv_heads: dims.kv_heads,
            head_dim_k: dims.head_dim_k,
            head_dim_v: dims.head_dim_v,
            ffn: dims.ffn,
            vocabulary: dims.vocabulary,
            context_train: dims.context_train,
            rms_eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            rope: read_rope(&keys, &dims, window.is_some())?,
            sliding_window: window,
            attention_scale: attention_scale(architecture, &dims),
            embedding_scale: if architecture == Architecture::Gemma3 { (dims.width as f32).sqrt() } else { 1.0 },
        })
    }
}

/// Why metadata does not define a supported model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HyperparameterError {
    /// A family without an engine.
    #[error("the architecture {0:?} is not supported; supported are llama, qwen2, qwen3 and gemma3")]
    Architecture(String),
    /// A mixture of experts.
    #[error("the model is a mixture of {experts} experts ({architecture}); only dense models are supported")]
    Experts {
        /// The family.
        architecture: String,
        /// Experts a layer.
        experts: u64,
    },
    /// A key that must be there.
    #[error("the metadata key {0:?} is missing or of the wrong type")]
    Missing(String),
    /// A value no real model has.
    #[error("the metadata key {key:?} has the impossible value {value}")]
    Impossible {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// A value real models have and the engine does not compute.
    #[error("{key} = {value} is not supported")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
}

type Result<T, E = HyperparameterError> = std::result::Result<T, E>;

/// As in llama.cpp.
const LAYERS_MAX: u64 = 512;

fn read_architecture(gguf: &Gguf) -> Result<Architecture> {
    let key = "general.architecture";
    let value = gguf.value(key).ok_or_else(|| HyperparameterError::Missing(key.to_owned()))?;
    let name = value.as_str().ok_or_else(|| HyperparameterError::Missing(key.to_owned()))?;
    let known = Architecture::ALL.into_iter().find(|architecture| architecture.name() == name);
    known.ok_or_else(|| HyperparameterError::Architecture(name.to_owned()))
}

/// Gemma 3 27B is the one member of its family that scales by the width of a head's share instead of the head itself.
fn attention_scale(architecture: Architecture, dims: &Dimensions) -> f32 {
    const LAYERS_OF_GEMMA3_27B: u32 = 62;
    let scaled_by = if architecture == Architecture::Gemma3 && dims.layers == LAYERS_OF_GEMMA3_27B {
        dims.width / dims.heads
    } else {
        dims.head_dim_k
    };
    1.0 / (scaled_by as f32).sqrt()
}
