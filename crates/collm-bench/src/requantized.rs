//! A whole model with its matrices in another type, to measure types that no file is at hand for.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use collm_ggml::GgmlRequantize;
use collm_model::ModelFile;
use collm_model::gguf::{GgufWriter, TensorType, TensorView};
use collm_model::split::Requantize;

/// Writes `file` to `path` with every matrix as type `to`. Norms and biases stay as they are.
///
/// # Errors
/// When the matrices cannot be stored as that type, or the file cannot be written.
pub fn write(file: &ModelFile, to: TensorType, path: &Path) -> anyhow::Result<()> {
    let mut writer = GgufWriter::new();
    for (key, value) in file.gguf().metadata() {
        writer.set(key, value);
    }
    let views: Vec<TensorView<'_>> = file.gguf().tensors().iter().filter_map(|info| file.tensor(&info.name)).collect();
    for view in &views {
        writer.add_tensor(view.name, type_in(view, to), view.stated_dims())?;
    }
    let mut remaining = views.iter();
    let write = |_: &str, out: &mut dyn Write| -> Result<(), Box<dyn Error + Send + Sync>> {
        let view = remaining.next().expect("asked for once per tensor, in order");
        if type_in(view, to) == view.ty {
            return Ok(out.write_all(view.data)?);
        }
        let data = GgmlRequantize.requantize(view.ty, to, view.dims[0], view.data)?;
        Ok(out.write_all(&data)?)
    };
    Ok(writer.write(path, write)?)
}

fn type_in(view: &TensorView<'_>, to: TensorType) -> TensorType {
    if view.stated_dims().len() > 1 { to } else { view.ty }
}
