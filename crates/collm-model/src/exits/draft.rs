//! Making an exits file.

use std::collections::BTreeMap;
use std::path::Path;

use collm_core::gate::GateWeights;

use super::exit::{self, ExitInfo};
use super::file::delta_names;
use super::{ExitsError, ExitsFile, FittedCut, shortlist};
use crate::gguf::{GgufWriter, TensorType, Value, WriteError};
use crate::layout::LayerName;
use crate::part::ExitNumber;
use crate::values;

/// An exits file in the making. Whether it makes sense is checked when it becomes bytes, by reading them.
#[derive(Debug, Clone)]
pub struct ExitsDraft {
    /// For which model and cut.
    pub cut: FittedCut,
    exits: BTreeMap<ExitNumber, ExitInfo>,
    tensors: BTreeMap<String, FittedTensor>,
}

#[derive(Debug, Clone)]
struct FittedTensor {
    ty: TensorType,
    dims: Vec<u64>,
    data: Vec<u8>,
}

impl ExitsDraft {
    /// A tail as it is in the model, and no exit fitted.
    pub fn new(cut: FittedCut) -> Self {
        Self { cut, exits: BTreeMap::new(), tensors: BTreeMap::new() }
    }

    /// All that a file holds, to change some of it.
    pub fn of(file: &ExitsFile) -> Self {
        let exits = ExitNumber::ALL.into_iter().filter_map(|exit| Some((exit, file.exit(exit)?.clone())));
        let mut draft = Self { exits: exits.collect(), ..Self::new(file.cut().clone()) };
        for info in file.gguf().tensors().iter().filter(|info| !exit::is_info(&info.name)) {
            let tensor = file.gguf().tensor(&info.name).expect("the name comes from the directory");
            let dims = tensor.stated_dims().to_vec();
            draft.tensors.insert(info.name.clone(), FittedTensor { ty: tensor.ty, dims, data: tensor.data.to_vec() });
        }
        draft
    }

    /// What was fitted for an exit, to be changed; nothing at first.
    pub fn exit_mut(&mut self, exit: ExitNumber) -> &mut ExitInfo {
        self.exits.entry(exit).or_default()
    }

    /// Takes out all that was fitted for an exit. Exit 1 is no longer stopped at.
    pub fn forget(&mut self, exit: ExitNumber) {
        let prefix = exit.tensor("");
        self.exits.remove(&exit);
        self.tensors.retain(|name, _| !name.starts_with(&prefix));
        self.cut.exit1 &= exit != ExitNumber::One;
    }

    /// Changes a matrix `[in, out]` of the tail by `a` `[in, rank]` and `b` `[rank, out]`, each stored as f32, f16 or q8_0.
    pub fn set_delta(
        &mut self,
        index: u32,
        suffix: &str,
        rank: usize,
        [a, b]: [(&[f32], TensorType); 2],
    ) -> Result<(), WriteError> {
        let [name_a, name_b] = delta_names(index, suffix);
        self.set(name_a, a.1, a.0.len().checked_div(rank).unwrap_or(0), a.0)?;
        self.set(name_b, b.1, rank, b.0)
    }

    /// Replaces a norm's gain or a bias of the tail.
    pub fn set_vector(&mut self, index: u32, suffix: &str, values: &[f32]) {
        self.set_f32(LayerName::Tail(index).tensor(suffix), &[values.len()], values);
    }

    /// Sets a vector of an exit's head: `norm.weight` or `map.bias`.
    pub fn set_head_vector(&mut self, exit: ExitNumber, suffix: &str, values: &[f32]) {
        self.set_f32(exit.tensor(suffix), &[values.len()], values);
    }

    /// Sets a matrix of an exit's head: `map.weight`, `mlp.up.weight` or `mlp.down.weight`, `row` values a row.
    pub fn set_head_matrix(
        &mut self,
        exit: ExitNumber,
        suffix: &str,
        row: usize,
        values: &[f32],
        ty: TensorType,
    ) -> Result<(), WriteError> {
        self.set(exit.tensor(suffix), ty, row, values)
    }

    /// Has an exit make shortlists of `length` tokens by these matrices of rows of `width` values, as many rows each: what turns a
    /// state into a query, and a token's row of the LM head into its key.
    pub fn set_shortlist(
        &mut self,
        exit: ExitNumber,
        length: u32,
        width: usize,
        [query, key]: [&[f32]; 2],
        ty: TensorType,
    ) -> Result<(), WriteError> {
        self.exit_mut(exit).shortlist = Some(length);
        self.set(exit.tensor(shortlist::QUERY), ty, width, query)?;
        self.set(exit.tensor(shortlist::KEY), ty, width, key)
    }

    /// The file. It is usable: it has been read back, and is what [`ExitsFile::from_bytes`] takes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ExitsError> {
        let (writer, tensors) = self.plan()?;
        let bytes = writer.to_bytes(|name, out| out.write_all(&tensors[name].data))?;
        ExitsFile::from_bytes(bytes.clone())?;
        Ok(bytes)
    }

    /// Writes the file aside and renames it when it is complete.
    pub fn write(&self, path: &Path) -> Result<(), ExitsError> {
        self.to_bytes()?;
        let (writer, tensors) = self.plan()?;
        Ok(writer.write(path, |name, out| out.write_all(&tensors[name].data))?)
    }

    fn plan(&self) -> Result<(GgufWriter<'static>, BTreeMap<String, FittedTensor>), WriteError> {
        let mut writer = GgufWriter::new();
        self.cut.write(&mut writer);
        let mut complete = self.clone();
        for (&exit, info) in &self.exits {
            set_keys(&mut writer, exit, info);
            complete.set_info(exit, info);
        }
        for (name, tensor) in &complete.tensors {
            writer.add_tensor(name, tensor.ty, &tensor.dims)?;
        }
        Ok((writer, complete.tensors))
    }

    fn set_info(&mut self, exit: ExitNumber, info: &ExitInfo) {
        if let Some(gate) = &info.gate {
            self.set_gate(exit, gate);
        }
    }

    fn set_gate(&mut self, exit: ExitNumber, gate: &GateWeights) {
        let name = |suffix: &str| exit.tensor(&format!("gate.{suffix}"));
        if let Some(look) = &gate.look {
            let row = look.weight.len().checked_div(look.rank).unwrap_or(0);
            self.set_f32(name("look.weight"), &[row, look.rank], &look.weight);
        }
        self.set_f32(name("mean"), &[gate.mean.len()], &gate.mean);
        self.set_f32(name("scale"), &[gate.scale.len()], &gate.scale);
        self.set_f32(name("up.weight"), &[gate.inputs(), gate.hidden()], &gate.up);
        self.set_f32(name("up.bias"), &[gate.hidden()], &gate.up_bias);
        self.set_f32(name("down.weight"), &[gate.down.len()], &gate.down);
        self.set_f32(name("down.bias"), &[1], &[gate.down_bias]);
        let (mut points, probabilities): (Vec<f32>, Vec<f32>) = gate.calibration.iter().copied().unzip();
        points.extend(probabilities);
        self.set_f32(name("calibration"), &[gate.calibration.len(), 2], &points);
    }

    fn set_f32(&mut self, name: String, dims: &[usize], values: &[f32]) {
        let dims = dims.iter().map(|&dim| dim as u64).collect();
        let data = values::encode_f32(values);
        self.tensors.insert(name, FittedTensor { ty: TensorType::F32, dims, data });
    }

    /// Sets a matrix with rows of `row` values.
    fn set(&mut self, name: String, ty: TensorType, row: usize, values: &[f32]) -> Result<(), WriteError> {
        let dims = vec![row as u64, values.len().checked_div(row).unwrap_or(0) as u64];
        let data = values::encode(ty, values).filter(|_| ty.row_bytes(row as u64).is_some());
        let Some(data) = data else { return Err(WriteError::Shape { ty, dims }) };
        self.tensors.insert(name, FittedTensor { ty, dims, data });
        Ok(())
    }
}

fn set_keys(writer: &mut GgufWriter<'_>, exit: ExitNumber, info: &ExitInfo) {
    writer.set(&exit.key("confidence"), Value::string(info.measure.name()));
    if let Some(threshold) = info.threshold {
        writer.set(&exit.key("threshold"), Value::F32(threshold.value()));
    }
    if let Some(length) = info.shortlist {
        writer.set(&shortlist::length_key(exit), Value::U32(length));
    }
    for (key, value) in info.promise.metadata(exit) {
        writer.set(&key, value);
    }
}
