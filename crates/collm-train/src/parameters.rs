//! What learns, as plain arrays with names.

/// An array that learns, `dims[0]` rows of `dims[1]` values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    /// As in a file of exits: `tail.0.attn_q.weight.a`.
    pub(crate) name: String,
    /// Index in the tail of the layer that it belongs to; none of what follows the tail.
    pub(crate) layer: Option<usize>,
    pub(crate) dims: [usize; 2],
    pub(crate) values: Vec<f32>,
    /// Whether it shrinks.
    pub(crate) decays: bool,
}

impl Parameter {
    /// A gain or bias, which never shrinks.
    pub(crate) fn vector(name: String, layer: Option<usize>, values: Vec<f32>) -> Self {
        Self { name, layer, dims: [1, values.len()], values, decays: false }
    }
}

/// The name of something of the layer at `index` in the tail.
pub(crate) fn tail_name(index: usize, suffix: &str) -> String {
    format!("tail.{index}.{suffix}")
}

/// A parameter by its name.
pub(crate) fn find<'a>(parameters: &'a [Parameter], name: &str) -> Option<&'a Parameter> {
    parameters.iter().find(|parameter| parameter.name == name)
}

/// Runs of parameters that one operation learns: those of a layer together, every other alone.
pub(crate) fn groups(parameters: &[Parameter]) -> impl Iterator<Item = &[Parameter]> {
    parameters.chunk_by(|a, b| a.layer.is_some() && a.layer == b.layer)
}
