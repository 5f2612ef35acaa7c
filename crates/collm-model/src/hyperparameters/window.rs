//! Which layers slide, and how far they see.

use super::keys::Keys;
use super::{Architecture, LAYERS_MAX, Result, SlidingWindow};
use crate::gguf::{Array, Value};

pub(super) fn read_window(keys: &Keys<'_>, architecture: Architecture, layers: u32) -> Result<Option<SlidingWindow>> {
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

fn read_listed_pattern(keys: &Keys<'_>, array: &Array<'_>, layers: u32) -> Result<Vec<bool>> {
    let flag = |value: Value<'_>| value.as_bool().or_else(|| value.as_u64().map(|number| number != 0));
    let local: Option<Vec<bool>> = array.iter().take(layers as usize).map(flag).collect();
    local
        .filter(|local| local.len() == layers as usize)
        .ok_or_else(|| keys.impossible("attention.sliding_window_pattern", &format!("{} entries", array.len())))
}
