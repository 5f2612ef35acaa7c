//! What a file may ask for.

/// Hard limits on the header of a file. Real models stay far below each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Metadata entries.
    pub metadata_entries_max: u64,
    /// Bytes of a metadata key.
    pub key_bytes_max: u64,
    /// Bytes of one string value; chat templates are the longest real ones.
    pub string_bytes_max: u64,
    /// Elements of one array value; vocabularies are the longest real ones.
    pub array_elements_max: u64,
    /// Tensors in the directory.
    pub tensors_max: u64,
    /// Bytes of a tensor name; ggml keeps 64 with the final zero.
    pub tensor_name_bytes_max: u64,
    /// `general.alignment` in bytes.
    pub alignment_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            metadata_entries_max: 4096,
            key_bytes_max: 1024,
            string_bytes_max: 16 << 20,
            array_elements_max: 4 << 20,
            tensors_max: 1 << 16,
            tensor_name_bytes_max: 63,
            alignment_max: 1 << 16,
        }
    }
}
