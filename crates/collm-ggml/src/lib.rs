//! The engine on ggml: the only crate that knows the tensor library, and the only one with `unsafe`.
//!
//! Top-down: [`GgmlEngine`] (`engine`) parses calls and owns everything; `graph` builds, keeps and runs graphs from
//! `layers`, `attention` and `head`; `weights` and `kv` are the memory; `device` and `threads` compute. `build` and `ggml`
//! wrap the C interface. ggml aborts the process on misuse, so everything is checked before it reaches C.
//! Deliberately absent: files (`collm-model`), sessions and policies (`collm-core`).
#![allow(unsafe_code)] // Calling C needs it; every block says why it is sound.

mod attention;
mod build;
mod device;
mod engine;
mod error;
mod ggml;
mod graph;
mod head;
mod kv;
mod layers;
mod log;
#[cfg(feature = "oracle")]
pub mod oracle;
mod quantize;
mod threads;
mod vocabulary;
mod weights;

pub use device::{DeviceInfo, DeviceKind, devices};
pub use engine::{GgmlEngine, LoadOptions};
pub use error::LoadError;
pub use quantize::{GgmlRequantize, QuantizeError};
pub use threads::Threads;
pub use vocabulary::{Markup, Vocabulary, VocabularyError};
