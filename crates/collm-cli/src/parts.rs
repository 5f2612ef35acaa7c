//! The two parts of a model: where to cut, and the pair of files in the cache that is made again only when it must be.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use collm_ggml::GgmlRequantize;
use collm_model::{
    Alias, Digest, Holding, ModelFile, ModelReference,
    gguf::TensorType,
    heads::HeadsFile,
    split::{self, SplitOptions},
};

use crate::{
    args::SplitShapeArgs,
    failure::usage,
    models::{self, Located},
    ui::{self, progress::ProgressMode},
};

/// Where to cut a model: fully decided.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cut {
    pub(crate) upload_at: u32,
    pub(crate) tail: Vec<u32>,
    pub(crate) exit1: bool,
    pub(crate) quantize: Option<TensorType>,
    pub(crate) heads: Option<PathBuf>,
}

/// The files of a pair.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) edge: PathBuf,
    pub(crate) cloud: PathBuf,
}

impl Cut {
    /// What the arguments say, or the model's preset where they say nothing.
    pub(crate) fn settle(args: &SplitShapeArgs, model: &Located, progress: ProgressMode) -> anyhow::Result<Self> {
        let Some(upload_at) = args.upload_at else { return Self::preset(model, progress) };
        let tail = match (&args.tail, args.exit_at) {
            (Some(tail), _) => tail.0.clone(),
            (None, Some(exit_at)) if exit_at >= upload_at => (upload_at..exit_at).collect(),
            (None, Some(exit_at)) => {
                return usage(format!(
                    "--exit-at {exit_at} lies before --upload-at {upload_at}; exit 2 comes after the upload"
                ));
            }
            (None, None) => {
                return usage("--upload-at needs the edge's layers after it; add --tail LAYERS or --exit-at N");
            }
        };
        let quantize = args.quantize.as_deref().map(str::parse).transpose().context("--quantize is not usable")?;
        Ok(Self { upload_at, tail, exit1: args.exit1, quantize, heads: args.heads.clone() })
    }

    fn preset(model: &Located, progress: ProgressMode) -> anyhow::Result<Self> {
        let alias = match model.alias() {
            Some(alias) => Some(alias),
            None => Alias::of_digest(digest(&models::open(&model.path)?, progress)),
        };
        let Some(preset) = alias.map(Alias::preset) else {
            return usage(format!(
                "{} has no preset; say where to cut it: --upload-at N with --tail LAYERS or --exit-at N",
                model.reference
            ));
        };
        Ok(Self {
            upload_at: preset.upload_at,
            tail: preset.tail.to_vec(),
            exit1: preset.exit1,
            quantize: None,
            heads: None,
        })
    }
}

/// The parts of a model in the cache, split now unless they are there already.
pub(crate) fn ensure(model: &Located, cut: &Cut, progress: ProgressMode) -> anyhow::Result<Parts> {
    let parts = cached(&model.reference)?;
    if parts.are_of(model, cut, progress) {
        return Ok(parts);
    }
    write(model, cut, &parts, progress)?;
    Ok(parts)
}

/// Splits a model into these files.
pub(crate) fn write(model: &Located, cut: &Cut, parts: &Parts, progress: ProgressMode) -> anyhow::Result<()> {
    let folder = parts.edge.parent().expect("parts lie in a folder");
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let source = models::open(&model.path)?;
    let heads = cut.heads.as_deref().map(HeadsFile::open).transpose()?;
    let options = SplitOptions {
        upload_at: cut.upload_at,
        tail: cut.tail.clone(),
        exit1: cut.exit1,
        requantize: cut.quantize,
        heads: heads.as_ref(),
    };
    let mut reading = progress.step(format!("reading {}", model.reference));
    let plan = split::plan(&source, &options, &mut |done| reading.show(done))?;
    reading.done("took");
    let mut writing = progress.step(format!("splitting {}", model.reference));
    plan.write(&parts.edge, &parts.cloud, Some(&GgmlRequantize), &mut |done| writing.show(done))?;
    writing.done("took");
    Ok(())
}

/// The digest of a whole file, with progress.
pub(crate) fn digest(file: &ModelFile, progress: ProgressMode) -> Digest {
    let mut step = progress.step(format!("reading {}", file.path().display()));
    let total = file.gguf().bytes().len() as u64;
    let digest = file.digest(|done_bytes| step.show(collm_model::Progress { done_bytes, total_bytes: Some(total) }));
    step.done("took");
    digest
}

/// Where the cache has the parts of a model.
pub(crate) fn cached(reference: &ModelReference) -> anyhow::Result<Parts> {
    let name = match reference {
        ModelReference::Alias(alias) => alias.name().to_owned(),
        ModelReference::Hub(hub) => hub.to_string().replace(['/', ':'], "-"),
        ModelReference::Path(path) => named_after(path)?,
    };
    let file = |role: &str| Ok::<_, anyhow::Error>(models::cache()?.parts_folder().join(format!("{name}.{role}.gguf")));
    Ok(Parts { edge: file("edge")?, cloud: file("cloud")? })
}

/// Files of the same name in different folders have different parts.
fn named_after(path: &Path) -> anyhow::Result<String> {
    let whole = fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
    let place = Digest::of(whole.as_os_str().as_encoded_bytes()).to_string();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(format!("{stem}-{}", &place[..8]))
}

impl Parts {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self { edge: folder.join("edge.gguf"), cloud: folder.join("cloud.gguf") }
    }

    /// `edge.gguf (52 MiB) and cloud.gguf (61 MiB)`.
    pub(crate) fn describe(&self) -> anyhow::Result<String> {
        let describe = |path: &Path| -> anyhow::Result<String> {
            let bytes = fs::metadata(path).with_context(|| format!("cannot find {}", path.display()))?.len();
            Ok(format!("{} ({})", path.display(), ui::size(bytes)))
        };
        Ok(format!("{} and {}", describe(&self.edge)?, describe(&self.cloud)?))
    }

    /// Whether both files are there and were made from this model by this cut. Trained heads and converted weights are made
    /// anew: nothing in a part says which ones they were.
    fn are_of(&self, model: &Located, cut: &Cut, progress: ProgressMode) -> bool {
        let (Ok(edge), Ok(cloud)) = (models::open(&self.edge), models::open(&self.cloud)) else { return false };
        let (Holding::Edge(edge), Holding::Cloud(cloud)) = (edge.holding(), cloud.holding()) else { return false };
        let same_cut = edge.identity.upload_at == cut.upload_at && edge.tail == cut.tail && edge.exit1 == cut.exit1;
        let as_they_were = cut.quantize.is_none() && cut.heads.is_none();
        let source = || match model.alias() {
            Some(alias) => Some(alias.digest()),
            None => models::open(&model.path).ok().map(|file| digest(&file, progress)),
        };
        let pair = edge.identity.pair == cloud.identity.pair;
        same_cut && as_they_were && pair && source() == Some(edge.identity.source_sha256)
    }
}
