//! The numbers that define a model, read from metadata exactly as llama.cpp reads them.
//!
//! What llama.cpp would compute differently from a plain decoder of these four families (experts, other rope scalings,
//! non-causal attention, soft caps) is refused by name: unsupported is an error, never a silently wrong result.

use std::fmt;

use crate::gguf::{Gguf, Value};

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

/// Upper bound of any dimension: far above real ones, far below what overflows a product of three.
const DIMENSION_MAX: u64 = 1 << 20;
/// As in llama.cpp.
const LAYERS_MAX: u64 = 512;

fn read_architecture(gguf: &Gguf) -> Result<Architecture> {
    let key = "general.architecture";
    let value = gguf.value(key).ok_or_else(|| HyperparameterError::Missing(key.to_owned()))?;
    let name = value.as_str().ok_or_else(|| HyperparameterError::Missing(key.to_owned()))?;
    let known = Architecture::ALL.into_iter().find(|architecture| architecture.name() == name);
    known.ok_or_else(|| HyperparameterError::Architecture(name.to_owned()))
}

/// The keys of one architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn value(&self, name: &str) -> Option<Value<'_>> {
        self.gguf.value(&self.key(name))
    }

    fn impossible(&self, name: &str, value: &dyn ToString) -> HyperparameterError {
        HyperparameterError::Impossible { key: self.key(name), value: value.to_string() }
    }

    fn unsupported(&self, name: &str, value: &dyn ToString) -> HyperparameterError {
        HyperparameterError::Unsupported { key: self.key(name), value: value.to_string() }
    }

    /// An integer in `1..=max`, if the key is there.
    fn optional_count(&self, name: &str, max: u64) -> Result<Option<u32>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match self.uniform(name, &value)? {
            count if (1..=max).contains(&count) => Ok(Some(count as u32)),
            count => Err(self.impossible(name, &count)),
        }
    }

    fn count(&self, name: &str, max: u64) -> Result<u32> {
        self.optional_count(name, max)?.ok_or_else(|| HyperparameterError::Missing(self.key(name)))
    }

    /// An integer, or an array of equal ones, one a layer.
    fn uniform(&self, name: &str, value: &Value<'_>) -> Result<u64> {
        let missing = || HyperparameterError::Missing(self.key(name));
        let Value::Array(array) = value else { return value.as_u64().ok_or_else(missing) };
        let first = array.element_at(0).and_then(|value| value.as_u64()).ok_or_else(missing)?;
        if array.iter().any(|value| value.as_u64() != Some(first)) {
            return Err(self.unsupported(name, &"different from layer to layer"));
        }
        Ok(first)
    }

    /// A finite number, if the key is there.
    fn optional_number(&self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_f32() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            Some(number) => Err(self.impossible(name, &number)),
            None => Err(HyperparameterError::Missing(self.key(name))),
        }
    }

    fn optional_positive(&self, name: &str) -> Result<Option<f32>> {
        match self.optional_number(name)? {
            Some(number) if number <= 0.0 => Err(self.impossible(name, &number)),
            other => Ok(other),
        }
    }

    fn positive(&self, name: &str) -> Result<f32> {
        self.optional_positive(name)?.ok_or_else(|| HyperparameterError::Missing(self.key(name)))
    }

    /// Whatever changes the computation in a way the engine does not know.
    fn refuse_unsupported(&self) -> Result<()> {
        let experts = self.value("expert_count").and_then(|value| value.as_u64()).unwrap_or(0);
        if experts > 0 {
            return Err(HyperparameterError::Experts { architecture: self.prefix.to_owned(), experts });
        }
        if self.value("attention.causal").and_then(|value| value.as_bool()) == Some(false) {
            return Err(self.unsupported("attention.causal", &false));
        }
        for name in ["final_logit_softcapping", "attn_logit_softcapping"] {
            if let Some(cap) = self.optional_number(name)?.filter(|&cap| cap != 0.0) {
                return Err(self.unsupported(name, &cap));
            }
        }
        match self.value("nextn_predict_layers").and_then(|value| value.as_u64()) {
            Some(layers) if layers > 0 => Err(self.unsupported("nextn_predict_layers", &layers)),
            _ => Ok(()),
        }
    }
}

struct Dimensions {
    layers: u32,
    width: u32,
    heads: u32,
    kv_heads: u32,
    head_dim_k: u32,
    head_dim_v: u32,
    ffn: u32,
    vocabulary: u32,
    context_train: u32,
    rope_dimensions: u32,
}

impl Dimensions {
    fn read(keys: &Keys<'_>) -> Result<Self> {
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

    fn check(&self, architecture: Architecture) -> Result<()> {
        let unsupported = |key: &str, value: u32| HyperparameterError::Unsupported {
            key: format!("{architecture}.{key}"),
            value: value.to_string(),
        };
        if u64::from(self.heads) * u64::from(self.head_dim_k) > DIMENSION_MAX {
            return Err(unsupported("attention.key_length", self.head_dim_k));
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

fn read_rope(keys: &Keys<'_>, dims: &Dimensions, sliding: bool) -> Result<Rope> {
    let scaling = read_scaling(keys)?;
    let frequency_scale = if scaling == RopeScaling::None { 1.0 } else { read_frequency_scale(keys)? };
    let context = keys.optional_count("rope.scaling.original_context_length", u64::from(u32::MAX >> 1))?;
    let base_local = keys.optional_positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
    Ok(Rope {
        dimensions: dims.rope_dimensions,
        base: keys.optional_positive("rope.freq_base")?.unwrap_or(10_000.0),
        base_local: sliding.then_some(base_local),
        scaling,
        frequency_scale,
        ext_factor: if scaling == RopeScaling::Yarn { 1.0 } else { 0.0 },
        attn_factor: attn_factor(scaling, frequency_scale)
            * keys.optional_positive("rope.scaling.attn_factor")?.unwrap_or(1.0),
        beta_fast: 32.0,
        beta_slow: 1.0,
        context_original: context.unwrap_or(dims.context_train),
    })
}

fn read_scaling(keys: &Keys<'_>) -> Result<RopeScaling> {
    let name = "rope.scaling.type";
    let Some(value) = keys.value(name) else { return Ok(RopeScaling::Linear) };
    match value.as_str() {
        Some("none") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear),
        Some("yarn") => Ok(RopeScaling::Yarn),
        Some(other) => Err(keys.unsupported(name, &other)),
        None => Err(HyperparameterError::Missing(keys.key(name))),
    }
}

fn read_frequency_scale(keys: &Keys<'_>) -> Result<f32> {
    for name in ["rope.scaling.factor", "rope.scale_linear"] {
        match keys.optional_number(name)? {
            Some(0.0) => return Ok(1.0),
            Some(factor) if factor < 0.0 => return Err(keys.impossible(name, &factor)),
            Some(factor) => return Ok(1.0 / factor),
            None => (),
        }
    }
    Ok(1.0)
}

/// ggml multiplies YaRN's magnitude correction itself; llama.cpp passes the quotient that leaves it applied once.
fn attn_factor(scaling: RopeScaling, frequency_scale: f32) -> f32 {
    if scaling != RopeScaling::Yarn {
        return 1.0;
    }
    let stretch = 1.0 / frequency_scale;
    let correction = 0.1 * stretch.ln() + 1.0;
    let wanted = if stretch <= 1.0 { 1.0 } else { correction };
    wanted / correction
}

fn read_window(keys: &Keys<'_>, architecture: Architecture, layers: u32) -> Result<Option<SlidingWindow>> {
    if architecture != Architecture::Gemma3 {
        return Ok(None);
    }
    let size = match keys.value("attention.sliding_window").map(|value| value.as_u64()) {
        None | Some(Some(0)) => return Ok(None),
        Some(_) => keys.count("attention.sliding_window", u64::from(u32::MAX >> 1))?,
    };
    Ok(Some(SlidingWindow { size, local: read_pattern(keys, layers)? }))
}

/// Five sliding layers, then a global one, unless the file says otherwise.
fn read_pattern(keys: &Keys<'_>, layers: u32) -> Result<Vec<bool>> {
    let name = "attention.sliding_window_pattern";
    let period = match keys.value(name) {
        None => 6,
        Some(Value::Array(array)) => return read_listed_pattern(keys, &array, layers),
        Some(value) => match value.as_u64() {
            Some(period) if period <= LAYERS_MAX => period as u32,
            _ => return Err(keys.impossible(name, &format!("{value:?}"))),
        },
    };
    Ok((0..layers).map(|layer| period == 0 || layer % period < period - 1).collect())
}

fn read_listed_pattern(keys: &Keys<'_>, array: &crate::gguf::Array<'_>, layers: u32) -> Result<Vec<bool>> {
    let flag = |value: Value<'_>| value.as_bool().or_else(|| value.as_u64().map(|number| number != 0));
    let local: Option<Vec<bool>> = array.iter().take(layers as usize).map(flag).collect();
    local
        .filter(|local| local.len() == layers as usize)
        .ok_or_else(|| keys.impossible("attention.sliding_window_pattern", &format!("{} entries", array.len())))
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
