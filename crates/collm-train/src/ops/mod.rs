//! The operations of a layer, each with a backward pass of its own: what candle composes of many passes over memory is one here,
//! and weights that do not learn get no gradient, which saves a third of all products.

mod attention;
mod gate;
mod norm;
mod projection;
mod rotation;

use std::ops::Deref;

use candle_core::{CpuStorage, Device, Layout, Result, Storage, Tensor, bail};

pub(crate) use attention::{Attention, Heads};
pub(crate) use gate::{Activation, Gate};
pub(crate) use norm::RmsNorm;
pub(crate) use projection::Projection;
pub(crate) use rotation::Rotation;

use crate::dense::View;

/// The values of a contiguous tensor.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("values must lie one after another"),
    }
}

/// A tensor held for reading.
struct Held<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    layout: &'a Layout,
}

impl<'a> Held<'a> {
    fn new(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage: Box::new(storage), layout }
    }

    fn cpu(&self) -> Result<&CpuStorage> {
        match &**self.storage {
            Storage::Cpu(storage) => Ok(storage),
            _ => bail!("training runs on the processor"),
        }
    }

    fn floats(&self) -> Result<&[f32]> {
        floats(self.cpu()?, self.layout)
    }

    fn view(&self) -> Result<View<'_>> {
        View::of(self.cpu()?, self.layout)
    }
}

/// A gradient shaped like `model`.
fn gradient(values: Vec<f32>, model: &Tensor) -> Result<Option<Tensor>> {
    Tensor::from_vec(values, model.shape(), &Device::Cpu).map(Some)
}

#[cfg(test)]
pub(crate) mod checks {
    //! Gradients against finite differences.

    use candle_core::{Device, Result, Tensor, Var};

    pub(crate) fn random(seed: u64, rows: usize, columns: usize) -> Var {
        let mut random = fastrand::Rng::with_seed(seed);
        let values: Vec<f32> = (0..rows * columns).map(|_| random.f32() * 2.0 - 1.0).collect();
        Var::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    /// Compares the slope along random directions, one input at a time, with what the backward pass says.
    pub(crate) fn check_gradients(inputs: &[Var], output: impl Fn(&[Tensor]) -> Result<Tensor>) {
        const STEP: f64 = 1e-2;
        let tensors = |moved: usize, direction: &Tensor, by: f64| -> Vec<Tensor> {
            let inputs = inputs.iter().enumerate();
            inputs.map(|(i, v)| if i == moved { (v.as_tensor() + (direction * by).unwrap()).unwrap() } else { v.as_tensor().clone() }).collect()
        };
        let plain: Vec<Tensor> = inputs.iter().map(|input| input.as_tensor().clone()).collect();
        let result = output(&plain).unwrap();
        let (rows, columns) = result.dims2().unwrap();
        let weights = random(99, rows, columns).as_detached_tensor();
        let objective = |tensors: &[Tensor]| (output(tensors).unwrap() * &weights).unwrap().sum_all().unwrap();
        let gradients = objective(&plain).backward().unwrap();
        for (index, input) in inputs.iter().enumerate() {
            let (rows, columns) = input.dims2().unwrap();
            let direction = random(7 + index as u64, rows, columns).as_detached_tensor();
            let at = |by| f64::from(objective(&tensors(index, &direction, by)).to_scalar::<f32>().unwrap());
            let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let said = (gradients.get(input).unwrap() * &direction).unwrap().sum_all().unwrap();
            let said = f64::from(said.to_scalar::<f32>().unwrap());
            assert!((slope - said).abs() < 2e-2 * slope.abs().max(0.5), "input {index}: slope {slope}, gradient {said}");
        }
    }
}
