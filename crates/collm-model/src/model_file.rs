//! A model or part whose file has been checked from end to end: whoever holds a [`ModelFile`] can build tensors from it
//! without asking again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::exits::{ExitInfo, ExitsFault, exit, shortlist::Home};
use crate::gguf::{Gguf, GgufError, TensorType, TensorView};
use crate::hyperparameters::{HyperparameterError, Hyperparameters};
use crate::layout::{self, Expected, LayerName, Shape};
use crate::part::{ExitNumber, Holding, PartError};

/// A checked model or part.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    gguf: Gguf,
    hyperparameters: Hyperparameters,
    holding: Holding,
    exits: Exits,
}

/// What was fitted for each exit.
type Exits = [Option<ExitInfo>; 2];

/// Why a file is no usable model or part.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The container is unreadable or malformed.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The model is of no supported kind.
    #[error("{}: {source}", path.display())]
    Hyperparameters {
        /// The file.
        path: PathBuf,
        /// What its metadata says.
        source: HyperparameterError,
    },
    /// The part's keys make no sense.
    #[error("{}: {source}", path.display())]
    Part {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: PartError,
    },
    /// What the part says about its exits makes no sense.
    #[error("{}: {source}", path.display())]
    Exits {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ExitsFault,
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

/// What is wrong with one tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The held layers need it.
    #[error("the tensor {0:?} is missing; the file is incomplete or a part made by another program")]
    Missing(String),
    /// It would change the computation in an unknown way.
    #[error("the tensor {0:?} is not supported")]
    Unknown(String),
    /// Its dimensions contradict the metadata.
    #[error("the tensor {name:?} has the dimensions {found:?}, the metadata calls for {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// In the file.
        found: [u64; 4],
        /// From the metadata.
        expected: [u64; 4],
    },
    /// Its type cannot be computed with at this place.
    #[error("the tensor {name:?} has the type {ty}, which cannot be used there")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        ty: TensorType,
    },
}

impl ModelFile {
    /// Maps and checks the file at `path`.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::check(path.to_owned(), Gguf::open(path)?)
    }

    /// Checks a file that is in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ModelError> {
        Self::check(PathBuf::new(), Gguf::from_bytes(bytes)?)
    }

    fn check(path: PathBuf, gguf: Gguf) -> Result<Self, ModelError> {
        let hyperparameters = Hyperparameters::read(&gguf)
            .map_err(|source| ModelError::Hyperparameters { path: path.clone(), source })?;
        let holding =
            Holding::read(&gguf, &hyperparameters).map_err(|source| ModelError::Part { path: path.clone(), source })?;
        let (exits, exit_tensors) = read_exits(&gguf, &hyperparameters, &holding)
            .map_err(|source| ModelError::Exits { path: path.clone(), source })?;
        check_tensors(&gguf, &hyperparameters, &holding, exit_tensors)
            .map_err(|source| ModelError::Tensor { path: path.clone(), source })?;
        Ok(Self { path, gguf, hyperparameters, holding, exits })
    }

    /// Where the file is; empty if it came from memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container with all metadata.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The numbers that define the model; of the whole source in a part.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyperparameters
    }

    /// Whole, edge part or cloud part.
    pub fn holding(&self) -> &Holding {
        &self.holding
    }

    /// A tensor by its whole name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.gguf.tensor(name)
    }

    /// A tensor of a layer, `suffix` being `attn_q.weight` for example.
    pub fn layer_tensor(&self, layer: LayerName, suffix: &str) -> Option<TensorView<'_>> {
        self.gguf.tensor(&layer.tensor(suffix))
    }

    /// What was fitted for an exit of this edge part; `None` if nothing was, and for other files.
    pub fn exit(&self, exit: ExitNumber) -> Option<&ExitInfo> {
        self.exits[exit.index()].as_ref()
    }

    /// A tensor of an exit's own head: `norm.weight`, `map.weight`, `map.bias`, `mlp.up.weight` or `mlp.down.weight`, and
    /// `shortlist.query.weight` or `shortlist.keys.weight`. Each is optional, but a bias has its map, and the two of an MLP come together
    /// as those of a shortlist do.
    pub fn exit_tensor(&self, exit: ExitNumber, suffix: &str) -> Option<TensorView<'_>> {
        self.gguf.tensor(&exit.tensor(suffix))
    }

    /// The LM head `[width, vocabulary]`: `output.weight`, or the token embedding where the two are tied.
    pub fn output(&self) -> TensorView<'_> {
        let output = self.tensor("output.weight").or_else(|| self.tensor("token_embd.weight"));
        output.expect("one of the two was found when the file was opened")
    }

    /// SHA-256 of the whole file, computed now; `progress` gets the bytes hashed so far.
    pub fn digest(&self, progress: impl FnMut(u64)) -> Digest {
        Digest::of_reader(self.gguf.bytes(), progress).expect("reading from memory cannot fail")
    }
}

/// The exits of an edge part, and the names their tensors may have.
fn read_exits(gguf: &Gguf, h: &Hyperparameters, holding: &Holding) -> Result<(Exits, Vec<String>), ExitsFault> {
    let (mut exits, mut names) = (Exits::default(), Vec::new());
    if !matches!(holding, Holding::Edge(_)) {
        return Ok((exits, names));
    }
    for number in ExitNumber::ALL {
        let info = exit::read(gguf, number)?;
        if let Some(info) = &info {
            names.extend(exit::check(gguf, number, info, h, Home::Part)?);
        }
        exits[number.index()] = info;
    }
    Ok((exits, names))
}

/// `exit_tensors` are the names of tensors that have been checked already.
fn check_tensors(
    gguf: &Gguf,
    h: &Hyperparameters,
    holding: &Holding,
    exit_tensors: Vec<String>,
) -> Result<(), TensorError> {
    let mut known: HashSet<_> = exit_tensors.into_iter().collect();
    for expected in globals(gguf, h, holding) {
        known.insert(check_tensor(gguf, expected.name.to_owned(), expected)?);
    }
    let suffixes = layout::layer(h);
    for layer in holding.layers(h) {
        for &expected in &suffixes {
            known.insert(check_tensor(gguf, layer.tensor(expected.name), expected)?);
        }
    }
    match gguf.tensors().iter().find(|info| !known.contains(&info.name)) {
        Some(info) => Err(TensorError::Unknown(info.name.clone())),
        None => Ok(()),
    }
}

/// What a file holds besides layers. The token embedding is there to read tokens, or as LM head where there is no other.
fn globals(gguf: &Gguf, h: &Hyperparameters, holding: &Holding) -> Vec<Expected> {
    let mut globals = layout::head(h);
    if holding.reads_tokens() || gguf.tensor("output.weight").is_none() {
        globals.push(layout::token_embedding(h));
    }
    globals
}

/// Checks one tensor and returns its name, also when it is optional and missing.
pub(crate) fn check_tensor(gguf: &Gguf, name: String, expected: Expected) -> Result<String, TensorError> {
    let Some(tensor) = gguf.tensor(&name) else {
        return if expected.required { Err(TensorError::Missing(name)) } else { Ok(name) };
    };
    if tensor.dims != expected.shape.dims() {
        return Err(TensorError::Shape { name, found: tensor.dims, expected: expected.shape.dims() });
    }
    let usable = match expected.shape {
        Shape::Vector(_) => tensor.ty == TensorType::F32,
        Shape::Matrix(..) => tensor.ty.is_weight(),
    };
    if usable { Ok(name) } else { Err(TensorError::Type { name, ty: tensor.ty }) }
}
