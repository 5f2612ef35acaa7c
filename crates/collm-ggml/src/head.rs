//! Heads: from a hidden state to logits.
//!
//! The model's own head is its final norm and its LM head. An exit may have a norm of its own, and a map and an MLP between norm
//! and LM head: `state = map (n) + bias + down (silu (up (n)))` with `n = norm (hidden)`, where what is absent leaves `n` as it is.
//! An exit with a shortlist has the LM head's rows of those tokens a second time, as a small matrix for its cheap check.

use collm_engine::{Scope, Scores, TokenId};
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
    map: Option<Affine>,
    mlp: Option<Mlp>,
    output: Tensor,
    shortlist: Option<Shortlist>,
    epsilon: f32,
}

#[derive(Debug, Clone, Copy)]
struct Mlp {
    up: Tensor,
    down: Tensor,
}

/// The rows of the LM head that an exit's cheap check scores.
#[derive(Debug, Clone)]
struct Shortlist {
    tokens: Vec<TokenId>,
    /// Has a row for each of them, and then some without meaning.
    output: Tensor,
}

impl HeadWeights {
    /// The model's own head.
    pub(crate) fn load<'a>(loader: &mut Loader<'a>, file: &'a ModelFile) -> Result<Self, LoadError> {
        let norm = file.tensor("output_norm.weight").expect("checked when the file was opened");
        Ok(Self {
            norm: loader.vector(&norm)?,
            map: None,
            mlp: None,
            output: loader.matrix(&file.output())?,
            shortlist: None,
            epsilon: file.hyperparameters().rms_eps,
        })
    }

    /// The head of an exit: what the file has of its own, and the model's for the rest.
    pub(crate) fn load_exit<'a>(
        &self,
        loader: &mut Loader<'a>,
        file: &'a ModelFile,
        exit: ExitNumber,
    ) -> Result<Self, LoadError> {
        let find = |suffix: &str| file.exit_tensor(exit, suffix);
        let norm = find("norm.weight").map(|view| loader.vector(&view)).transpose()?;
        let map = find("map.weight").map(|view| loader.affine(&(view, find("map.bias")))).transpose()?;
        let mut matrix = |suffix| find(suffix).map(|view| loader.matrix(&view)).transpose();
        let mlp = matrix("mlp.up.weight")?.zip(matrix("mlp.down.weight")?);
        Ok(Self {
            norm: norm.unwrap_or(self.norm),
            map,
            mlp: mlp.map(|(up, down)| Mlp { up, down }),
            output: self.output,
            shortlist: Shortlist::load(loader, file, exit)?,
            epsilon: self.epsilon,
        })
    }

    /// What the LM head reads of a hidden state.
    fn state(&self, build: &Builder<'_>, hidden: Tensor) -> Tensor {
        let normed = build.rms_norm(hidden, self.norm, self.epsilon);
        let mapped = self.map.map_or(normed, |map| build.affine(map, normed));
        let Some(mlp) = self.mlp else { return mapped };
        let inner = build.silu(build.product(mlp.up, normed));
        build.add(mapped, build.product(mlp.down, inner))
    }

    fn logits(&self, build: &Builder<'_>, scope: Scope, state: Tensor) -> Tensor {
        match (scope, &self.shortlist) {
            (Scope::Shortlist, Some(Shortlist { tokens, output })) => {
                build.packed(build.columns(build.product(*output, state), 0, tokens.len()))
            }
            (Scope::Shortlist, None) | (Scope::Full, _) => build.product(self.output, state),
        }
    }
}

impl Shortlist {
    fn load<'a>(loader: &mut Loader<'a>, file: &'a ModelFile, exit: ExitNumber) -> Result<Option<Self>, LoadError> {
        let Some(ids) = file.exit(exit).and_then(|info| info.shortlist.as_ref()) else { return Ok(None) };
        let tokens: Vec<TokenId> = ids.iter().copied().map(TokenId).collect();
        let output = loader.rows_of(&file.output(), &tokens)?;
        Ok(Some(Self { tokens, output }))
    }
}

/// A head with its graphs.
#[derive(Debug)]
pub(crate) struct HeadRunner {
    weights: HeadWeights,
    width: usize,
    /// The graphs of one row, which is the usual case, by scope.
    single: [Option<KeptGraph>; 2],
    passing: Allocator,
}

#[derive(Debug)]
struct KeptGraph {
    graph: HeadGraph,
    /// The graph's memory.
    _allocator: Allocator,
}

#[derive(Debug)]
struct HeadGraph {
    graph: *mut sys::ggml_cgraph,
    hidden: Tensor,
    state: Tensor,
    logits: Tensor,
    _context: Context,
}

impl HeadRunner {
    pub(crate) fn new(device: &Device, weights: HeadWeights, width: usize) -> Self {
        let passing = Allocator::new(device.own_layout().raw());
        Self { weights, width, single: [None, None], passing }
    }

    pub(crate) fn shortlist(&self) -> Option<&[TokenId]> {
        self.weights.shortlist.as_ref().map(|shortlist| shortlist.tokens.as_slice())
    }

    /// Appends the scores of every state in `hidden`.
    pub(crate) fn score(
        &mut self,
        device: &mut Device,
        scope: Scope,
        hidden: &[f32],
        scores: &mut Scores,
    ) -> Result<(), String> {
        for states in hidden.chunks(ROWS_MAX * self.width) {
            let rows = states.len() / self.width;
            if rows == 1 {
                self.single(device, scope)?.run(device, states, scores)?;
            } else {
                let graph = HeadGraph::build(&self.weights, scope, self.width, rows);
                place(&mut self.passing, &graph)?;
                graph.run(device, states, scores)?;
            }
        }
        Ok(())
    }

    fn single(&mut self, device: &Device, scope: Scope) -> Result<&HeadGraph, String> {
        let kept = &mut self.single[scope as usize];
        if kept.is_none() {
            let graph = HeadGraph::build(&self.weights, scope, self.width, 1);
            let mut allocator = Allocator::new(device.own_layout().raw());
            place(&mut allocator, &graph)?;
            *kept = Some(KeptGraph { graph, _allocator: allocator });
        }
        Ok(&kept.as_ref().expect("just made").graph)
    }
}

impl HeadGraph {
    fn build(weights: &HeadWeights, scope: Scope, width: usize, rows: usize) -> Self {
        let context = Context::new(2 * NODES, NODES);
        let build = Builder::new(&context, NODES);
        let hidden = build.input_2d(sys::GGML_TYPE_F32, width, rows);
        let state = weights.state(&build, hidden).mark_output();
        let logits = weights.logits(&build, scope, state).mark_output();
        build.demand(logits);
        let graph = build.graph();
        Self { graph, hidden, state, logits, _context: context }
    }

    fn run(&self, device: &mut Device, states: &[f32], scores: &mut Scores) -> Result<(), String> {
        self.hidden.write(states);
        device.compute(self.graph)?;
        append(self.logits, &mut scores.logits);
        append(self.state, &mut scores.states);
        Ok(())
    }
}

fn append(tensor: Tensor, values: &mut Vec<f32>) {
    let start = values.len();
    values.resize(start + tensor.bytes() / size_of::<f32>(), 0.0);
    tensor.read(&mut values[start..]);
}

fn place(allocator: &mut Allocator, graph: &HeadGraph) -> Result<(), String> {
    if allocator.place(graph.graph) { Ok(()) } else { Err("out of memory for a head".into()) }
}
