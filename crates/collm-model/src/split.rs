//! Splitting a model into an edge part and a cloud part.
//!
//! Both are GGUF files that keep the source's metadata and tokenizer, so that any reader can open them and a tokenizer can be
//! loaded from either. Neither can be mistaken for the whole: tensors of the layers it lacks are missing, and
//! `collm.part.*` keys say what it is. Tensors are copied as bytes whatever their type.

mod layer_list;
mod plan;
mod requantize;

pub use layer_list::{LayerListError, format_layer_list, parse_layer_list};
pub use plan::{PartPlan, SplitError, SplitOptions, SplitPlan, plan, stored_type};
pub use requantize::Requantize;
