//! From what people call a model to its file, with progress on the way.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use collm_model::{Alias, Cache, ModelError, ModelFile, ModelReference, fetch::Fetcher};

use crate::ui::progress::ProgressMode;

/// A model that is on this machine, and what it was called.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) reference: ModelReference,
    pub(crate) path: PathBuf,
}

/// The file behind a path or reference, fetched if it is not here yet.
pub(crate) fn locate(reference: &str, progress: ProgressMode) -> anyhow::Result<Located> {
    let reference = ModelReference::parse(reference)?;
    let mut step = progress.step(format!("fetching {reference}"));
    let path = Fetcher::from_environment()?.fetch(&reference, &mut |done| step.show(done))?;
    step.done("took");
    Ok(Located { reference, path })
}

/// A checked model file.
pub(crate) fn open(path: &Path) -> Result<ModelFile, ModelError> {
    ModelFile::open(path)
}

/// Where fetched models and split parts are.
pub(crate) fn cache() -> anyhow::Result<Cache> {
    Cache::from_environment().context("cannot find the cache")
}

impl Located {
    /// The alias, if this is a model that this program knows by name.
    pub(crate) fn alias(&self) -> Option<Alias> {
        match self.reference {
            ModelReference::Alias(alias) => Some(alias),
            ModelReference::Hub(_) | ModelReference::Path(_) => None,
        }
    }
}
