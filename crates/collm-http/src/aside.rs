//! Work that takes as long as a request is large, beside the threads that carry everybody's answers.

use std::panic::resume_unwind;

/// Has a thread for long work do it. It is not interrupted when the client leaves: it ends by itself.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // Nothing cancels it, so what is no result is a panic of the work.
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}
