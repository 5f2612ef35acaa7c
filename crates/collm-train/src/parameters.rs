//! What learns: plain arrays with names, which candle sees as variables for the length of one step.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{CustomOp2, Device, Result, Tensor, Var};

/// An array that learns, `dims[0]` rows of `dims[1]` values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    /// As in a file of exits: `tail.0.attn_q.weight.a`.
    pub(crate) name: String,
    pub(crate) dims: [usize; 2],
    pub(crate) values: Vec<f32>,
    /// Whether it shrinks.
    pub(crate) decays: bool,
}

impl Parameter {
    /// A gain or bias, which never shrinks.
    pub(crate) fn vector(name: String, values: Vec<f32>) -> Self {
        Self { name, dims: [1, values.len()], values, decays: false }
    }
}

/// The name of something of the layer at `index` in the tail.
pub(crate) fn tail_name(index: usize, suffix: &str) -> String {
    format!("tail.{index}.{suffix}")
}

/// The parameters as variables.
#[derive(Debug)]
pub(crate) struct Tape(BTreeMap<String, Var>);

impl Tape {
    pub(crate) fn new(parameters: &[Parameter]) -> Result<Self> {
        let variable = |parameter: &Parameter| {
            let [rows, columns] = parameter.dims;
            let variable = Var::from_slice(&parameter.values, (rows, columns), &Device::Cpu)?;
            Ok((parameter.name.clone(), variable))
        };
        parameters.iter().map(variable).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name).map(Var::as_tensor)
    }

    /// A variable that every model of the family has.
    pub(crate) fn required(&self, name: &str) -> &Tensor {
        self.variable(name).expect("made for every tail")
    }

    /// Applies a norm with the gain of this name, if the model has it.
    pub(crate) fn normed(&self, states: Tensor, gain: &str, norm: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
        match self.variable(gain) {
            Some(gain) => states.apply_op2(gain, norm),
            None => Ok(states),
        }
    }

    /// The gradients, in the order of `parameters`.
    pub(crate) fn gradients(&self, parameters: &[Parameter], found: &GradStore) -> Result<Vec<Vec<f32>>> {
        let gradient = |parameter: &Parameter| match found.get(self.required(&parameter.name)) {
            Some(gradient) => gradient.flatten_all()?.to_vec1(),
            None => Ok(vec![0.0; parameter.values.len()]),
        };
        parameters.iter().map(gradient).collect()
    }
}
