//! What is on this machine: cached models and parts, to list and to remove.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::fetch::Hub;
use crate::gguf::Gguf;
use crate::part::keys;
use crate::reference::Alias;

/// A model or part on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredModel {
    /// What to write to use it: an alias, `hf:user/repo:file`, or a path.
    pub reference: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// `general.architecture`; `None` if the file is no readable GGUF.
    pub architecture: Option<String>,
    /// `edge` or `cloud` for parts.
    pub role: Option<String>,
}

/// Why something was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Not one of the listed ones.
    #[error("{} is not in the cache; `ls` lists what is", .0.display())]
    NotStored(PathBuf),
    /// Disk trouble.
    #[error("cannot remove {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// All models of the cache and of the hub's cache, and all parts, in this order, sorted by reference.
pub fn list(cache: &Cache, hub: &Hub) -> Vec<StoredModel> {
    let aliases = Alias::ALL.into_iter().filter_map(|alias| Some((alias.name().to_owned(), alias.cached(cache)?)));
    let mut found: Vec<_> = aliases.collect();
    found.extend(hub_models(hub));
    found.extend(gguf_files(&cache.parts_folder(), 0).into_iter().map(|path| (path.display().to_string(), path)));
    found.into_iter().map(|(reference, path)| StoredModel::look_at(reference, path)).collect()
}

/// Removes one of the listed models or parts by its path. Links of the hub's cache go with the bytes they point to.
pub fn remove(cache: &Cache, hub: &Hub, path: &Path) -> Result<(), RemoveError> {
    let stored = list(cache, hub).into_iter().find(|stored| stored.path == path);
    let stored = stored.ok_or_else(|| RemoveError::NotStored(path.to_owned()))?;
    let io = |source| RemoveError::Io { path: path.to_owned(), source };
    // What a link of our own cache points to is somebody else's.
    if stored.path.starts_with(&hub.cache)
        && let (Ok(blob), Ok(hub)) = (stored.path.canonicalize(), hub.cache.canonicalize())
        && blob != stored.path
        && blob.starts_with(hub)
        && fs::symlink_metadata(&stored.path).is_ok_and(|link| link.is_symlink())
    {
        fs::remove_file(blob).map_err(io)?;
    }
    fs::remove_file(&stored.path).map_err(io)
}

impl StoredModel {
    fn look_at(reference: String, path: PathBuf) -> Self {
        let gguf = Gguf::open(&path).ok();
        let text = |key| gguf.as_ref()?.value(key)?.as_str().map(str::to_owned);
        Self {
            bytes: path.metadata().map_or(0, |metadata| metadata.len()),
            architecture: text("general.architecture"),
            role: text(keys::ROLE),
            reference,
            path,
        }
    }
}

/// GGUF files of the current snapshot of each repository.
fn hub_models(hub: &Hub) -> Vec<(String, PathBuf)> {
    let mut models = Vec::new();
    for folder in sorted_entries(&hub.cache) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(repo) = name.strip_prefix("models--").map(|repo| repo.replacen("--", "/", 1)) else { continue };
        let Ok(commit) = fs::read_to_string(folder.join("refs/main")) else { continue };
        for path in gguf_files(&folder.join("snapshots").join(commit.trim()), 1) {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            models.push((format!("hf:{repo}:{stem}"), path));
        }
    }
    models
}

/// GGUF files in a folder, and in folders below it down to `depth`, sorted.
fn gguf_files(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in sorted_entries(folder) {
        if path.is_dir() && depth > 0 {
            files.extend(gguf_files(&path, depth - 1));
        } else if path.is_file() && path.extension().is_some_and(|extension| extension == "gguf") {
            files.push(path);
        }
    }
    files
}

fn sorted_entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
