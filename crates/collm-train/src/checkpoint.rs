//! A run on disk: everything that a step depends on, in one safetensors file that is replaced as a whole.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::CheckpointError;
use crate::optimizer::AdamW;
use crate::parameters::Parameter;

/// What of a run is not in its configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) optimizer: AdamW,
    /// Time spent in steps, in seconds.
    pub(crate) seconds: f64,
}

const SECONDS: &str = "run.seconds";
const STEPS: &str = "run.steps";
/// More than any run lasts: years.
const STEPS_MAX: i64 = 1 << 40;
const SECONDS_MAX: f64 = 1e9;
/// Of the values themselves and of the optimiser's two means of each.
const PREFIXES: [&str; 3] = ["value", "first", "second"];

/// Writes the state beside `path` and puts it in its place.
pub(crate) fn save(state: &State, path: &Path) -> Result<(), CheckpointError> {
    let written = tensors(state).map_err(Into::into).and_then(|tensors| replace(path, &tensors));
    written.map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
}

fn replace(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder)?;
    candle_core::safetensors::save(tensors, file.path())?;
    // Reopened: the library may have replaced the file under this name.
    std::fs::File::open(file.path())?.sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn tensors(state: &State) -> candle_core::Result<HashMap<String, Tensor>> {
    let mut tensors = HashMap::new();
    let steps = state.optimizer.steps.cast_signed();
    tensors.insert(STEPS.to_owned(), Tensor::new(&[steps], &Device::Cpu)?);
    tensors.insert(SECONDS.to_owned(), Tensor::new(&[state.seconds], &Device::Cpu)?);
    let moments = state.optimizer.first.iter().zip(&state.optimizer.second);
    for (parameter, (first, second)) in state.parameters.iter().zip(moments) {
        for (prefix, values) in PREFIXES.iter().zip([&parameter.values, first, second]) {
            let [rows, columns] = parameter.dims;
            let tensor = Tensor::from_slice(values, (rows, columns), &Device::Cpu)?;
            tensors.insert(format!("{prefix}.{}", parameter.name), tensor);
        }
    }
    Ok(tensors)
}

/// Reads the state at `path` into one of the same shape.
pub(crate) fn load(state: &State, path: &Path) -> Result<State, CheckpointError> {
    let read = |source| CheckpointError::Read { path: path.to_owned(), source };
    let other = |what: String| CheckpointError::Other { path: path.to_owned(), what };
    let file = File(candle_core::safetensors::load(path, &Device::Cpu).map_err(read)?);
    let mut found = state.clone();
    let expected = PREFIXES.len() * found.parameters.len() + 2;
    if file.0.len() != expected {
        return Err(other(format!("it holds {} arrays instead of {expected}", file.0.len())));
    }
    let (steps, seconds) = (file.scalar::<i64>(STEPS).map_err(other)?, file.scalar::<f64>(SECONDS).map_err(other)?);
    if !(0..STEPS_MAX).contains(&steps) || !(0.0..SECONDS_MAX).contains(&seconds) {
        return Err(other(format!("it tells of {steps} steps in {seconds} s")));
    }
    (found.optimizer.steps, found.seconds) = (steps.cast_unsigned(), seconds);
    let moments = found.optimizer.first.iter_mut().zip(&mut found.optimizer.second);
    for (parameter, (first, second)) in found.parameters.iter_mut().zip(moments) {
        for (prefix, values) in PREFIXES.iter().zip([&mut parameter.values, first, second]) {
            *values = file.values(&format!("{prefix}.{}", parameter.name), parameter.dims).map_err(other)?;
        }
    }
    Ok(found)
}

/// The arrays of a file. Errors are what is wrong with them.
struct File(HashMap<String, Tensor>);

impl File {
    fn values(&self, name: &str, dims: [usize; 2]) -> Result<Vec<f32>, String> {
        let tensor = self.0.get(name).ok_or_else(|| format!("{name} is missing"))?;
        if tensor.dims() != dims || tensor.dtype() != DType::F32 {
            return Err(format!("{name} is {:?} instead of {dims:?}", tensor.dims()));
        }
        let values: Vec<f32> =
            tensor.flatten_all().and_then(|values| values.to_vec1()).map_err(|error| error.to_string())?;
        if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(format!("{name} is damaged")) }
    }

    fn scalar<T: candle_core::WithDType>(&self, name: &str) -> Result<T, String> {
        let tensor = self.0.get(name).ok_or_else(|| format!("{name} is missing"))?;
        let values = tensor.to_vec1::<T>().map_err(|error| format!("{name}: {error}"))?;
        values.first().copied().ok_or_else(|| format!("{name} is empty"))
    }
}
