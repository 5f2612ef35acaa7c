//! The GGUF container, versions 2 and 3, little-endian.
//!
//! Why not ggml's own reader: a file from a person must not reach C++ unchecked. This one has hard [`Limits`], never
//! panics, never allocates by a count that the file merely claims, and names the byte at which it gave up.
//!
//! Layout: magic, version, counts, metadata (key, type, value), tensor directory (name, dimensions, type, offset), padding to
//! the alignment, tensor data.

mod cursor;
mod error;
mod limits;
mod reader;
mod tensor_type;
mod value;
mod writer;

pub use error::{Fault, GgufError};
pub use limits::Limits;
pub use reader::{Gguf, TensorInfo, TensorView};
pub use tensor_type::{TensorType, UnknownTensorType};
pub use value::{Array, Value, ValueType};
pub use writer::{GgufWriter, PreparedFile, WriteError};

/// First four bytes of every file.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
/// Alignment of tensor data where `general.alignment` says nothing.
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;
/// Key that overrides [`DEFAULT_ALIGNMENT`].
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
