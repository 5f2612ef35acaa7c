//! What makes the shortlist of an exit in a file: the key `collm.exit.n.shortlist.length` and two matrices.
//!
//! All tokens are scored at a low rank `r`, and the best `length` of them exactly: `logit[t] ~ keys[t] . (query state)` with
//! `keys[t] = key head[t]`, `head` being the LM head. A file of exits holds `shortlist.query.weight` and `shortlist.key.weight`, both
//! `[width, r]`; an edge part, for which the product with the whole LM head has been made, `shortlist.keys.weight` `[r, vocabulary]` in
//! place of the latter.

use super::{ExitsFault, fitted};
use crate::gguf::{Gguf, TensorType};
use crate::hyperparameters::Hyperparameters;
use crate::layout::Shape;
use crate::model_file::TensorError;
use crate::part::ExitNumber;

/// What turns a state into a query, `[width, r]`.
pub(super) const QUERY: &str = "shortlist.query.weight";
/// What turns a row of the LM head into a key, `[width, r]`.
pub(crate) const KEY: &str = "shortlist.key.weight";
/// The keys of all tokens, `[r, vocabulary]`.
pub(crate) const KEYS: &str = "shortlist.keys.weight";
/// How an edge part stores [`KEYS`]: a rank must be whole blocks of it.
pub(crate) const KEYS_TYPE: TensorType = TensorType::Q8_0;
/// What the gate's features look at.
const LENGTH_MIN: u32 = 8;
/// Many times what any exit needs: every token on it takes a row of the LM head as floats.
const LENGTH_MAX: u32 = 4096;

/// Whose exits they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// A file of exits, which fits any copy of its model.
    File,
    /// An edge part, which holds the LM head.
    Part,
}

/// Where the length is.
pub(super) fn length_key(exit: ExitNumber) -> String {
    exit.key("shortlist.length")
}

/// Tokens of a shortlist; `None` if the exit makes none.
pub(super) fn read(gguf: &Gguf, exit: ExitNumber) -> Result<Option<u32>, ExitsFault> {
    let key = length_key(exit);
    let Some(value) = gguf.value(&key) else { return Ok(None) };
    let length = value.as_u64().and_then(|length| u32::try_from(length).ok());
    length.filter(|length| (LENGTH_MIN..=LENGTH_MAX).contains(length)).map(Some).ok_or(ExitsFault::Key(key))
}

/// Checks the matrices of a shortlist of `length` tokens against the model, and returns the names that they may have.
pub(super) fn check(
    gguf: &Gguf,
    exit: ExitNumber,
    length: Option<u32>,
    h: &Hyperparameters,
    home: Home,
) -> Result<Vec<String>, ExitsFault> {
    let Some(length) = length else { return Ok(Vec::new()) };
    if length > h.vocabulary {
        return Err(ExitsFault::Key(length_key(exit)));
    }
    let [query, key, keys] = [QUERY, KEY, KEYS].map(|suffix| exit.tensor(suffix));
    let Some(tensor) = gguf.tensor(&query) else { return Err(TensorError::Missing(query).into()) };
    let rank = tensor.dims[1];
    if KEYS_TYPE.row_bytes(rank).is_none() || !(1..=u64::from(h.width)).contains(&rank) {
        return Err(ExitsFault::Values {
            name: query,
            reason: "has a rank that is no multiple of 32, or above the width",
        });
    }
    let rank = rank as u32;
    fitted::check(gguf, &query, Shape::Matrix(h.width, rank))?;
    let (other, shape) = match home {
        Home::File => (key, Shape::Matrix(h.width, rank)),
        Home::Part => (keys, Shape::Matrix(rank, h.vocabulary)),
    };
    fitted::check(gguf, &other, shape)?;
    Ok(vec![query, other])
}
