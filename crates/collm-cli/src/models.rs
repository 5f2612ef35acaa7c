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

/// What clients of the API call a model or a part of it: `smollm2-135m` for SmolLM2 of 135M, whatever the file is called.
pub(crate) fn public_name(file: &ModelFile) -> String {
    let text = |key| {
        let text = file.gguf().value(key).and_then(|value| value.as_str().map(str::to_owned));
        text.filter(|text| !text.is_empty())
    };
    let name = match (text("general.basename"), text("general.size_label")) {
        (Some(base), Some(size)) => format!("{base}-{size}"),
        _ => text("general.name").unwrap_or_else(|| "model".to_owned()),
    };
    name.to_lowercase().replace(|other: char| !other.is_ascii_alphanumeric() && !".-_".contains(other), "-")
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
