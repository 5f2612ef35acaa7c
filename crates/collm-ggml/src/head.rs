//! Heads: from a hidden state to logits.
//!
//! The model's own head is its final norm and its LM head. A trained exit has a norm and a map of its own before the same
//! LM head: `logits = LM head (map (n) + bias + down (silu (up (n))))` with `n = norm (hidden)`; `up` and `down` are optional.

use collm_model::{ExitNumber, ModelFile};
use llama_cpp_sys_2 as sys;

use crate::LoadError;
use crate::build::Builder;
use crate::device::Device;
use crate::ggml::{Allocator, Context, Tensor};
use crate::weights::{Affine, Loader};

/// States scored in one graph: the logits of a large vocabulary take a megabyte a row.
const ROWS_MAX: usize = 32;

/// Steps of the longest head.
const NODES: usize = 24;

/// Weights of a head.
#[derive(Debug, Clone)]
pub(crate) struct HeadWeights {
    norm: Tensor,
    trained: Option<TrainedExit>,
    output: Affine,
    epsilon: f32,
}

#[derive(Debug, Clone, Copy)]
struct TrainedExit {
    map: Affine,
    mlp: Option<(Affine, Affine)>,
}

impl HeadWeights {
    /// The model's own head.
    pub(crate) fn load<'a>(loader: &mut Loader<'a>, file: &'a ModelFile) -> Result<Self, LoadError> {
        let norm = file.tensor("output_norm.weight").expect("checked when the file was opened");
        let output = (file.output(), file.tensor("output.bias"));
        Ok(Self {
            norm: loader.vector(&norm)?,
            trained: None,
            output: loader.affine(&output)?,
            epsilon: file.hyperparameters().rms_eps,
        })
    }

    /// The head of an exit that was trained, with the model's LM head.
    pub(crate) fn load_trained<'a>(
        &self,
        loader: &mut Loader<'a>,
        file: &'a ModelFile,
        exit: ExitNumber,
    ) -> Result<Self, LoadError> {
        let find = |suffix: &str| file.tensor(&format!("exit.{}.{suffix}", exit.number()));
        let required = |suffix: &str| find(suffix).expect("checked when the file was opened");
        let map = loader.affine(&(required("map.weight"), Some(required("map.bias"))))?;
        let mlp = match (find("mlp.up.weight"), find("mlp.down.weight")) {
            (Some(up), Some(down)) => Some((loader.affine(&(up, None))?, loader.affine(&(down, None))?)),
            _ => None,
        };
        let norm = loader.vector(&required("norm.weight"))?;
        Ok(Self { norm, trained: Some(TrainedExit { map, mlp }), ..self.clone() })
    }

    fn logits(&self, build: &Builder<'_>, hidden: Tensor) -> Tensor {
        let normed = build.rms_norm(hidden, self.norm, self.epsilon);
        let Some(exit) = self.trained else { return build.affine(self.output, normed) };
        let mut mapped = build.affine(exit.map, normed);
        if let Some((up, down)) = exit.mlp {
            mapped = build.add(mapped, build.affine(down, build.silu(build.affine(up, normed))));
        }
        build.affine(self.output, mapped)
    }
}

/// A head with its graphs.
#[derive(Debug)]
pub(crate) struct HeadRunner {
    weights: HeadWeights,
    width: usize,
    vocabulary: usize,
    /// The graph of one row, which is the usual case.
    single: Option<(HeadGraph, Allocator)>,
    passing: Allocator,
}

#[derive(Debug)]
struct HeadGraph {
    graph: *mut sys::ggml_cgraph,
    hidden: Tensor,
    logits: Tensor,
    _context: Context,
}

impl HeadRunner {
    pub(crate) fn new(device: &Device, weights: HeadWeights, width: usize, vocabulary: usize) -> Self {
        let passing = Allocator::new(device.own_layout().raw());
        Self { weights, width, vocabulary, single: None, passing }
    }

    /// Appends the logits of every state in `hidden`.
    pub(crate) fn score(&mut self, device: &mut Device, hidden: &[f32], logits: &mut Vec<f32>) -> Result<(), String> {
        for states in hidden.chunks(ROWS_MAX * self.width) {
            let rows = states.len() / self.width;
            if rows == 1 {
                let (graph, _) = self.single(device)?;
                graph.run(device, states, logits)?;
            } else {
                let graph = HeadGraph::build(&self.weights, self.width, rows);
                place(&mut self.passing, &graph)?;
                graph.run(device, states, logits)?;
            }
            debug_assert!(logits.len().is_multiple_of(self.vocabulary), "a row of logits for a state");
        }
        Ok(())
    }

    fn single(&mut self, device: &Device) -> Result<&(HeadGraph, Allocator), String> {
        if self.single.is_none() {
            let graph = HeadGraph::build(&self.weights, self.width, 1);
            let mut allocator = Allocator::new(device.own_layout().raw());
            place(&mut allocator, &graph)?;
            self.single = Some((graph, allocator));
        }
        Ok(self.single.as_ref().expect("just made"))
    }
}

impl HeadGraph {
    fn build(weights: &HeadWeights, width: usize, rows: usize) -> Self {
        let context = Context::new(2 * NODES, NODES);
        let build = Builder::new(&context, NODES);
        let hidden = build.input_2d(sys::GGML_TYPE_F32, width, rows);
        let logits = weights.logits(&build, hidden).mark_output();
        build.demand(logits);
        let graph = build.graph();
        Self { graph, hidden, logits, _context: context }
    }

    fn run(&self, device: &mut Device, states: &[f32], logits: &mut Vec<f32>) -> Result<(), String> {
        self.hidden.write(states);
        device.compute(self.graph)?;
        let start = logits.len();
        logits.resize(start + self.logits.bytes() / size_of::<f32>(), 0.0);
        self.logits.read(&mut logits[start..]);
        Ok(())
    }
}

fn place(allocator: &mut Allocator, graph: &HeadGraph) -> Result<(), String> {
    if allocator.place(graph.graph) { Ok(()) } else { Err("out of memory for a head".into()) }
}
