//! Heads: from a hidden state to logits.
//!
//! The model's own head is its final norm and its LM head. An exit may have a norm of its own, and a map and an MLP between norm
//! and LM head: `state = map (n) + bias + down (silu (up (n)))` with `n = norm (hidden)`, where what is absent leaves `n` as it is.
//! An exit may make a shortlist for its cheap check. All tokens are scored at a low rank, `keys (query (state))`, and the best of them
//! with the LM head's own rows.

use collm_engine::{EngineError, Scope, Scores, Shortlists, TokenId};
use collm_model::{ExitNumber, ModelFile};
use llama_cpp_sys_2 as sys;

use crate::LoadError;
use crate::build::Builder;
use crate::device::Device;
use crate::ggml::{Allocator, Context, Plain, Tensor};
use crate::weights::{Affine, Loader};

/// States scored in one graph: the logits of a large vocabulary take a megabyte a row.
const ROWS_MAX: usize = 32;

/// Floats that the rows of the LM head for the shortlists of one graph may take, if one state's do not take more.
const TABLE_FLOATS_MAX: usize = 1 << 24;

/// Steps of the longest head.
const NODES: usize = 32;

/// Weights of a head.
#[derive(Debug, Clone)]
pub(crate) struct HeadWeights {
    norm: Tensor,
    map: Option<Affine>,
    mlp: Option<Mlp>,
    output: Tensor,
    shortlist: Option<ShortlistWeights>,
    epsilon: f32,
}

#[derive(Debug, Clone, Copy)]
struct Mlp {
    up: Tensor,
    down: Tensor,
}

/// What makes shortlists.
#[derive(Debug, Clone, Copy)]
struct ShortlistWeights {
    query: Tensor,
    keys: Tensor,
    /// The LM head, to take rows from.
    table: Tensor,
    length: usize,
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
            shortlist: ShortlistWeights::load(loader, file, exit)?,
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
}

impl ShortlistWeights {
    fn load<'a>(loader: &mut Loader<'a>, file: &'a ModelFile, exit: ExitNumber) -> Result<Option<Self>, LoadError> {
        let Some(length) = file.exit(exit).and_then(|info| info.shortlist) else { return Ok(None) };
        let mut matrix = |suffix| {
            let view = file.exit_tensor(exit, suffix).expect("checked when the file was opened");
            loader.matrix(&view)
        };
        let (query, keys) = (matrix("shortlist.query.weight")?, matrix("shortlist.keys.weight")?);
        Ok(Some(Self { query, keys, table: loader.table(&file.output())?, length: length as usize }))
    }

    /// Tokens and logits, `[length, rows]` each.
    fn of(self, build: &Builder<'_>, state: Tensor) -> [Tensor; 2] {
        let near = build.product(self.keys, build.product(self.query, state));
        let tokens = build.largest(near, self.length);
        [tokens, build.products_with(self.table, tokens, state)].map(Tensor::mark_output)
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
    /// Of the whole vocabulary, in the scope that has it.
    logits: Option<Tensor>,
    /// Tokens and logits, if the head makes shortlists.
    shortlist: Option<[Tensor; 2]>,
    _context: Context,
}

impl HeadRunner {
    pub(crate) fn new(device: &Device, weights: HeadWeights, width: usize) -> Self {
        let passing = Allocator::new(device.own_layout().raw());
        Self { weights, width, single: [None, None], passing }
    }

    /// Whether the device can run the head's graphs, of one row and of several. Those of the full scope have all steps of the others.
    pub(crate) fn check(device: &Device, weights: &HeadWeights, width: usize) -> Result<(), LoadError> {
        [1, 2].into_iter().try_for_each(|rows| device.check(HeadGraph::build(weights, Scope::Full, width, rows).graph))
    }

    pub(crate) fn shortlist(&self) -> Option<usize> {
        self.weights.shortlist.map(|shortlist| shortlist.length)
    }

    /// Appends the scores of every state in `hidden`.
    pub(crate) fn score(
        &mut self,
        device: &mut Device,
        scope: Scope,
        hidden: &[f32],
        scores: &mut Scores,
    ) -> Result<(), EngineError> {
        for states in hidden.chunks(self.rows_max() * self.width) {
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

    fn rows_max(&self) -> usize {
        let floats = self.shortlist().map_or(1, |length| length * self.width);
        (TABLE_FLOATS_MAX / floats).clamp(1, ROWS_MAX)
    }

    fn single(&mut self, device: &Device, scope: Scope) -> Result<&HeadGraph, EngineError> {
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
        let logits = (scope == Scope::Full).then(|| build.product(weights.output, state).mark_output());
        let shortlist = weights.shortlist.map(|shortlist| shortlist.of(&build, state));
        shortlist.into_iter().flatten().chain(logits).for_each(|output| build.demand(output));
        let graph = build.graph();
        Self { graph, hidden, state, logits, shortlist, _context: context }
    }

    fn run(&self, device: &mut Device, states: &[f32], scores: &mut Scores) -> Result<(), EngineError> {
        self.hidden.write(states);
        device.compute(self.graph)?;
        append(self.state, &mut scores.states);
        if let Some(logits) = self.logits {
            append(logits, &mut scores.logits);
        }
        if let Some(shortlist) = self.shortlist {
            append_shortlists(shortlist, &mut scores.shortlists);
        }
        Ok(())
    }
}

/// Each shortlist by rising token.
fn append_shortlists([tokens, logits]: [Tensor; 2], shortlists: &mut Shortlists) {
    let [length, ..] = tokens.dims().map(|length| length as usize);
    let (mut indexes, mut values) = (Vec::<i32>::new(), Vec::<f32>::new());
    append(tokens, &mut indexes);
    append(logits, &mut values);
    for (indexes, values) in indexes.chunks_exact(length).zip(values.chunks_exact(length)) {
        let mut listed: Vec<(TokenId, f32)> =
            indexes.iter().zip(values).map(|(&index, &logit)| (TokenId(index as u32), logit)).collect();
        listed.sort_unstable_by_key(|(token, _)| *token);
        shortlists.tokens.extend(listed.iter().map(|(token, _)| token));
        shortlists.logits.extend(listed.iter().map(|(_, logit)| logit));
    }
}

fn append<T: Plain + Default>(tensor: Tensor, values: &mut Vec<T>) {
    let start = values.len();
    values.resize(start + tensor.bytes() / size_of::<T>(), T::default());
    tensor.read(&mut values[start..]);
}

fn place(allocator: &mut Allocator, graph: &HeadGraph) -> Result<(), EngineError> {
    if allocator.place(graph.graph) { Ok(()) } else { Err(EngineError::Device("out of memory for a head".into())) }
}
