//! The model with its matrices in another type, as a file beside the measurement.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use collm_bench::requantized;
use collm_model::{ModelFile, gguf::TensorType};

use crate::ui::progress::ProgressMode;

/// Writes `file` as type `ty` into `folder`; the path of the new file.
pub(super) fn write(
    file: &ModelFile,
    ty: TensorType,
    folder: &Path,
    progress: ProgressMode,
) -> anyhow::Result<PathBuf> {
    let step = progress.step(format!("converting to {ty}"));
    let path = folder.join(format!("{ty}.gguf"));
    requantized::write(file, ty, &path).with_context(|| format!("the model cannot be converted to {ty}"))?;
    step.done("took");
    Ok(path)
}
