//! Writing a GGUF file: header first, then tensors one by one, aside, renamed when complete.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::value::encode_string;
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, TensorType, Value};

/// Version written: the current one.
const VERSION: u32 = 3;

/// What a file will hold: metadata and the tensor directory. Data follows through [`GgufWriter::write`].
#[derive(Debug, Clone)]
pub struct GgufWriter<'a> {
    metadata: Vec<(String, Value<'a>)>,
    tensors: Vec<PlannedTensor>,
}

/// A complete file on disk that does not have its name yet. Dropped, it is removed and whatever had the name stays.
#[derive(Debug)]
pub struct PreparedFile {
    aside: NamedTempFile,
    path: PathBuf,
}

impl PreparedFile {
    /// Gives the file its name, in place of whatever had it before.
    pub fn publish(self) -> Result<(), WriteError> {
        let Self { aside, path } = self;
        let renamed = aside.persist(&path).map(drop).map_err(|error| error.error);
        renamed.and_then(|()| sync_folder(&path)).map_err(|source| WriteError::Unwritable { path, source })
    }
}

#[derive(Debug, Clone)]
struct PlannedTensor {
    name: String,
    ty: TensorType,
    dims: Vec<u64>,
    byte_count: u64,
}

/// Why a file was not written. Whatever was at the path before is still there.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source of a tensor's data failed.
    #[error("tensor {name:?} is missing from the output: {source}")]
    Data {
        /// The tensor.
        name: String,
        /// What its source said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Data of another length than type and dimensions say.
    #[error("tensor {name:?} was announced with {announced} bytes and came with {actual}")]
    Length {
        /// The tensor.
        name: String,
        /// What type and dimensions say.
        announced: u64,
        /// What was given.
        actual: u64,
    },
    /// Dimensions that do not go with the type.
    #[error("a tensor of type {ty} cannot have the dimensions {dims:?}")]
    Shape {
        /// Storage type.
        ty: TensorType,
        /// Dimensions, row length first.
        dims: Vec<u64>,
    },
}

impl<'a> Default for GgufWriter<'a> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> GgufWriter<'a> {
    /// An empty file.
    pub fn new() -> Self {
        Self { metadata: Vec::new(), tensors: Vec::new() }
    }

    /// Sets a key, in place if it was there before. The alignment is the writer's own affair and is left out.
    pub fn set(&mut self, key: &str, value: Value<'a>) {
        if key == ALIGNMENT_KEY {
            return;
        }
        match self.metadata.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
    }

    /// Announces a tensor; data is written in the order of announcement. `dims` has the row length first.
    pub fn add_tensor(&mut self, name: &str, ty: TensorType, dims: &[u64]) -> Result<(), WriteError> {
        let shape = || WriteError::Shape { ty, dims: dims.to_vec() };
        let (&row, rows) = dims.split_first().ok_or_else(shape)?;
        let rows = rows.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
        let byte_count = ty.row_bytes(row).zip(rows).and_then(|(row, rows)| row.checked_mul(rows)).ok_or_else(shape)?;
        self.tensors.push(PlannedTensor { name: name.to_owned(), ty, dims: dims.to_vec(), byte_count });
        Ok(())
    }

    /// Bytes of all tensor data.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.byte_count).sum()
    }

    /// Writes the file in one go: [`prepare`](Self::prepare), then [`publish`](PreparedFile::publish).
    pub fn write<E>(
        &self,
        path: &Path,
        data: impl FnMut(&str, &mut dyn Write) -> Result<(), E>,
    ) -> Result<(), WriteError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.prepare(path, data)?.publish()
    }

    /// Writes the whole file to a temporary name in the folder of `path`. `data` is asked for each tensor by name and writes its
    /// bytes.
    pub fn prepare<E>(
        &self,
        path: &Path,
        data: impl FnMut(&str, &mut dyn Write) -> Result<(), E>,
    ) -> Result<PreparedFile, WriteError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let unwritable = |source| WriteError::Unwritable { path: path.to_owned(), source };
        let aside = temporary_beside(path).map_err(unwritable)?;
        let out = self.write_to(BufWriter::with_capacity(1 << 20, aside), path, data)?;
        let aside = out.into_inner().map_err(|error| unwritable(error.into_error()))?;
        aside.as_file().sync_all().map_err(unwritable)?;
        Ok(PreparedFile { aside, path: path.to_owned() })
    }

    /// The whole file in memory, for files that are small.
    pub fn to_bytes<E>(&self, data: impl FnMut(&str, &mut dyn Write) -> Result<(), E>) -> Result<Vec<u8>, WriteError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.write_to(Vec::new(), Path::new(""), data)
    }

    /// Writes header and tensors. `path` is only for messages.
    fn write_to<W: Write, E>(
        &self,
        inner: W,
        path: &Path,
        mut data: impl FnMut(&str, &mut dyn Write) -> Result<(), E>,
    ) -> Result<W, WriteError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let unwritable = |source| WriteError::Unwritable { path: path.to_owned(), source };
        let mut out = Counting { inner, count: 0 };
        out.write_all(&self.header()).map_err(unwritable)?;
        for tensor in &self.tensors {
            out.pad().map_err(unwritable)?;
            let start = out.count;
            data(&tensor.name, &mut out)
                .map_err(|source| WriteError::Data { name: tensor.name.clone(), source: source.into() })?;
            check_length(tensor, out.count - start)?;
        }
        out.pad().map_err(unwritable)?;
        Ok(out.inner)
    }

    /// Everything before the tensor data; with no tensors a complete file.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            encode_string(key, &mut out);
            out.extend(value.ty().id().to_le_bytes());
            value.encode(&mut out);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            tensor.encode(offset, &mut out);
            offset = (offset + tensor.byte_count).next_multiple_of(DEFAULT_ALIGNMENT);
        }
        out
    }
}

impl PlannedTensor {
    fn encode(&self, offset: u64, out: &mut Vec<u8>) {
        encode_string(&self.name, out);
        out.extend((self.dims.len() as u32).to_le_bytes());
        for dim in &self.dims {
            out.extend(dim.to_le_bytes());
        }
        out.extend(self.ty.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
}

fn check_length(tensor: &PlannedTensor, actual: u64) -> Result<(), WriteError> {
    if actual == tensor.byte_count {
        return Ok(());
    }
    Err(WriteError::Length { name: tensor.name.clone(), announced: tensor.byte_count, actual })
}

/// An empty file in the folder of `path`, so that the rename stays within one file system. Removed when dropped.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".collm-").suffix(".partial").permissions(shared()).tempfile_in(folder)
}

/// Readable by others, as the umask allows: a model file is no secret.
fn shared() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o666)
}

/// The rename itself survives a power cut only once the folder is on disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// Counts what goes through, to know where padding is due.
struct Counting<W> {
    inner: W,
    count: u64,
}

impl<W: Write> Counting<W> {
    fn pad(&mut self) -> io::Result<()> {
        let missing = self.count.next_multiple_of(DEFAULT_ALIGNMENT) - self.count;
        self.write_all(&[0; DEFAULT_ALIGNMENT as usize][..missing as usize])
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
