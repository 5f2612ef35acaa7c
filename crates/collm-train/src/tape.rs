//! What candle differentiates: a tape of layers and of the exit's norm, map and MLP, with the parameters as variables.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, Var, bail};

use crate::dense::Matrix;
use crate::layer::{Layer, Trace};
use crate::ops::RmsNorm;
use crate::parameters::{Parameter, groups};

/// The parameters as variables: one for each layer, all its parameters one after another, and one for each other.
#[derive(Debug)]
pub(crate) struct Variables(BTreeMap<String, Var>);

impl Variables {
    pub(crate) fn new(parameters: &[Parameter]) -> Result<Self> {
        let variable = |group: &[Parameter]| {
            let values: Vec<f32> = group.iter().flat_map(|parameter| &parameter.values).copied().collect();
            let dims = if group[0].layer.is_some() { [1, values.len()] } else { group[0].dims };
            Ok((key(&group[0]), Var::from_vec(values, (dims[0], dims[1]), &Device::Cpu)?))
        };
        groups(parameters).map(variable).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn layer(&self, index: usize) -> &Tensor {
        self.of(&layer_key(index)).expect("every layer has parameters")
    }

    pub(crate) fn of(&self, key: &str) -> Option<&Tensor> {
        self.0.get(key).map(Var::as_tensor)
    }

    /// The gradients, in the order of `parameters`.
    pub(crate) fn gradients(&self, parameters: &[Parameter], found: &GradStore) -> Result<Vec<Vec<f32>>> {
        let mut gradients = Vec::with_capacity(parameters.len());
        for group in groups(parameters) {
            let Some(gradient) = self.of(&key(&group[0])).and_then(|variable| found.get(variable)) else {
                bail!("{} has no gradient", group[0].name)
            };
            let mut rest: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
            for parameter in group {
                let later = rest.split_off(parameter.values.len());
                gradients.push(std::mem::replace(&mut rest, later));
            }
        }
        Ok(gradients)
    }
}

fn key(parameter: &Parameter) -> String {
    parameter.layer.map_or_else(|| parameter.name.clone(), layer_key)
}

fn layer_key(index: usize) -> String {
    format!("tail.{index}")
}

/// A layer as an operation on states and the layer's variable. The layer already holds the variable's values: as an argument, it
/// is where the gradient goes.
#[derive(Debug)]
pub(crate) struct LayerOperation {
    layer: Layer,
    /// Kept between the two passes, if there is to be a second.
    trace: Mutex<Option<Trace>>,
    learns: bool,
}

impl LayerOperation {
    pub(crate) fn new(layer: Layer, learns: bool) -> Self {
        Self { layer, trace: Mutex::new(None), learns }
    }
}

impl CustomOp2 for LayerOperation {
    fn name(&self) -> &'static str {
        "layer"
    }

    fn cpu_fwd(&self, states: &CpuStorage, layout: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let states = Matrix::new(floats(states, layout)?.to_vec(), layout.dims()[1]);
        let (result, trace) = self.layer.forward(states)?;
        if self.learns {
            *self.trace.lock().unwrap_or_else(PoisonError::into_inner) = Some(trace);
        }
        Ok((CpuStorage::F32(result.into_values()), layout.shape().clone()))
    }

    fn bwd(
        &self,
        states: &Tensor,
        parameters: &Tensor,
        _result: &Tensor,
        given: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(trace) = self.trace.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            bail!("a layer that does not learn has no gradient")
        };
        let (to_states, to_parameters) = self.layer.backward(&trace, &matrix(given)?)?;
        gradients((to_states.into_values(), states), (to_parameters, parameters))
    }
}

/// A norm as an operation on states and its gain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormOperation(pub(crate) RmsNorm);

impl CustomOp2 for NormOperation {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(
        &self,
        states: &CpuStorage,
        layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let states = Matrix::new(floats(states, layout)?.to_vec(), layout.dims()[1]);
        let normed = self.0.forward(&states, floats(gain, gain_layout)?);
        Ok((CpuStorage::F32(normed.into_values()), layout.shape().clone()))
    }

    fn bwd(
        &self,
        states: &Tensor,
        gain: &Tensor,
        _result: &Tensor,
        given: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (to_states, to_gain) = self.0.backward(&matrix(states)?, matrix(gain)?.values(), matrix(given)?);
        gradients((to_states.into_values(), states), (to_gain, gain))
    }
}

/// The values of a contiguous tensor.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("values must lie one after another"),
    }
}

fn matrix(tensor: &Tensor) -> Result<Matrix> {
    Ok(Matrix::new(tensor.flatten_all()?.to_vec1()?, tensor.dim(1)?))
}

/// Two gradients, each shaped like the tensor beside it.
fn gradients(first: (Vec<f32>, &Tensor), second: (Vec<f32>, &Tensor)) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let shaped = |(values, model): (Vec<f32>, &Tensor)| Tensor::from_vec(values, model.shape(), &Device::Cpu).map(Some);
    Ok((shaped(first)?, shaped(second)?))
}
