//! The model hub: its cache layout and environment variables, so that files are shared with other programs.
//!
//! `models--user--repo/` holds `refs/main` (a commit), `snapshots/<commit>/<file>` (a link) and `blobs/<etag>` (the bytes;
//! `<etag>.incomplete` while they arrive). Written by hand rather than taken from a crate: the synchronous ones neither resume
//! into this layout nor honour the offline and cache variables.

mod client;
mod layout;

use std::path::PathBuf;

use client::{Client, RemoteFile};
use layout::RepoCache;

use super::choice;
use super::error::FetchError;
use super::lock;
use crate::cache::{user_cache, variable};
use crate::digest::Digest;
use crate::progress::Progress;
use crate::reference::HubReference;

/// Attempts in a row that may bring no byte before a download is given up.
const FRUITLESS_ATTEMPTS_MAX: u32 = 3;

/// The hub as the environment configures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Address without a final slash; `HF_ENDPOINT`.
    pub endpoint: String,
    /// Folder of repositories; `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, or the token that the hub's own tools saved.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`: use what is cached, never the network.
    pub offline: bool,
}

impl Hub {
    /// Reads the hub's environment variables. `None` if no home folder is known.
    pub fn from_environment() -> Option<Self> {
        let text = |name| variable(name).map(|value| value.to_string_lossy().trim().to_owned());
        let home = variable("HF_HOME").map(PathBuf::from).or_else(|| Some(user_cache()?.join("huggingface")))?;
        let saved_token = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Some(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: text("HF_TOKEN").or_else(|| read_token(&saved_token)),
            offline: text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
        })
    }

    /// The path of the file that `reference` means. A stated quantisation that is cached needs no network; otherwise the hub
    /// is asked which files there are, and where it cannot be reached the cache decides.
    pub(super) fn fetch(
        &self,
        reference: &HubReference,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, FetchError> {
        let cache = RepoCache::new(&self.cache, &reference.repo);
        let cached = || cached_file(&cache, reference);
        if self.offline {
            return cached().ok_or_else(|| FetchError::Offline { reference: reference.to_string() });
        }
        if let Some(path) = reference.quant.is_some().then(cached).flatten() {
            return Ok(path);
        }
        match self.fetch_online(&cache, reference, progress) {
            Err(error @ FetchError::Network { .. }) => cached().ok_or(error),
            other => other,
        }
    }

    fn fetch_online(
        &self,
        cache: &RepoCache,
        reference: &HubReference,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, FetchError> {
        let client = Client::new(&self.endpoint, self.token.as_deref());
        let listing = client.list(&reference.repo)?;
        let file = choice::choose(&listing.files, reference.quant.as_deref()).map_err(|reason| FetchError::Choice {
            reference: reference.to_string(),
            reason,
            files: listing.files.iter().filter(|file| file.ends_with(".gguf")).cloned().collect(),
        })?;
        let remote = client.file(&reference.repo, &listing.commit, file)?;
        let _lock = lock::acquire(&cache.lock_path(&remote.etag))?;
        if !cache.blob_path(&remote.etag).is_file() {
            download(&client, cache, &remote, progress)?;
        }
        cache.link(&listing.commit, file, &remote.etag)
    }
}

fn cached_file(cache: &RepoCache, reference: &HubReference) -> Option<PathBuf> {
    let files = cache.cached_files();
    let chosen = choice::choose(&files, reference.quant.as_deref()).ok()?;
    cache.cached_path(chosen)
}

/// Downloads a blob, going on after what is there already, as long as attempts bring bytes.
fn download(
    client: &Client,
    cache: &RepoCache,
    remote: &RemoteFile,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    let incomplete = cache.incomplete_path(&remote.etag);
    let io = |source| FetchError::Io { path: incomplete.clone(), source };
    std::fs::create_dir_all(cache.blobs_folder()).map_err(io)?;
    let mut fruitless = 0;
    loop {
        let before = incomplete.metadata().map_or(0, |metadata| metadata.len());
        match client.download(remote, &incomplete, progress) {
            Ok(()) => break,
            Err(error @ FetchError::Network { .. }) => {
                let after = incomplete.metadata().map_or(0, |metadata| metadata.len());
                fruitless = if after > before { 0 } else { fruitless + 1 };
                if fruitless == FRUITLESS_ATTEMPTS_MAX {
                    return Err(error);
                }
                tracing::warn!(%error, bytes = after, "download interrupted, going on from there");
            }
            Err(error) => return Err(error),
        }
    }
    verify(cache, remote)?;
    std::fs::rename(&incomplete, cache.blob_path(&remote.etag)).map_err(io)
}

/// Large files carry their SHA-256 as etag. A file that fails is removed, since going on after damage cannot help.
fn verify(cache: &RepoCache, remote: &RemoteFile) -> Result<(), FetchError> {
    let Ok(expected) = remote.etag.parse::<Digest>() else { return Ok(()) };
    let incomplete = cache.incomplete_path(&remote.etag);
    let io = |source| FetchError::Io { path: incomplete.clone(), source };
    let file = std::fs::File::open(&incomplete).map_err(io)?;
    let found = Digest::of_reader(&file, |_| ()).map_err(io)?;
    if found == expected {
        return file.sync_all().map_err(io);
    }
    std::fs::remove_file(&incomplete).map_err(io)?;
    Err(FetchError::Damaged { what: remote.what.clone(), expected, found })
}

fn read_token(path: &std::path::Path) -> Option<String> {
    let token = std::fs::read_to_string(path).ok()?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|word| word.eq_ignore_ascii_case(value))
}
