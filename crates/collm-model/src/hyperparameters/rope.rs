//! Position embedding as llama.cpp derives it from metadata.

use std::ops::RangeInclusive;

use super::dimensions::Dimensions;
use super::keys::Keys;
use super::{HyperparameterError, Result, Rope, RopeScaling};

/// Factors outside are no stretch of any model, and make numbers that are not finite.
const STRETCH: RangeInclusive<f32> = 0.01..=10_000.0;

pub(super) fn read_rope(keys: &Keys<'_>, dims: &Dimensions, sliding: bool) -> Result<Rope> {
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
            Some(factor) if !STRETCH.contains(&factor) => return Err(keys.impossible(name, &factor)),
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
