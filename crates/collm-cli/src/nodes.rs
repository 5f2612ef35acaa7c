//! From a model file and settled sizes to what the drivers are started with: identity, configuration, engine.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use collm_core::{
    blocks::Blocks,
    budget::Target,
    cloud::CloudConfig,
    edge::{BreakerConfig, EdgeConfig, SecondStage},
    frame::Identity,
    limits::Limits,
    policy::Threshold,
    states::Encoding,
    upload::UploadSettings,
};
use collm_engine::{BLOCK_ROWS, FIRST_BLOCK};
use collm_ggml::{GgmlEngine, LoadError, LoadOptions, Threads};
use collm_model::{Holding, ModelFile, PartIdentity, split::SplitOptions};

use crate::{
    args::{CloudMemoryArgs, EngineArgs},
    exits::ExitSettings,
    failure::usage,
    process,
    ui::progress::ProgressMode,
};

/// Positions of a context where nobody asked for more: enough for a conversation, small enough for any machine.
const CONTEXT_DEFAULT: u32 = 2048;

/// Rows of one job: a block, so that the cloud computes one while the edge computes the next.
const EDGE_JOB_ROWS: u32 = BLOCK_ROWS as u32;

/// Rows of one job at the beginning of a prompt, which need not come in blocks.
const FIRST_JOB_ROWS: u32 = 16;

/// Rows of one job where nothing is uploaded: prompts are fastest in large pieces.
const WHOLE_JOB_ROWS: u32 = 512;

/// How long a session keeps its place in the cloud while others wait: a dozen tokens.
const HOLD: Duration = Duration::from_millis(500);

/// Requests that wait for a slot; more are told to come back.
const WAITING_MAX: u32 = 64;

/// Who computes and for how long a context.
#[derive(Debug, Clone)]
pub(crate) struct EngineSettings {
    threads: Threads,
    device: Option<String>,
    context: u32,
}

impl EngineSettings {
    /// Decides, and pins this process to its cores.
    pub(crate) fn settle(args: &EngineArgs, file: &ModelFile) -> anyhow::Result<Self> {
        if let Some(cores) = &args.cores {
            process::pin(cores)?;
        }
        let cores = process::usable_cores();
        let count = args.threads.map_or(cores.len(), |threads| threads as usize);
        if args.cores.is_some() && count > cores.len() {
            return usage(format!(
                "{count} threads on {} cores would stand in each other's way; lower --threads",
                cores.len()
            ));
        }
        let bound = args.cores.as_ref().map(|cores| cores.0.iter().map(|&core| core as usize).collect());
        let threads = Threads { count, cores: bound.unwrap_or_default() };
        Ok(Self { threads, device: args.device.clone(), context: context(args.context, file)? })
    }

    /// For an engine of so many slots and rows a call.
    pub(crate) fn load_options(&self, slots: u32, batch_rows: u32) -> LoadOptions {
        LoadOptions {
            slots: slots as usize,
            context: self.context as usize,
            batch_rows_max: batch_rows as usize,
            threads: self.threads.clone(),
            device: self.device.clone(),
            ..LoadOptions::default()
        }
    }
}

fn context(asked: Option<u32>, file: &ModelFile) -> anyhow::Result<u32> {
    let trained = file.hyperparameters().context_train;
    match asked {
        Some(asked) if asked > trained => {
            usage(format!("--context {asked} is more than the {trained} positions that this model was trained on"))
        }
        Some(asked) => Ok(asked),
        None => Ok(trained.min(CONTEXT_DEFAULT)),
    }
}

/// Who a part is in the handshake.
fn identity(part: &PartIdentity, file: &ModelFile) -> Identity {
    Identity {
        pair: part.pair.to_string(),
        source: part.source_sha256.to_string(),
        upload_at: part.upload_at,
        width: file.hyperparameters().width,
        vocabulary: file.hyperparameters().vocabulary,
    }
}

/// Who knocks at a cloud: the edge part, or somebody whom no cloud knows, to hear everything but whether the pair fits.
pub(crate) fn knocking(file: Option<&ModelFile>) -> Identity {
    match file.map(|file| (file, file.holding())) {
        Some((file, Holding::Edge(part))) => identity(&part.identity, file),
        _ => {
            let nobody = |bytes: usize| "00".repeat(bytes);
            Identity { pair: nobody(8), source: nobody(32), upload_at: 1, width: 1, vocabulary: 1 }
        }
    }
}

/// Who a whole model is: the cloud of the pair that splitting it at `upload_at` makes.
fn identity_of_whole(file: &ModelFile, upload_at: u32, progress: ProgressMode) -> anyhow::Result<Identity> {
    let mut step = progress.step(format!("reading {}", file.path().display()));
    let cut = SplitOptions { upload_at, tail: Vec::new(), exit1: false, requantize: None, exits: None };
    let plan = collm_model::split::plan(file, &cut, &mut |done| step.show(done))?;
    step.done("took");
    let h = file.hyperparameters();
    Ok(Identity {
        pair: plan.pair().to_string(),
        source: plan.source_sha256().to_string(),
        upload_at,
        width: h.width,
        vocabulary: h.vocabulary,
    })
}

/// A file, and how to load it on the thread that will own the engine.
#[derive(Debug)]
pub(crate) struct EngineSource {
    pub(crate) file: Arc<ModelFile>,
    options: LoadOptions,
    /// The engine, if somebody had to look at it before.
    loaded: Option<GgmlEngine>,
}

impl EngineSource {
    fn new(file: ModelFile, options: LoadOptions) -> Self {
        Self { file: Arc::new(file), options, loaded: None }
    }

    pub(crate) fn load(self) -> Result<GgmlEngine, LoadError> {
        self.loaded.map_or_else(|| GgmlEngine::load(&self.file, &self.options), Ok)
    }

    /// The engine, loaded now, to look at before its thread gets it.
    pub(crate) fn loaded(&mut self) -> Result<&mut GgmlEngine, LoadError> {
        let engine = match self.loaded.take() {
            Some(engine) => engine,
            None => GgmlEngine::load(&self.file, &self.options)?,
        };
        Ok(self.loaded.insert(engine))
    }
}

/// An edge, ready to be started.
#[derive(Debug)]
pub(crate) struct EdgeSetup {
    pub(crate) config: EdgeConfig,
    pub(crate) exits: ExitSettings,
    /// What requests may cost that do not say.
    pub(crate) budget: Option<Target>,
    /// No budget goes below, unless its request says so.
    pub(crate) threshold_min: Threshold,
    pub(crate) engine: EngineSource,
}

impl EdgeSetup {
    /// For an edge part, or a whole model that stays on the device. Keeps nothing for follow-ups.
    pub(crate) fn new(
        file: ModelFile,
        exits: ExitSettings,
        settings: &EngineSettings,
        slots: u32,
        ask_deadline: Duration,
    ) -> anyhow::Result<Self> {
        let (identity, second, has_exit1, job_rows) = match file.holding() {
            Holding::Edge(part) => (identity(&part.identity, &file), SecondStage::Tail, part.exit1, EDGE_JOB_ROWS),
            Holding::Whole => (lone_identity(&file), SecondStage::Whole, false, WHOLE_JOB_ROWS),
            Holding::Cloud(_) => bail!(
                "{} is a cloud part; an edge needs the edge part of the pair, or a whole model",
                file.path().display()
            ),
        };
        let config = EdgeConfig {
            identity,
            second,
            has_exit1,
            has_cloud: false,
            layers: file.hyperparameters().layers,
            context: settings.context,
            slots,
            waiting_max: WAITING_MAX,
            job_rows_max: job_rows,
            first_job_rows: FIRST_JOB_ROWS,
            blocks: blocks(),
            keep: Duration::ZERO,
            upload_rows_max: Limits::DEFAULT.upload_rows_max,
            upload: UploadSettings::PAPER,
            ask_deadline,
            breaker: BreakerConfig::default(),
        };
        let batch_rows = config.batch_rows_max().next_multiple_of(BLOCK_ROWS as u32);
        let engine = EngineSource::new(file, settings.load_options(slots, batch_rows));
        Ok(Self { engine, config, exits, budget: None, threshold_min: Threshold::ALWAYS })
    }
}

/// How the engine wants prompts cut.
fn blocks() -> Blocks {
    Blocks::new(BLOCK_ROWS as u32, FIRST_BLOCK as u32)
}

/// A whole model on a device shakes no hands.
fn lone_identity(file: &ModelFile) -> Identity {
    let h = file.hyperparameters();
    Identity {
        pair: String::new(),
        source: String::new(),
        upload_at: h.layers,
        width: h.width,
        vocabulary: h.vocabulary,
    }
}

/// A cloud, ready to be started.
#[derive(Debug)]
pub(crate) struct CloudSetup {
    pub(crate) config: CloudConfig,
    pub(crate) engine: EngineSource,
}

impl CloudSetup {
    /// For the cloud part of a pair.
    pub(crate) fn of_part(
        file: ModelFile,
        settings: &EngineSettings,
        memory: &CloudMemoryArgs,
    ) -> anyhow::Result<Self> {
        let Holding::Cloud(part) = file.holding() else {
            bail!(
                "{} is no cloud part; --part takes the cloud part of a pair, --model a whole model",
                file.path().display()
            )
        };
        let identity = identity(&part.identity, &file);
        Ok(Self::new(file, identity, None, settings, memory))
    }

    /// For a whole model that serves the pair which splitting it at `upload_at` makes.
    pub(crate) fn of_whole(
        file: ModelFile,
        upload_at: u32,
        settings: &EngineSettings,
        memory: &CloudMemoryArgs,
        progress: ProgressMode,
    ) -> anyhow::Result<Self> {
        let identity = identity_of_whole(&file, upload_at, progress)?;
        Ok(Self::new(file, identity, Some(upload_at), settings, memory))
    }

    fn new(
        file: ModelFile,
        identity: Identity,
        whole_at: Option<u32>,
        settings: &EngineSettings,
        memory: &CloudMemoryArgs,
    ) -> Self {
        let config = CloudConfig {
            identity,
            holds_whole: whole_at.is_some(),
            encodings: Encoding::ALL.into(),
            context: settings.context,
            slots: memory.slots,
            batch_rows_max: memory.batch_rows,
            blocks: blocks(),
            ahead: memory.ahead.into(),
            contexts_max: memory.sessions,
            states_bytes_max: memory.states_memory,
            idle_max: memory.idle,
            hold: HOLD,
        };
        let options = LoadOptions { upload_at: whole_at, ..settings.load_options(memory.slots, memory.batch_rows) };
        Self { engine: EngineSource::new(file, options), config }
    }
}
