//! Where fetched models and split parts are kept.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::reference::Alias;

/// Environment variable that overrides the place of the cache.
pub const CACHE_VARIABLE: &str = "COLLM_CACHE";

/// A folder of models and parts: `$COLLM_CACHE`, or `collm` in the user's cache folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

/// There is no place for a cache.
#[derive(Debug, thiserror::Error)]
#[error("no home folder is known, so there is no place to keep models; set {CACHE_VARIABLE} to a folder")]
pub struct NoCache;

impl Cache {
    /// The user's cache.
    pub fn from_environment() -> Result<Self, NoCache> {
        if let Some(root) = variable(CACHE_VARIABLE) {
            return Ok(Self::at(root));
        }
        Ok(Self::at(user_cache().ok_or(NoCache)?.join("collm")))
    }

    /// A cache in `root`, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of an alias's model.
    pub fn model_folder(&self, alias: Alias) -> PathBuf {
        self.root.join("models").join(alias.name())
    }

    /// The folder for parts that were split without a place of their own.
    pub fn parts_folder(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// The folder everything is in.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// The user's cache folder by the XDG rules.
pub(crate) fn user_cache() -> Option<PathBuf> {
    etcetera::choose_base_strategy().ok().map(|strategy| strategy.cache_dir())
}

/// An environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
