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
    map: Option<Tensor>,
    bias: Option<Tensor>,
    mlp: Option<Mlp>,
    output: Affine,
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
    output: Affine,
}

impl HeadWeights {
    /// The model's own head.
    pub(crate) fn load<'a>(loader: &mut Loader<'a>, file: &'a ModelFile) -> Result<Self, LoadError> {
        let norm = file.tensor("output_norm.weight").expect("checked when the file was opened");
        Ok(Self {
            norm: loader.vector(&norm)?,
            map: None,
            bias: None,
            mlp: None,
            output: loader.affine(&(file.output(), file.tensor("output.bias")))?,
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
        let find = |suffix: &str| file.tensor(&exit.tensor(suffix));
        let norm = find("norm.weight").map(|view| loader.vector(&view)).transpose()?;
        let mut matrix = |suffix| find(suffix).map(|view| loader.matrix(&view)).transpose();
        let map = matrix("map.weight")?;
        let mlp = matrix("mlp.up.weight")?.zip(matrix("mlp.down.weight")?);
        Ok(Self {
            norm: norm.unwrap_or(self.norm),
            map,
            bias: find("map.bias").map(|view| loader.vector(&view)).transpose()?,
            mlp: mlp.map(|(up, down)| Mlp { up, down }),
            output: self.output,
            shortlist: Shortlist::load(loader, file, exit)?,
            epsilon: self.epsilon,
        })
    }

    /// What the LM head reads of a hidden state.
    fn state(&self, build: &Builder<'_>, hidden: Tensor) -> Tensor {
        let normed = build.rms_norm(hidden, self.norm, self.epsilon);
        let mut state = self.map.map_or(normed, |map| build.product(map, normed));
        if let Some(bias) = self.bias {
            state = build.add(state, bias);
        }
        if let Some(mlp) = self.mlp {
            let inner = build.silu(build.product(mlp.up, normed));
            state = build.add(state, build.product(mlp.down, inner));
        }
        state
    }

    fn output(&self, scope: Scope) -> Affine {
        match (scope, &self.shortlist) {
            (Scope::Shortlist, Some(shortlist)) => shortlist.output,
            (Scope::Shortlist, None) | (Scope::Full, _) => self.output,
        }
    }
}

impl Shortlist {
    fn load<'a>(loader: &mut Loader<'a>, file: &'a ModelFile, exit: ExitNumber) -> Result<Option<Self>, LoadError> {
        let Some(view) = file.tensor(&exit.tensor("shortlist")) else { return Ok(None) };
        let ids = view.data.as_chunks::<4>().0;
        let tokens: Vec<TokenId> = ids.iter().map(|id| TokenId(u32::from_le_bytes(*id))).collect();
        let bias = file.tensor("output.bias").map(|bias| loader.rows_of_vector(&bias, &tokens));
        let output = Affine { weight: loader.rows_of_matrix(&file.output(), &tokens)?, bias };
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
        let logits = build.affine(weights.output(scope), state).mark_output();
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
