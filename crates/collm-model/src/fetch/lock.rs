//! One fetch of a model at a time, across processes.

use std::fs::{File, OpenOptions};
use std::path::Path;

use super::error::FetchError;

/// Waits until no other process holds the lock at `path`. It is released when the file is dropped, also by a crash.
pub(super) fn acquire(path: &Path) -> Result<File, FetchError> {
    let io = |source| FetchError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(io)?;
    file.lock().map_err(io)?;
    Ok(file)
}
