//! The two parts of a model: where to cut, and the pair of files in the cache that is made again only when it must be.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use collm_ggml::GgmlRequantize;
use collm_model::{
    Alias, Digest, ExitsFile, Holding, ModelFile, ModelReference,
    gguf::TensorType,
    split::{self, SplitOptions},
};

use crate::{
    args::{ExitsChoice, SplitShapeArgs},
    builtin_exits,
    failure::usage,
    models::{self, Located},
    ui::{self, progress::ProgressMode},
};

/// Where to cut a model: fully decided.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) upload_at: u32,
    pub(crate) tail: Vec<u32>,
    pub(crate) exit1: bool,
    pub(crate) quantize: Option<TensorType>,
    pub(crate) exits: Option<ExitsFile>,
}

/// The files of a pair.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) edge: PathBuf,
    pub(crate) cloud: PathBuf,
}

impl Cut {
    /// What the arguments say, or fitted exits or the model's preset where they say nothing.
    pub(crate) fn settle(args: &SplitShapeArgs, model: &Located, progress: ProgressMode) -> anyhow::Result<Self> {
        let cut = match (args.upload_at, chosen_exits(args)?) {
            (None, Some(exits)) => Self::of_exits(exits),
            (None, None) => Self::preset(args, model, progress)?,
            (Some(upload_at), exits) => Self { exits, ..Self::stated(args, upload_at)? },
        };
        let quantize = args.quantize.as_deref().map(str::parse).transpose().context("--quantize is not usable")?;
        Ok(Self { quantize, ..cut })
    }

    fn stated(args: &SplitShapeArgs, upload_at: u32) -> anyhow::Result<Self> {
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
        Ok(Self { upload_at, tail, exit1: args.exit1, quantize: None, exits: None })
    }

    fn of_exits(exits: ExitsFile) -> Self {
        let cut = exits.cut().clone();
        Self { upload_at: cut.upload_at, tail: cut.tail, exit1: cut.exit1, quantize: None, exits: Some(exits) }
    }

    /// For models that this program knows: the exits it brings along, else a cut of the model as it is.
    fn preset(args: &SplitShapeArgs, model: &Located, progress: ProgressMode) -> anyhow::Result<Self> {
        let alias = match model.alias() {
            Some(alias) => Some(alias),
            None => Alias::of_digest(digest(&models::open(&model.path)?, progress)),
        };
        let Some(alias) = alias else {
            return usage(format!(
                "{} has no preset; say where to cut it: --exits FILE, or --upload-at N with --tail LAYERS or --exit-at N",
                model.reference
            ));
        };
        if let (None, Some(exits)) = (&args.exits, builtin_exits::of(alias)) {
            let exits = ExitsFile::from_bytes(exits.to_vec()).context("the exits in this program are unusable")?;
            return Ok(Self::of_exits(exits));
        }
        let preset = alias.preset();
        let tail = preset.tail.to_vec();
        Ok(Self { upload_at: preset.upload_at, tail, exit1: preset.exit1, quantize: None, exits: None })
    }
}

/// The exits in the file that a person named, if they named one.
fn chosen_exits(args: &SplitShapeArgs) -> anyhow::Result<Option<ExitsFile>> {
    match &args.exits {
        Some(ExitsChoice::File(path)) => Ok(Some(ExitsFile::open(path)?)),
        Some(ExitsChoice::Without) | None => Ok(None),
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
    let options = SplitOptions {
        upload_at: cut.upload_at,
        tail: cut.tail.clone(),
        exit1: cut.exit1,
        requantize: cut.quantize,
        exits: cut.exits.as_ref(),
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

    /// Whether both files are there and were made from this model by this cut. Converted weights are made anew: nothing in a
    /// part says what they were.
    fn are_of(&self, model: &Located, cut: &Cut, progress: ProgressMode) -> bool {
        let (Ok(edge), Ok(cloud)) = (models::open(&self.edge), models::open(&self.cloud)) else { return false };
        let (Holding::Edge(edge), Holding::Cloud(cloud)) = (edge.holding(), cloud.holding()) else { return false };
        let same_cut = edge.identity.upload_at == cut.upload_at && edge.tail == cut.tail && edge.exit1 == cut.exit1;
        let same_exits = edge.exits_sha256 == cut.exits.as_ref().map(ExitsFile::digest);
        let source = || match model.alias() {
            Some(alias) => Some(alias.digest()),
            None => models::open(&model.path).ok().map(|file| digest(&file, progress)),
        };
        let pair = edge.identity.pair == cloud.identity.pair;
        same_cut && same_exits && cut.quantize.is_none() && pair && source() == Some(edge.identity.source_sha256)
    }
}
