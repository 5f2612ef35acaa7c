//! The layers of all supported families: their weights, and the steps from one hidden state to the next.
//!
//! The families differ in which tensors a layer has (biases, norms of queries and keys, norms after each half), in the
//! activation and in how positions are rotated, so one builder serves all of them. Deliberately absent: key-value memory
//! and masks, which [`crate::attention`] knows.

use collm_model::gguf::TensorView;
use collm_model::{Architecture, Hyperparameters, LayerName, ModelFile, RopeKind};
use llama_cpp_sys_2 as sys;

use crate::LoadError;
use crate::build::Builder;
use crate::ggml::Tensor;
use crate::weights::{Affine, Loader, Projection};

/// `GGML_ROPE_TYPE_NEOX` of ggml.h, a macro that the bindings do not carry.
const ROPE_NEOX: i32 = 2;

/// The weights of one layer. A clone refers to the same ones.
#[derive(Debug, Clone)]
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Tensor,
    /// To queries, keys and values.
    pub(crate) attention_in: Projection,
    /// Norms of each query and key head.
    pub(crate) head_norms: Option<(Tensor, Tensor)>,
    pub(crate) attention_out: Affine,
    pub(crate) attention_post_norm: Option<Tensor>,
    pub(crate) ffn_norm: Tensor,
    /// To the gate and the values that it scales.
    pub(crate) ffn_in: Projection,
    pub(crate) ffn_out: Affine,
    pub(crate) ffn_post_norm: Option<Tensor>,
    /// Whether the layer attends to a window only.
    pub(crate) local: bool,
}

impl LayerWeights {
    /// `source` is the layer's index in the whole model, which decides whether it is local.
    pub(crate) fn load<'a>(
        loader: &mut Loader<'a>,
        file: &'a ModelFile,
        name: LayerName,
        source: u32,
    ) -> Result<Self, LoadError> {
        let optional = |suffix: &str| file.layer_tensor(name, suffix);
        let required = |suffix: &str| optional(suffix).expect("checked when the file was opened");
        let part = |stem: &str| (required(&format!("{stem}.weight")), optional(&format!("{stem}.bias")));
        let mut vector = |view: Option<TensorView<'a>>| view.map(|view| loader.vector(&view)).transpose();
        let attention_norm = vector(Some(required("attn_norm.weight")))?;
        let query_norm = vector(optional("attn_q_norm.weight"))?;
        let key_norm = vector(optional("attn_k_norm.weight"))?;
        let attention_post_norm = vector(optional("post_attention_norm.weight"))?;
        let ffn_norm = vector(Some(required("ffn_norm.weight")))?;
        let ffn_post_norm = vector(optional("post_ffw_norm.weight"))?;
        Ok(Self {
            attention_norm: attention_norm.expect("given"),
            attention_in: loader.projection(&[part("attn_q"), part("attn_k"), part("attn_v")])?,
            head_norms: query_norm.zip(key_norm),
            attention_out: loader.affine(&part("attn_output"))?,
            attention_post_norm,
            ffn_norm: ffn_norm.expect("given"),
            ffn_in: loader.projection(&[part("ffn_gate"), part("ffn_up")])?,
            ffn_out: loader.affine(&part("ffn_down"))?,
            ffn_post_norm,
            local: file.hyperparameters().is_local(source),
        })
    }
}

/// What all layers of a model share.
#[derive(Debug, Clone)]
pub(crate) struct LayerShape {
    pub(crate) hyperparameters: Hyperparameters,
    /// Factors on rotation frequencies, of models whose context was stretched by a table.
    pub(crate) rope_factors: Option<Tensor>,
}

/// Queries `[head_dim, heads, rows]`, keys and values of one layer, rotated to their positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Qkv {
    pub(crate) queries: Tensor,
    /// `[key_width, rows]`.
    pub(crate) keys: Tensor,
    /// `[value_width, rows]`.
    pub(crate) values: Tensor,
}

impl LayerShape {
    /// The first half of a layer up to attention.
    pub(crate) fn queries_keys_values(
        &self,
        build: &Builder<'_>,
        layer: &LayerWeights,
        hidden: Tensor,
        positions: Tensor,
    ) -> Qkv {
        let h = &self.hyperparameters;
        let normed = build.rms_norm(hidden, layer.attention_norm, h.rms_eps);
        let (heads, kv_heads) = (h.heads as usize, h.kv_heads as usize);
        let dim = h.head_dim_k as usize;
        if let (Projection::Joined(affine), None) = (&layer.attention_in, layer.head_norms) {
            // Queries and keys lie side by side, so one rotation turns both.
            let all = build.affine(*affine, normed);
            let rotated = self.rotate(build, layer, build.heads(all, 0, dim, heads + kv_heads), positions);
            return Qkv {
                queries: build.some_heads(rotated, 0, heads),
                keys: build.columns(build.flat_heads(rotated), heads * dim, kv_heads * dim),
                values: build.columns(all, (heads + kv_heads) * dim, kv_heads * h.head_dim_v as usize),
            };
        }
        let widths = [heads * dim, kv_heads * dim, kv_heads * h.head_dim_v as usize];
        let [mut queries, mut keys, values] = build.project(&layer.attention_in, normed, widths);
        queries = build.heads(queries, 0, dim, heads);
        keys = build.heads(keys, 0, dim, kv_heads);
        if let Some((query_norm, key_norm)) = layer.head_norms {
            queries = build.rms_norm(queries, query_norm, h.rms_eps);
            keys = build.rms_norm(keys, key_norm, h.rms_eps);
        }
        let queries = self.rotate(build, layer, queries, positions);
        Qkv {
            queries: if self.scales_queries() { build.scale(queries, h.attention_scale) } else { queries },
            keys: build.flat_heads(self.rotate(build, layer, keys, positions)),
            values,
        }
    }

    /// Factor on the products of queries and keys that is left to attention.
    pub(crate) fn attention_scale(&self) -> f32 {
        if self.scales_queries() { 1.0 } else { self.hyperparameters.attention_scale }
    }

    /// Whether the queries themselves are scaled, before they are rounded to f16: the same in mathematics, not in bits, and
    /// quantised weights make much of a bit. As the reference does it.
    fn scales_queries(&self) -> bool {
        self.hyperparameters.architecture == Architecture::Gemma3
    }

    /// The rest of a layer. `attended` is `[query_width, rows]`.
    pub(crate) fn finish(&self, build: &Builder<'_>, layer: &LayerWeights, hidden: Tensor, attended: Tensor) -> Tensor {
        let h = &self.hyperparameters;
        let mut out = build.affine(layer.attention_out, attended);
        if let Some(norm) = layer.attention_post_norm {
            out = build.rms_norm(out, norm, h.rms_eps);
        }
        let middle = build.add(out, hidden);
        let normed = build.rms_norm(middle, layer.ffn_norm, h.rms_eps);
        let gated = match (&layer.ffn_in, h.architecture) {
            (Projection::Joined(affine), architecture) => {
                let both = build.affine(*affine, normed);
                if architecture == Architecture::Gemma3 { build.geglu(both) } else { build.swiglu(both) }
            }
            (Projection::Apart(parts), architecture) => {
                let (gate, up) = (build.affine(parts[0], normed), build.affine(parts[1], normed));
                if architecture == Architecture::Gemma3 {
                    build.geglu_split(gate, up)
                } else {
                    build.swiglu_split(gate, up)
                }
            }
        };
        let mut out = build.affine(layer.ffn_out, gated);
        if let Some(norm) = layer.ffn_post_norm {
            out = build.rms_norm(out, norm, h.rms_eps);
        }
        build.add(out, middle)
    }

    fn rotate(&self, build: &Builder<'_>, layer: &LayerWeights, heads: Tensor, positions: Tensor) -> Tensor {
        let h = &self.hyperparameters;
        let rope = &h.rope;
        let (base, frequency_scale) = match rope.base_local {
            Some(base) if layer.local => (base, 1.0),
            _ => (rope.base, rope.frequency_scale),
        };
        let mode = match h.architecture.rope_kind() {
            RopeKind::Adjacent => 0,
            RopeKind::Halves => ROPE_NEOX,
        };
        let factors = self.rope_factors.map_or(std::ptr::null_mut(), Tensor::raw);
        // SAFETY: all tensors belong to live contexts; the numbers were checked when the file was opened.
        Tensor::new(unsafe {
            sys::ggml_rope_ext(
                build.raw(),
                heads.raw(),
                positions.raw(),
                factors,
                rope.dimensions.cast_signed(),
                mode,
                rope.context_original.cast_signed(),
                base,
                frequency_scale,
                rope.ext_factor,
                rope.attn_factor,
                rope.beta_fast,
                rope.beta_slow,
            )
        })
    }
}
