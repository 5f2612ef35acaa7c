//! Deciding what goes into each part, and writing both.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::layer_list::format_layer_list;
use super::requantize::{Requantize, write_merged, write_product, write_requantized};
use crate::digest::Digest;
use crate::exits::{Delta, ExitsError, ExitsFile, shortlist};
use crate::gguf::{Array, GgufWriter, PreparedFile, TensorType, TensorView, Value, WriteError};
use crate::layout::{self, LayerName};
use crate::model_file::ModelFile;
use crate::part::{Holding, PART_VERSION, PairId, first_bad_layer, keys};
use crate::progress::Progress;

/// Keys and tensors that say what a part's exits are.
const EXIT_KEYS: &str = "collm.exit.";
const EXIT_TENSORS: &str = "exit.";

/// How to split a model.
#[derive(Debug, Clone)]
pub struct SplitOptions<'a> {
    /// Layers `[0, upload_at)` go to the edge, `[upload_at, N)` to the cloud.
    pub upload_at: u32,
    /// The edge's own layers after `upload_at`, in the order they run; any layers of the model, each once.
    pub tail: Vec<u32>,
    /// Whether the edge may stop before its tail.
    pub exit1: bool,
    /// Type that matrices are converted to. Those whose rows are no multiple of the type's blocks stay as they are.
    pub requantize: Option<TensorType>,
    /// Fitted exits for the edge part. They belong to the cut they were fitted for: see [`SplitOptions::of_exits`].
    pub exits: Option<&'a ExitsFile>,
}

impl<'a> SplitOptions<'a> {
    /// The cut that the exits were fitted for.
    pub fn of_exits(exits: &'a ExitsFile) -> Self {
        let cut = exits.cut();
        Self {
            upload_at: cut.upload_at,
            tail: cut.tail.clone(),
            exit1: cut.exit1,
            requantize: None,
            exits: Some(exits),
        }
    }
}

/// Two parts that are ready to be written.
#[derive(Debug)]
pub struct SplitPlan<'a> {
    pair: PairId,
    source_path: &'a Path,
    source_sha256: Digest,
    edge: PartPlan<'a>,
    cloud: PartPlan<'a>,
}

/// One part that is ready to be written.
#[derive(Debug)]
pub struct PartPlan<'a> {
    writer: GgufWriter<'a>,
    tensors: BTreeMap<String, PlannedCopy<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct PlannedCopy<'a> {
    source: TensorView<'a>,
    /// What becomes of it on the way.
    change: Option<Change<'a>>,
    ty: TensorType,
}

/// What a tensor of a part has that its source has not.
#[derive(Debug, Clone, Copy)]
enum Change<'a> {
    /// This is added.
    Delta(Delta<'a>),
    /// Every row is multiplied with this matrix `[row, rank]`.
    Product(TensorView<'a>),
}

/// Why a model was not split. Files that were at the output paths are still there.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The source is a part itself.
    #[error("{} is already a part of a split model; split the whole model instead", .0.display())]
    AlreadySplit(PathBuf),
    /// Nothing would be left for one side.
    #[error("the upload layer must be between 1 and {}, not {upload_at}: the model has {layers} layers", layers - 1)]
    UploadAt {
        /// As asked.
        upload_at: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// The model has one layer only.
    #[error("a model of one layer cannot be split")]
    OneLayer,
    /// The tail names a layer twice, or one that is not there.
    #[error("layer {layer} of the tail does not exist or is named twice; the model has layers 0 to {}", layers - 1)]
    Tail {
        /// The layer.
        layer: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// Weights cannot have this type.
    #[error("{0} is no type for weights; common ones are q8_0, q4_0 and f16")]
    NoWeightType(TensorType),
    /// The exits do not fit the model, or are unusable.
    #[error(transparent)]
    Exits(#[from] ExitsError),
    /// The exits do not fit the cut.
    #[error(
        "the exits were fitted to an upload at layer {upload_at} and the tail {tail}; split the model there, or fit others"
    )]
    OtherCut {
        /// Layers before the upload they were fitted to.
        upload_at: u32,
        /// The tail they were fitted to, as people write it.
        tail: String,
    },
    /// An output would replace the source or the other output.
    #[error("{} is also the source or the other part; choose another output", .0.display())]
    SamePath(PathBuf),
    /// A type change was planned and nothing was given that can do it.
    #[error("the plan converts weights to {0}, which needs the tensor library")]
    NoRequantizer(TensorType),
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Plans the two parts of `source`. Reads the whole file once for its digest, which `progress` follows.
pub fn plan<'a>(
    source: &'a ModelFile,
    options: &SplitOptions<'a>,
    progress: &mut dyn FnMut(Progress),
) -> Result<SplitPlan<'a>, SplitError> {
    check_options(source, options)?;
    let total = source.gguf().bytes().len() as u64;
    let digest = source.digest(|done| progress(Progress::of(done, total)));
    if let Some(exits) = options.exits {
        exits.check(source.hyperparameters(), digest)?;
    }
    let pair = pair_id(digest, options);
    Ok(SplitPlan {
        pair,
        source_path: source.path(),
        source_sha256: digest,
        edge: plan_edge(source, options, digest, pair)?,
        cloud: plan_cloud(source, options, digest, pair)?,
    })
}

impl SplitPlan<'_> {
    /// Says that the two parts belong together.
    pub fn pair(&self) -> PairId {
        self.pair
    }

    /// Digest of the model that is split.
    pub fn source_sha256(&self) -> Digest {
        self.source_sha256
    }

    /// What the edge gets.
    pub fn edge(&self) -> &PartPlan<'_> {
        &self.edge
    }

    /// What the cloud gets.
    pub fn cloud(&self) -> &PartPlan<'_> {
        &self.cloud
    }

    /// Writes both parts aside and renames them only when both are complete.
    pub fn write(
        &self,
        edge_path: &Path,
        cloud_path: &Path,
        requantize: Option<&dyn Requantize>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), SplitError> {
        refuse_same_file(&[self.source_path, edge_path, cloud_path])?;
        let total = self.edge.data_bytes() + self.cloud.data_bytes();
        let mut done = 0;
        let mut advance = |bytes: u64| {
            done += bytes;
            progress(Progress::of(done, total));
        };
        let edge = self.edge.prepare(edge_path, requantize, &mut advance)?;
        let cloud = self.cloud.prepare(cloud_path, requantize, &mut advance)?;
        edge.publish()?;
        Ok(cloud.publish()?)
    }
}

impl PartPlan<'_> {
    /// Bytes of tensor data: nearly the size of the file.
    pub fn data_bytes(&self) -> u64 {
        self.writer.data_bytes()
    }

    fn prepare(
        &self,
        path: &Path,
        requantize: Option<&dyn Requantize>,
        advance: &mut dyn FnMut(u64),
    ) -> Result<PreparedFile, SplitError> {
        let changed = self.tensors.values().find(|copy| copy.is_converted());
        if let (Some(copy), None) = (changed, requantize) {
            return Err(SplitError::NoRequantizer(copy.ty));
        }
        let prepared = self.writer.prepare(path, |name, out| {
            let mut out = Advancing { inner: out, advance };
            self.tensors[name].write(requantize, &mut out)
        })?;
        Ok(prepared)
    }
}

impl PlannedCopy<'_> {
    fn is_converted(&self) -> bool {
        self.ty != self.source.ty || self.change.is_some()
    }

    fn write(
        &self,
        requantize: Option<&dyn Requantize>,
        out: &mut dyn Write,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        match (requantize, &self.change) {
            (Some(requantize), Some(Change::Delta(delta))) => {
                write_merged(requantize, &self.source, delta, self.ty, out)
            }
            (Some(requantize), Some(Change::Product(matrix))) => {
                write_product(requantize, &self.source, matrix, self.ty, out)
            }
            (Some(requantize), None) if self.is_converted() => {
                write_requantized(requantize, &self.source, self.ty, out)
            }
            _ => Ok(out.write_all(self.source.data)?),
        }
    }
}

/// Reports what passes through.
struct Advancing<'a> {
    inner: &'a mut dyn Write,
    advance: &'a mut dyn FnMut(u64),
}

impl Write for Advancing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // In steps, so that one large matrix does not look like a standstill.
        let count = self.inner.write(&bytes[..bytes.len().min(4 << 20)])?;
        (self.advance)(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn check_options(source: &ModelFile, options: &SplitOptions<'_>) -> Result<(), SplitError> {
    if *source.holding() != Holding::Whole {
        return Err(SplitError::AlreadySplit(source.path().to_owned()));
    }
    let layers = source.hyperparameters().layers;
    if layers == 1 {
        return Err(SplitError::OneLayer);
    }
    if !(1..layers).contains(&options.upload_at) {
        return Err(SplitError::UploadAt { upload_at: options.upload_at, layers });
    }
    if let Some(layer) = first_bad_layer(&options.tail, layers) {
        return Err(SplitError::Tail { layer, layers });
    }
    check_cut(options)?;
    match options.requantize {
        Some(ty) if !ty.is_weight() => Err(SplitError::NoWeightType(ty)),
        _ => Ok(()),
    }
}

/// A tail other than the one they were fitted to would make nonsense of deltas and gates alike.
fn check_cut(options: &SplitOptions<'_>) -> Result<(), SplitError> {
    let Some(cut) = options.exits.map(ExitsFile::cut) else { return Ok(()) };
    if cut.upload_at == options.upload_at && cut.tail == options.tail {
        return Ok(());
    }
    Err(SplitError::OtherCut { upload_at: cut.upload_at, tail: format_layer_list(&cut.tail) })
}

/// What decides whether two parts fit: the source, the layer of upload and the type of weights. Not the tail and not the exits,
/// which are the edge's own affair.
fn pair_id(source: Digest, options: &SplitOptions<'_>) -> PairId {
    let hash = Sha256::new()
        .chain_update(b"collm pair 1")
        .chain_update(source.0)
        .chain_update(options.upload_at.to_le_bytes())
        .chain_update(options.requantize.map_or(u32::MAX, TensorType::id).to_le_bytes())
        .finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    PairId(id)
}

fn plan_edge<'a>(
    source: &'a ModelFile,
    options: &SplitOptions<'a>,
    digest: Digest,
    pair: PairId,
) -> Result<PartPlan<'a>, SplitError> {
    let mut part = PartPlan::new(source, options, digest, pair, "edge");
    part.writer.set(keys::TAIL, Value::Array(Array::of_u32(&options.tail)));
    part.writer.set(keys::EXIT1, Value::Bool(options.exit1));
    part.copy_global(source, layout::token_embedding(source.hyperparameters()).name, options.requantize)?;
    for layer in 0..options.upload_at {
        part.copy_layer(source, layer, LayerName::Block(layer), options.requantize)?;
    }
    for (index, &layer) in options.tail.iter().enumerate() {
        part.copy_tail_layer(source, layer, index as u32, options)?;
    }
    part.copy_head(source, options.requantize)?;
    if let Some(exits) = options.exits {
        part.copy_exits(source, exits)?;
    }
    Ok(part)
}

fn plan_cloud<'a>(
    source: &'a ModelFile,
    options: &SplitOptions<'a>,
    digest: Digest,
    pair: PairId,
) -> Result<PartPlan<'a>, SplitError> {
    let mut part = PartPlan::new(source, options, digest, pair, "cloud");
    let h = source.hyperparameters();
    for layer in options.upload_at..h.layers {
        part.copy_layer(source, layer, LayerName::Block(layer), options.requantize)?;
    }
    part.copy_head(source, options.requantize)?;
    if source.tensor("output.weight").is_none() {
        part.copy_global(source, layout::token_embedding(h).name, options.requantize)?;
    }
    Ok(part)
}

impl<'a> PartPlan<'a> {
    /// A part without tensors: all metadata of the source, and what makes it a part.
    fn new(source: &'a ModelFile, options: &SplitOptions<'_>, digest: Digest, pair: PairId, role: &str) -> Self {
        let mut writer = GgufWriter::new();
        // Only fitted exits say what a part's exits are.
        let of_model = |key: &str| !key.starts_with(EXIT_KEYS);
        for (key, value) in source.gguf().metadata().filter(|(key, _)| of_model(key)) {
            writer.set(key, value);
        }
        writer.set(keys::VERSION, Value::U32(PART_VERSION));
        writer.set(keys::ROLE, Value::string(role));
        writer.set(keys::UPLOAD_AT, Value::U32(options.upload_at));
        writer.set(keys::LAYERS, Value::U32(source.hyperparameters().layers));
        writer.set(keys::PAIR, Value::string(pair.to_string()));
        writer.set(keys::SOURCE_SHA256, Value::string(digest.to_string()));
        let name = source.path().file_name().unwrap_or_default().to_string_lossy();
        writer.set(keys::SOURCE_NAME, Value::string(name));
        Self { writer, tensors: BTreeMap::new() }
    }

    fn copy_layer(
        &mut self,
        source: &'a ModelFile,
        layer: u32,
        name: LayerName,
        requantize: Option<TensorType>,
    ) -> Result<(), WriteError> {
        for expected in layout::layer(source.hyperparameters()) {
            if let Some(tensor) = source.layer_tensor(LayerName::Block(layer), expected.name) {
                self.copy(name.tensor(expected.name), tensor, requantize)?;
            }
        }
        Ok(())
    }

    /// Copies a layer of the tail, with what was fitted to it.
    fn copy_tail_layer(
        &mut self,
        source: &'a ModelFile,
        layer: u32,
        index: u32,
        options: &SplitOptions<'a>,
    ) -> Result<(), WriteError> {
        let exits = options.exits;
        let ty = exits.and_then(|exits| exits.cut().tail_type).or(options.requantize);
        for expected in layout::layer(source.hyperparameters()) {
            let fitted = exits.and_then(|exits| exits.vector(index, expected.name));
            let copied = source.layer_tensor(LayerName::Block(layer), expected.name);
            let Some(tensor) = fitted.or(copied) else { continue };
            let delta = exits.and_then(|exits| exits.delta(index, expected.name));
            self.plan_copy(LayerName::Tail(index).tensor(expected.name), tensor, delta, ty)?;
        }
        Ok(())
    }

    fn copy_head(&mut self, source: &'a ModelFile, requantize: Option<TensorType>) -> Result<(), WriteError> {
        for expected in layout::head(source.hyperparameters()) {
            self.copy_global(source, expected.name, requantize)?;
        }
        Ok(())
    }

    /// Copies a tensor that belongs to no layer, if the source has it.
    fn copy_global(
        &mut self,
        source: &'a ModelFile,
        name: &str,
        requantize: Option<TensorType>,
    ) -> Result<(), WriteError> {
        match source.tensor(name) {
            Some(tensor) => self.copy(name.to_owned(), tensor, requantize),
            None => Ok(()),
        }
    }

    /// What exits consist of is small and was fitted at its own precision: it keeps its types. But where keys of tokens are to be
    /// made, they are made here.
    fn copy_exits(&mut self, source: &'a ModelFile, exits: &'a ExitsFile) -> Result<(), WriteError> {
        self.writer.set(keys::EXITS_SHA256, Value::string(exits.digest().to_string()));
        for (key, value) in exits.gguf().metadata().filter(|(key, _)| key.starts_with(EXIT_KEYS)) {
            self.writer.set(key, value);
        }
        for info in exits.gguf().tensors().iter().filter(|info| info.name.starts_with(EXIT_TENSORS)) {
            let tensor = exits.gguf().tensor(&info.name).expect("the name comes from the directory");
            match info.name.strip_suffix(shortlist::KEY) {
                Some(exit) => self.plan_keys(format!("{exit}{}", shortlist::KEYS), source.output(), tensor)?,
                None => self.copy(info.name.clone(), tensor, None)?,
            }
        }
        Ok(())
    }

    /// The keys of all tokens, from the LM head and what turns one of its rows into a key.
    fn plan_keys(&mut self, name: String, head: TensorView<'a>, key: TensorView<'a>) -> Result<(), WriteError> {
        let ty = shortlist::KEYS_TYPE;
        self.writer.add_tensor(&name, ty, &[key.dims[1], head.dims[1]])?;
        self.tensors.insert(name, PlannedCopy { source: head, change: Some(Change::Product(key)), ty });
        Ok(())
    }

    fn copy(&mut self, name: String, source: TensorView<'a>, requantize: Option<TensorType>) -> Result<(), WriteError> {
        self.plan_copy(name, source, None, requantize)
    }

    fn plan_copy(
        &mut self,
        name: String,
        source: TensorView<'a>,
        delta: Option<Delta<'a>>,
        requantize: Option<TensorType>,
    ) -> Result<(), WriteError> {
        let ty = stored_type(&source, requantize);
        self.writer.add_tensor(&name, ty, source.stated_dims())?;
        self.tensors.insert(name, PlannedCopy { source, change: delta.map(Change::Delta), ty });
        Ok(())
    }
}

/// The type that a part stores a tensor in where `requantize` is asked for: matrices alone change, and only those whose rows are whole
/// blocks of the type.
pub fn stored_type(source: &TensorView<'_>, requantize: Option<TensorType>) -> TensorType {
    let is_matrix = source.stated_dims().len() > 1;
    requantize.filter(|ty| is_matrix && ty.row_bytes(source.dims[0]).is_some()).unwrap_or(source.ty)
}

/// The same for all spellings of a path, also of a file that is not there yet.
fn real_path(path: &Path) -> PathBuf {
    let by_folder = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(folder.canonicalize().ok()?.join(path.file_name()?))
    };
    path.canonicalize().ok().or_else(by_folder).unwrap_or_else(|| path.to_owned())
}

/// Refuses to let two of the paths be one file, also through links.
fn refuse_same_file(paths: &[&Path]) -> Result<(), SplitError> {
    let mut seen = Vec::new();
    for &path in paths {
        let real = real_path(path);
        if seen.contains(&real) {
            return Err(SplitError::SamePath(path.to_owned()));
        }
        seen.push(real);
    }
    Ok(())
}
