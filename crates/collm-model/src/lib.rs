//! Model files as files: reading, checking, splitting, fetching.
//!
//! A GGUF file comes from people and from networks. Everything here is plain Rust that treats it as hostile until it has
//! been checked, so that no unchecked byte ever reaches the tensor library. Deliberately absent: tensors as numbers
//! (nothing here computes), tokenising (the tensor library's vocabulary does it) and any knowledge of sessions.

pub mod cache;
pub mod digest;
pub mod exits;
pub mod fetch;
pub mod gguf;
mod hyperparameters;
mod layout;
mod model_file;
mod part;
mod preset;
mod progress;
mod reference;
pub mod split;
pub mod store;
#[cfg(feature = "synthetic")]
pub mod synthetic;
pub mod template;
mod values;

pub use cache::Cache;
pub use digest::Digest;
pub use exits::{ExitInfo, ExitsFile};
pub use hyperparameters::{
    Architecture, HyperparameterError, Hyperparameters, Rope, RopeKind, RopeScaling, SlidingWindow,
};
pub use layout::LayerName;
pub use model_file::{ModelError, ModelFile, TensorError};
pub use part::{CloudPart, EdgePart, ExitNumber, Holding, PairId, PartError, PartIdentity};
pub use preset::Preset;
pub use progress::Progress;
pub use reference::{Alias, HubReference, ModelReference, ReferenceError};
