//! Trained exit heads: a GGUF file of their own, merged into an edge part when a model is split.
//!
//! For each exit `n` in {1, 2} that the file trains: `exit.n.norm.weight` `[width]`, `exit.n.map.weight` `[width, width]`,
//! `exit.n.map.bias` `[width]`, optionally `exit.n.mlp.up.weight` `[width, hidden]` with `exit.n.mlp.down.weight`
//! `[hidden, width]`; keys `collm.exit.n.threshold` and `collm.exit.n.calibration.*`. Fitting them happens elsewhere.

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::gguf::{Gguf, GgufError, Value};
use crate::hyperparameters::Hyperparameters;
use crate::layout;
use crate::model_file::{TensorError, check_tensor};
use crate::part::ExitNumber;

const VERSION_KEY: &str = "collm.heads.version";
const SOURCE_KEY: &str = "collm.heads.source_sha256";
const VERSION: u64 = 1;
/// Far above any width times the usual factor of four.
const HIDDEN_MAX: u64 = 1 << 20;

/// A file of trained exit heads. Shapes are checked against a model by [`HeadsFile::check`].
#[derive(Debug)]
pub struct HeadsFile {
    path: PathBuf,
    gguf: Gguf,
    source_sha256: Digest,
    exits: Vec<ExitNumber>,
}

/// Why a file of heads cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    /// The container is unreadable or malformed.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A key is missing, or the format is another.
    #[error("{}: the key {key:?} is missing or of another version; is this a file of exit heads?", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// There are no heads in it.
    #[error("{}: the file holds no exit heads", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Fitted to another model.
    #[error(
        "{}: the heads were fitted to the model with digest {fitted}, this one has {model}; fit them again",
        path.display()
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model they were fitted to.
        fitted: Digest,
        /// The model at hand.
        model: Digest,
    },
    /// A tensor is missing, superfluous or of the wrong shape.
    #[error("{}: {source}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Which one.
        source: TensorError,
    },
}

impl HeadsFile {
    /// Maps and checks the file at `path`.
    pub fn open(path: &Path) -> Result<Self, HeadsError> {
        let gguf = Gguf::open(path)?;
        let key = |key: &str| HeadsError::Key { path: path.to_owned(), key: key.to_owned() };
        if gguf.value(VERSION_KEY).and_then(|value| value.as_u64()) != Some(VERSION) {
            return Err(key(VERSION_KEY));
        }
        let digest = gguf.value(SOURCE_KEY).and_then(|value| value.as_str()?.parse().ok());
        let source_sha256 = digest.ok_or_else(|| key(SOURCE_KEY))?;
        let exits = trained_exits(&gguf);
        if exits.is_empty() {
            return Err(HeadsError::Empty { path: path.to_owned() });
        }
        for &exit in &exits {
            check_threshold(&gguf, exit).map_err(|name| key(&name))?;
        }
        Ok(Self { path: path.to_owned(), gguf, source_sha256, exits })
    }

    /// Exits that have a head here.
    pub fn exits(&self) -> &[ExitNumber] {
        &self.exits
    }

    /// Whether the heads fit the model `h` whose file has the digest `model`.
    pub fn check(&self, h: &Hyperparameters, model: Digest) -> Result<(), HeadsError> {
        if self.source_sha256 != model {
            return Err(HeadsError::OtherModel { path: self.path.clone(), fitted: self.source_sha256, model });
        }
        let tensor = |source| HeadsError::Tensor { path: self.path.clone(), source };
        let mut known = Vec::new();
        for &exit in &self.exits {
            known.extend(check(&self.gguf, exit, h).map_err(tensor)?);
        }
        match self.gguf.tensors().iter().find(|info| !known.contains(&info.name)) {
            Some(info) => Err(tensor(TensorError::Unknown(info.name.clone()))),
            None => Ok(()),
        }
    }

    /// The container.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Thresholds and calibration of all exits.
    pub(crate) fn calibration(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.gguf.metadata().filter(|(key, _)| key.starts_with("collm.exit."))
    }
}

/// The exits of which a file holds at least one tensor.
pub(crate) fn trained_exits(gguf: &Gguf) -> Vec<ExitNumber> {
    let trained = |exit: &ExitNumber| gguf.tensors().iter().any(|info| info.name.starts_with(&exit.tensor("")));
    ExitNumber::ALL.into_iter().filter(trained).collect()
}

/// Checks the tensors of one head and returns their names.
pub(crate) fn check(gguf: &Gguf, exit: ExitNumber, h: &Hyperparameters) -> Result<Vec<String>, TensorError> {
    let expected = layout::exit_head(h, hidden(gguf, exit));
    expected.into_iter().map(|expected| check_tensor(gguf, exit.tensor(expected.name), expected)).collect()
}

/// Inner width of a head's MLP as its first half states it; the other half must agree.
fn hidden(gguf: &Gguf, exit: ExitNumber) -> Option<u32> {
    let up = gguf.tensor(&exit.tensor("mlp.up.weight"))?;
    Some(up.dims[1].min(HIDDEN_MAX) as u32)
}

/// A threshold, where there is one, is a finite number that is not negative. The error is the key.
fn check_threshold(gguf: &Gguf, exit: ExitNumber) -> Result<(), String> {
    let key = exit.key("threshold");
    match gguf.value(&key) {
        None => Ok(()),
        Some(Value::F32(threshold)) if threshold.is_finite() && threshold >= 0.0 => Ok(()),
        Some(_) => Err(key),
    }
}
