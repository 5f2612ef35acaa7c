//! One fitted tensor: its shape, its type and its numbers checked at once.

use super::ExitsFault;
use crate::gguf::{Gguf, TensorView};
use crate::layout::{Expected, Shape};
use crate::model_file::{TensorError, check_tensor};
use crate::values;

/// The tensor called `name`, if it is there: of this shape, f32, f16 or q8_0 (vectors f32), all its numbers finite.
pub(super) fn optional(gguf: &Gguf, name: &str, shape: Shape) -> Result<Option<Vec<f32>>, ExitsFault> {
    check_tensor(gguf, name.to_owned(), Expected { name: "", shape, required: false })?;
    gguf.tensor(name).map(|tensor| finite(&tensor)).transpose()
}

/// The same of a tensor that must be there and may be large: nobody wants its numbers.
pub(super) fn check(gguf: &Gguf, name: &str, shape: Shape) -> Result<(), ExitsFault> {
    check_tensor(gguf, name.to_owned(), Expected { name: "", shape, required: true })?;
    let tensor = gguf.tensor(name).ok_or_else(|| TensorError::Missing(name.to_owned()))?;
    match values::are_finite(&tensor) {
        Some(true) => Ok(()),
        Some(false) => Err(not_finite(name)),
        None => Err(TensorError::Type { name: name.to_owned(), ty: tensor.ty }.into()),
    }
}

/// The same of a tensor that must be there.
pub(super) fn required(gguf: &Gguf, name: &str, shape: Shape) -> Result<Vec<f32>, ExitsFault> {
    optional(gguf, name, shape)?.ok_or_else(|| TensorError::Missing(name.to_owned()).into())
}

fn finite(tensor: &TensorView<'_>) -> Result<Vec<f32>, ExitsFault> {
    let name = || tensor.name.to_owned();
    let values = values::decode(tensor).ok_or_else(|| TensorError::Type { name: name(), ty: tensor.ty })?;
    if values.iter().all(|value| value.is_finite()) {
        return Ok(values);
    }
    Err(not_finite(tensor.name))
}

fn not_finite(name: &str) -> ExitsFault {
    ExitsFault::Values { name: name.to_owned(), reason: "holds a number that is not finite" }
}
