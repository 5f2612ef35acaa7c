//! How a tensor's values are packed: block length and block bytes of every ggml type.
//!
//! Deliberately absent: packing and unpacking. Tensors are copied as bytes whatever their type.

use std::fmt;
use std::str::FromStr;

macro_rules! tensor_types {
    ($($name:ident = $id:literal, $text:literal, $block_values:literal values in $block_bytes:literal bytes;)*) => {
        /// Storage type of a tensor, numbered as in ggml.
        #[allow(missing_docs, non_camel_case_types)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum TensorType { $($name = $id),* }

        impl TensorType {
            /// Every type there is.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The type with ggml's number `id`. `None` for unknown and withdrawn ones.
            pub fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// Values that are packed together; rows are a multiple of it.
            pub fn block_values(self) -> u64 {
                match self { $(Self::$name => $block_values),* }
            }

            /// Bytes of one block.
            pub fn block_bytes(self) -> u64 {
                match self { $(Self::$name => $block_bytes),* }
            }

            /// ggml's name in lower case, `q4_k` for example.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

tensor_types! {
    F32 = 0, "f32", 1 values in 4 bytes;
    F16 = 1, "f16", 1 values in 2 bytes;
    Q4_0 = 2, "q4_0", 32 values in 18 bytes;
    Q4_1 = 3, "q4_1", 32 values in 20 bytes;
    Q5_0 = 6, "q5_0", 32 values in 22 bytes;
    Q5_1 = 7, "q5_1", 32 values in 24 bytes;
    Q8_0 = 8, "q8_0", 32 values in 34 bytes;
    Q8_1 = 9, "q8_1", 32 values in 36 bytes;
    Q2_K = 10, "q2_k", 256 values in 84 bytes;
    Q3_K = 11, "q3_k", 256 values in 110 bytes;
    Q4_K = 12, "q4_k", 256 values in 144 bytes;
    Q5_K = 13, "q5_k", 256 values in 176 bytes;
    Q6_K = 14, "q6_k", 256 values in 210 bytes;
    Q8_K = 15, "q8_k", 256 values in 292 bytes;
    IQ2_XXS = 16, "iq2_xxs", 256 values in 66 bytes;
    IQ2_XS = 17, "iq2_xs", 256 values in 74 bytes;
    IQ3_XXS = 18, "iq3_xxs", 256 values in 98 bytes;
    IQ1_S = 19, "iq1_s", 256 values in 50 bytes;
    IQ4_NL = 20, "iq4_nl", 32 values in 18 bytes;
    IQ3_S = 21, "iq3_s", 256 values in 110 bytes;
    IQ2_S = 22, "iq2_s", 256 values in 82 bytes;
    IQ4_XS = 23, "iq4_xs", 256 values in 136 bytes;
    I8 = 24, "i8", 1 values in 1 bytes;
    I16 = 25, "i16", 1 values in 2 bytes;
    I32 = 26, "i32", 1 values in 4 bytes;
    I64 = 27, "i64", 1 values in 8 bytes;
    F64 = 28, "f64", 1 values in 8 bytes;
    IQ1_M = 29, "iq1_m", 256 values in 56 bytes;
    BF16 = 30, "bf16", 1 values in 2 bytes;
    TQ1_0 = 34, "tq1_0", 256 values in 54 bytes;
    TQ2_0 = 35, "tq2_0", 256 values in 66 bytes;
    MXFP4 = 39, "mxfp4", 32 values in 17 bytes;
    NVFP4 = 40, "nvfp4", 64 values in 36 bytes;
    Q1_0 = 41, "q1_0", 128 values in 18 bytes;
    Q2_0 = 42, "q2_0", 64 values in 18 bytes;
}

/// The text names no tensor type.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no tensor type; common ones are f16, q8_0, q4_0, q4_k and q6_k")]
pub struct UnknownTensorType(String);

impl TensorType {
    /// ggml's number.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of a row of `values` values. `None` if that is no whole number of blocks, or overflows.
    pub fn row_bytes(self, values: u64) -> Option<u64> {
        if !values.is_multiple_of(self.block_values()) {
            return None;
        }
        (values / self.block_values()).checked_mul(self.block_bytes())
    }

    /// Whether a weight matrix may have this type: integers, doubles and the types that exist only inside a dot product
    /// are never multiplied with.
    pub fn is_weight(self) -> bool {
        !matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64 | Self::F64 | Self::Q8_1 | Self::Q8_K)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TensorType {
    type Err = UnknownTensorType;

    fn from_str(text: &str) -> Result<Self, UnknownTensorType> {
        Self::ALL
            .iter()
            .copied()
            .find(|ty| ty.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownTensorType(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_read_back() {
        for &ty in TensorType::ALL {
            assert_eq!(TensorType::from_id(ty.id()), Some(ty));
            assert_eq!(ty.name().to_uppercase().parse(), Ok(ty));
        }
    }

    #[test]
    fn withdrawn_numbers_are_unknown() {
        for id in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(TensorType::from_id(id), None, "{id}");
        }
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(TensorType::Q4_1.row_bytes(64), Some(40));
        assert_eq!(TensorType::Q4_1.row_bytes(33), None);
        assert_eq!(TensorType::Q6_K.row_bytes(576), None);
        assert_eq!(TensorType::F64.row_bytes(u64::MAX), None);
    }
}
