//! How far a long operation is.

/// Bytes done, and bytes to do where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done so far.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: Option<u64>,
}

impl Progress {
    pub(crate) fn of(done_bytes: u64, total_bytes: u64) -> Self {
        Self { done_bytes, total_bytes: Some(total_bytes) }
    }
}
