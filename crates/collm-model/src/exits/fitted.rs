//! One fitted tensor: its shape, its type and its numbers checked at once.

use super::ExitsFault;
use crate::gguf::{Gguf, TensorView};
use crate::layout::{Expected, Shape};
use crate::model_file::{TensorError, check_tensor};
use crate::values;

/// The tensor called `name`, if it is there: of this shape, f32, f16 or q8_0 (vectors f32), all its numbers finite.
pub(super) fn optional(gguf: &Gguf, name: &str, shape: Shape) -> Result<Option<Vec<f32>>, ExitsFault> {
    Ok(checked(gguf, name, shape)?.and_then(|tensor| values::decode(&tensor)))
}

/// The same of a tensor that must be there.
pub(super) fn required(gguf: &Gguf, name: &str, shape: Shape) -> Result<Vec<f32>, ExitsFault> {
    optional(gguf, name, shape)?.ok_or_else(|| TensorError::Missing(name.to_owned()).into())
}

/// The same of a tensor that must be there and may be large, of which nobody wants the numbers.
pub(super) fn check(gguf: &Gguf, name: &str, shape: Shape) -> Result<(), ExitsFault> {
    checked(gguf, name, shape)?.map(drop).ok_or_else(|| TensorError::Missing(name.to_owned()).into())
}

fn checked<'a>(gguf: &'a Gguf, name: &str, shape: Shape) -> Result<Option<TensorView<'a>>, ExitsFault> {
    check_tensor(gguf, name.to_owned(), Expected { name: "", shape, required: false })?;
    let Some(tensor) = gguf.tensor(name) else { return Ok(None) };
    let name = name.to_owned();
    match values::are_finite(&tensor) {
        Some(true) => Ok(Some(tensor)),
        Some(false) => Err(ExitsFault::Values { name, reason: "holds a number that is not finite" }),
        None => Err(TensorError::Type { name, ty: tensor.ty }.into()),
    }
}
