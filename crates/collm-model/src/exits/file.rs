//! Reading an exits file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::exit::{self, ExitInfo};
use super::shortlist::Home;
use super::{ExitsError, ExitsFault, FittedCut, fitted, keys};
use crate::digest::Digest;
use crate::gguf::{Gguf, TensorView};
use crate::hyperparameters::Hyperparameters;
use crate::layout::{self, Expected, LayerName, Shape};
use crate::model_file::TensorError;
use crate::part::ExitNumber;

/// A file of fitted exits. What can be checked without the model is checked, the rest by [`ExitsFile::check`].
#[derive(Debug)]
pub struct ExitsFile {
    path: PathBuf,
    gguf: Gguf,
    cut: FittedCut,
    exits: [Option<ExitInfo>; 2],
}

/// A low-rank change of a matrix `[in, out]`: `W[o] += sum_r b[o][r] * a[r]`.
#[derive(Debug, Clone, Copy)]
pub struct Delta<'a> {
    /// `[in, rank]`.
    pub a: TensorView<'a>,
    /// `[rank, out]`.
    pub b: TensorView<'a>,
}

impl ExitsFile {
    /// Maps and checks the file at `path`.
    pub fn open(path: &Path) -> Result<Self, ExitsError> {
        Self::read(path.to_owned(), Gguf::open(path)?)
    }

    /// Checks a file that is in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ExitsError> {
        Self::read(PathBuf::new(), Gguf::from_bytes(bytes)?)
    }

    /// Whether a file says that it is one of exits, of whatever version.
    pub fn is_claimed_by(gguf: &Gguf) -> bool {
        gguf.value(keys::VERSION).is_some()
    }

    fn read(path: PathBuf, gguf: Gguf) -> Result<Self, ExitsError> {
        match read(&gguf) {
            Ok((cut, exits)) => Ok(Self { path, gguf, cut, exits }),
            Err(fault) => Err(ExitsError::Unusable { path, fault }),
        }
    }

    /// Whether the exits fit the model `h` whose file has the digest `model`.
    pub fn check(&self, h: &Hyperparameters, model: Digest) -> Result<(), ExitsError> {
        self.check_against(h, model).map_err(|fault| ExitsError::Unusable { path: self.path.clone(), fault })
    }

    /// Where the file is; empty if it came from memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The digest of the file, by which an edge part remembers it.
    pub fn digest(&self) -> Digest {
        Digest::of(self.gguf.bytes())
    }

    /// For which model and cut the exits were fitted.
    pub fn cut(&self) -> &FittedCut {
        &self.cut
    }

    /// What was fitted for an exit; `None` if nothing was.
    pub fn exit(&self, exit: ExitNumber) -> Option<&ExitInfo> {
        self.exits[exit.index()].as_ref()
    }

    /// The change of a matrix of the tail, `index` being the index in the tail.
    pub fn delta(&self, index: u32, suffix: &str) -> Option<Delta<'_>> {
        let [a, b] = delta_names(index, suffix);
        self.gguf.tensor(&a).zip(self.gguf.tensor(&b)).map(|(a, b)| Delta { a, b })
    }

    /// What replaces a norm's gain or a bias of the tail.
    pub fn vector(&self, index: u32, suffix: &str) -> Option<TensorView<'_>> {
        self.gguf.tensor(&LayerName::Tail(index).tensor(suffix))
    }

    fn check_against(&self, h: &Hyperparameters, model: Digest) -> Result<(), ExitsFault> {
        let fitted = self.cut.source_sha256;
        if fitted != model {
            return Err(ExitsFault::OtherModel { fitted, model });
        }
        self.cut.check(h.layers)?;
        let mut known = HashSet::new();
        for index in 0..self.cut.tail.len() as u32 {
            for expected in layout::layer(h) {
                known.extend(check_change(&self.gguf, index, expected)?);
            }
        }
        for exit in ExitNumber::ALL {
            if let Some(info) = self.exit(exit) {
                known.extend(exit::check(&self.gguf, exit, info, h, Home::File)?);
            }
        }
        match self.gguf.tensors().iter().find(|info| !known.contains(&info.name)) {
            Some(info) => Err(TensorError::Unknown(info.name.clone()).into()),
            None => Ok(()),
        }
    }
}

fn read(gguf: &Gguf) -> Result<(FittedCut, [Option<ExitInfo>; 2]), ExitsFault> {
    let cut = FittedCut::read(gguf)?;
    Ok((cut, [exit::read(gguf, ExitNumber::One)?, exit::read(gguf, ExitNumber::Two)?]))
}

/// Names of the two factors of a delta.
pub(super) fn delta_names(index: u32, suffix: &str) -> [String; 2] {
    ["a", "b"].map(|factor| format!("{}.{factor}", LayerName::Tail(index).tensor(suffix)))
}

/// Checks what changes one tensor of the tail and returns the names it may go by.
fn check_change(gguf: &Gguf, index: u32, expected: Expected) -> Result<Vec<String>, ExitsFault> {
    let name = LayerName::Tail(index).tensor(expected.name);
    let Shape::Matrix(row, rows) = expected.shape else {
        fitted::optional(gguf, &name, expected.shape)?;
        return Ok(vec![name]);
    };
    let names = delta_names(index, expected.name);
    let [a, b] = names.each_ref().map(|name| gguf.tensor(name));
    let Some(stated) = a.map(|a| a.dims[1]).or(b.map(|b| b.dims[0])) else { return Ok(names.into()) };
    let rank = u32::try_from(stated).ok().filter(|rank| *rank <= row.min(rows));
    let [a, b] = &names;
    let too_high = || ExitsFault::Values { name: a.clone(), reason: "has a rank above that of the matrix it changes" };
    let rank = rank.ok_or_else(too_high)?;
    fitted::required(gguf, a, Shape::Matrix(row, rank))?;
    fitted::required(gguf, b, Shape::Matrix(rank, rows))?;
    Ok(names.into())
}
