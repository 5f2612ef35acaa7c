//! The model that is looked at, and the parts it is split into for that.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use collm_ggml::LoadOptions;
use collm_model::{Digest, Holding, ModelFile};
use collm_tune::reader::PROMPT_ROWS;
use tempfile::TempDir;

use crate::{
    args::{EngineArgs, SplitShapeArgs},
    commands::demo::Scene,
    models,
    nodes::EngineSettings,
    parts::{self, Cut, Parts},
    ui::progress::ProgressMode,
};

/// A whole model and its edge part.
pub(in crate::commands) struct Subject {
    pub(in crate::commands) scene: Scene,
    pub(in crate::commands) whole: Arc<ModelFile>,
    pub(in crate::commands) edge: Arc<ModelFile>,
    /// Of the whole model's file.
    pub(in crate::commands) digest: Digest,
    /// Holds parts that are made for this run alone.
    _folder: Option<TempDir>,
}

impl Subject {
    /// Splits the model as asked: by its preset into the cache, otherwise into a folder that goes with this value.
    pub(in crate::commands) fn prepare(
        model: &str,
        shape: &SplitShapeArgs,
        progress: ProgressMode,
    ) -> anyhow::Result<Self> {
        let model = models::locate(model, progress)?;
        let cut = Cut::settle(shape, &model, progress)?;
        let by_preset = shape.upload_at.is_none() && shape.quantize.is_none() && shape.exits.is_none();
        let (parts, folder) = if by_preset {
            (parts::ensure(&model, &cut, progress)?, None)
        } else {
            let folder = tempfile::tempdir().context("no room for the parts")?;
            let parts = Parts::in_folder(folder.path());
            parts::write(&model, &cut, &parts, progress)?;
            (parts, Some(folder))
        };
        let whole = Arc::new(models::open(&model.path)?);
        ensure!(*whole.holding() == Holding::Whole, "{} is a part; name the whole model", model.path.display());
        let edge = Arc::new(models::open(&parts.edge)?);
        let identity = edge.holding().identity().context("the part that was just made says nothing of itself")?;
        let digest = identity.source_sha256;
        let scene = Scene::new(model, parts, cut.upload_at);
        Ok(Self { scene, whole, edge, digest, _folder: folder })
    }

    /// How both are loaded to read texts, one after the other.
    pub(in crate::commands) fn options(&self, engine: &EngineArgs) -> anyhow::Result<LoadOptions> {
        Ok(EngineSettings::settle(engine, &self.whole)?.load_options(1, PROMPT_ROWS as u32))
    }
}
