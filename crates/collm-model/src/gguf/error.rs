//! What can be wrong with a GGUF file.

use std::io;
use std::path::PathBuf;

use super::ValueType;

/// Why a GGUF file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be opened or mapped.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file can be read and is not a usable GGUF file.
    #[error("{} is not a usable gguf file: at byte {offset}, {fault}", path.display())]
    Malformed {
        /// The file; empty when the bytes came from memory.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        fault: Fault,
    },
}

/// What is wrong at one byte of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file ends inside something.
    #[error("the file ends too early: {needed} more bytes are needed and {left} are left; it may be half downloaded")]
    Truncated {
        /// Bytes needed.
        needed: u64,
        /// Bytes left.
        left: u64,
    },
    /// The first four bytes are others.
    #[error("the magic is {0:02x?} instead of \"GGUF\"")]
    Magic([u8; 4]),
    /// A version with another layout.
    #[error("version {0} is not supported, only 2 and 3")]
    Version(u32),
    /// Written on or for a big-endian machine.
    #[error("the file is big-endian, only little-endian files are supported")]
    BigEndian,
    /// A claimed size is above its limit.
    #[error("{what} is {value}, above the limit of {limit}")]
    AboveLimit {
        /// What is too large.
        what: &'static str,
        /// What the file claims.
        value: u64,
        /// The limit in force.
        limit: u64,
    },
    /// Text that is not UTF-8.
    #[error("{0} is not valid utf-8")]
    Utf8(&'static str),
    /// A value type that does not exist.
    #[error("value type {0} is unknown")]
    UnknownValueType(u32),
    /// An array of arrays.
    #[error("arrays inside arrays are not supported")]
    NestedArray,
    /// A boolean that is neither 0 nor 1.
    #[error("a boolean has the value {0}")]
    Boolean(u8),
    /// Two entries of one name.
    #[error("the key {0:?} appears twice")]
    DuplicateKey(String),
    /// Two tensors of one name.
    #[error("the tensor {0:?} appears twice")]
    DuplicateTensor(String),
    /// An empty key or tensor name.
    #[error("{0} is empty")]
    EmptyName(&'static str),
    /// `general.alignment` of the wrong type.
    #[error("general.alignment has type {0:?}, it must be a 32-bit unsigned integer")]
    AlignmentType(ValueType),
    /// `general.alignment` is not a power of two.
    #[error("the alignment {0} is not a power of two")]
    Alignment(u64),
    /// A number of dimensions outside 1..=4.
    #[error("tensor {name:?} has {rank} dimensions, 1 to 4 are supported")]
    Rank {
        /// The tensor.
        name: String,
        /// Its claimed rank.
        rank: u32,
    },
    /// A dimension of zero, or a product above 63 bits.
    #[error("tensor {name:?} has the impossible dimensions {dims:?}")]
    Dimensions {
        /// The tensor.
        name: String,
        /// Its claimed dimensions.
        dims: [u64; 4],
    },
    /// A tensor type that is unknown or was withdrawn from the format.
    #[error("tensor {name:?} has the unknown type {ty}")]
    TensorType {
        /// The tensor.
        name: String,
        /// Its claimed type.
        ty: u32,
    },
    /// Rows that are not a whole number of blocks.
    #[error(
        "tensor {name:?} has rows of {row} values, which is no multiple of the {block} that its type packs together"
    )]
    RaggedRow {
        /// The tensor.
        name: String,
        /// Values a row.
        row: u64,
        /// Values a block.
        block: u64,
    },
    /// Tensor data that does not start at a multiple of the alignment.
    #[error("tensor {name:?} starts at offset {offset}, which is no multiple of the alignment {alignment}")]
    Misaligned {
        /// The tensor.
        name: String,
        /// Offset in the data section.
        offset: u64,
        /// Alignment in force.
        alignment: u64,
    },
    /// Tensor data that reaches past the end of the file.
    #[error("tensor {name:?} ends at byte {end} of a file of {file} bytes; it may be half downloaded")]
    OutsideFile {
        /// The tensor.
        name: String,
        /// First byte after it.
        end: u64,
        /// Bytes of the file.
        file: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap {
        /// The one that starts first.
        first: String,
        /// The one that starts inside it.
        second: String,
    },
}
