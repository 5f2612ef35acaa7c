//! Graphs: built for a pattern of rows, placed in memory, and kept while the pattern is likely to come again.
//!
//! Building and placing a graph of 30 layers takes a third of a millisecond, a tenth of the time that a small model needs
//! for a token. So graphs of few rows are kept, each with memory of its own; graphs of many rows share one memory and are
//! built anew each time.

use collm_engine::{EngineError, Stack};
use llama_cpp_sys_2 as sys;

use crate::LoadError;
use crate::attention::{Attention, SpanAim, SpanRows};
use crate::build::Builder;
use crate::device::Device;
use crate::ggml::{Allocator, Context, Tensor};
use crate::kv::KvArena;
use crate::layers::{LayerShape, LayerWeights};

/// Graphs of up to this many rows are kept.
const KEPT_ROWS_MAX: usize = 16;

/// This many graphs are kept; the one that was used longest ago gives way.
const KEPT_GRAPHS_MAX: usize = 16;

/// A stack of layers as a graph needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StackView<'a> {
    pub(crate) stack: Stack,
    pub(crate) shape: &'a LayerShape,
    pub(crate) layers: &'a [LayerWeights],
    pub(crate) memory: &'a KvArena,
}

/// What a call puts into a graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallInput<'a> {
    /// `[width, rows]`.
    pub(crate) hidden: &'a [f32],
    pub(crate) positions: &'a [i32],
    /// Rows of the arena that get the call's keys and values.
    pub(crate) memory_rows: &'a [i64],
    pub(crate) aims: &'a [SpanAim],
}

/// All layers of a stack over a pattern of rows.
#[derive(Debug)]
pub(crate) struct StackGraph {
    graph: *mut sys::ggml_cgraph,
    hidden_in: Tensor,
    positions: Tensor,
    memory_rows: Tensor,
    attention: Attention,
    hidden_out: Tensor,
    _context: Context,
}

impl StackGraph {
    /// Describes the graph, without memory yet. `positions_max` as in [`Attention::new`].
    pub(crate) fn build(view: StackView<'_>, spans: &[SpanRows], positions_max: usize) -> Self {
        let h = &view.shape.hyperparameters;
        let rows: usize = spans.iter().map(|span| span.count).sum();
        let nodes = view.layers.len() * (40 + 12 * spans.len()) + 16;
        let context = Context::new(2 * nodes, nodes);
        let build = Builder::new(&context, nodes);
        let hidden_in = build.input_2d(sys::GGML_TYPE_F32, h.width as usize, rows);
        let positions = build.input_1d(sys::GGML_TYPE_I32, rows);
        let memory_rows = build.input_1d(sys::GGML_TYPE_I64, rows);
        let window = h.sliding_window.as_ref().map(|window| window.size as usize);
        let mut attention = Attention::new(spans, positions_max, window);
        let mut hidden = hidden_in;
        for (layer, memory) in view.layers.iter().zip(view.memory.layers(view.stack)) {
            let qkv = view.shape.queries_keys_values(&build, layer, hidden, positions);
            build.set_rows(memory.keys, qkv.keys, memory_rows);
            build.set_rows(memory.values, qkv.values, memory_rows);
            let attended = attention.attend(&build, view.shape, *memory, qkv, layer.local);
            hidden = view.shape.finish(&build, layer, hidden, attended);
        }
        let hidden_out = hidden.mark_output();
        build.demand(hidden_out);
        let graph = build.graph();
        Self { graph, hidden_in, positions, memory_rows, attention, hidden_out, _context: context }
    }

    /// Runs the graph, which has been placed, and appends its output to `hidden`.
    fn run(&self, device: &mut Device, input: CallInput<'_>, hidden: &mut Vec<f32>) -> Result<(), EngineError> {
        self.hidden_in.write(input.hidden);
        self.positions.write(input.positions);
        self.memory_rows.write(input.memory_rows);
        self.attention.aim(input.aims);
        device.compute(self.graph)?;
        let start = hidden.len();
        hidden.resize(start + input.hidden.len(), 0.0);
        self.hidden_out.read(&mut hidden[start..]);
        Ok(())
    }
}

/// Graphs at hand, and the memory of those that are not kept.
#[derive(Debug)]
pub(crate) struct Graphs {
    /// Most recently used last.
    kept: Vec<Kept>,
    passing: Allocator,
}

#[derive(Debug)]
struct Kept {
    stack: Stack,
    spans: Vec<SpanRows>,
    graph: StackGraph,
    /// The graph's memory.
    _allocator: Allocator,
}

impl Graphs {
    pub(crate) fn new(device: &Device) -> Self {
        Self { kept: Vec::new(), passing: Allocator::new(device.own_layout().raw()) }
    }

    /// Drops the graphs of a stack, whose layers change.
    pub(crate) fn forget(&mut self, stack: Stack) {
        self.kept.retain(|kept| kept.stack != stack);
    }

    /// Whether the device can run a stack's graphs, of one row and of several.
    pub(crate) fn check(device: &Device, view: StackView<'_>) -> Result<(), LoadError> {
        for count in [1, 2] {
            let graph = StackGraph::build(view, &[SpanRows { first: 0, count }], view.memory.context());
            device.check(graph.graph)?;
        }
        Ok(())
    }

    /// Runs a stack over rows, and appends its output to `hidden`.
    pub(crate) fn run(
        &mut self,
        device: &mut Device,
        view: StackView<'_>,
        spans: &[SpanRows],
        input: CallInput<'_>,
        hidden: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let rows: usize = spans.iter().map(|span| span.count).sum();
        if rows > KEPT_ROWS_MAX {
            let ends = spans.iter().zip(input.aims).map(|(span, aim)| aim.start + span.count);
            let graph = StackGraph::build(view, spans, ends.max().unwrap_or(0));
            place(&mut self.passing, &graph)?;
            return graph.run(device, input, hidden);
        }
        self.kept(device, view, spans)?.run(device, input, hidden)
    }

    fn kept(&mut self, device: &Device, view: StackView<'_>, spans: &[SpanRows]) -> Result<&StackGraph, EngineError> {
        let found = self.kept.iter().position(|kept| kept.stack == view.stack && kept.spans == spans);
        let kept = match found {
            Some(index) => self.kept.remove(index),
            None => {
                let graph = StackGraph::build(view, spans, view.memory.context());
                let mut allocator = Allocator::new(device.own_layout().raw());
                place(&mut allocator, &graph)?;
                Kept { stack: view.stack, spans: spans.to_vec(), graph, _allocator: allocator }
            }
        };
        if self.kept.len() >= KEPT_GRAPHS_MAX {
            self.kept.remove(0);
        }
        Ok(&self.kept.push_mut(kept).graph)
    }
}

fn place(allocator: &mut Allocator, graph: &StackGraph) -> Result<(), EngineError> {
    if allocator.place(graph.graph) { Ok(()) } else { Err(EngineError::Device("out of memory for a graph".into())) }
}
