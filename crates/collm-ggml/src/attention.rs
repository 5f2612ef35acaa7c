//! Attention of the rows of a batch: every slot over exactly the positions that it has filled.
//!
//! A graph is built once for a pattern of rows and used for many calls. What changes from call to call is which rows of the
//! arena a slot looks at ([`Attention::aim`]), not the graph. A single row needs no mask; several rows of a slot, and
//! windows over them, do.

use collm_engine::BLOCK_ROWS;
use half::f16;
use llama_cpp_sys_2 as sys;

use crate::build::Builder;
use crate::ggml::Tensor;
use crate::kv::KvLayer;
use crate::layers::{LayerShape, Qkv};

/// From this many positions on, ggml's attention of a single row divides the positions among threads and adds up
/// differently than for several rows of one call. [`Attention::attend_row`] avoids that.
const DIVIDED_POSITIONS_MIN: usize = 512;

/// Rows of one slot in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SpanRows {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// Where a slot's rows are in the arena during one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanAim {
    /// Arena row of the slot's position 0.
    pub(crate) base: usize,
    /// Position of the call's first row.
    pub(crate) start: usize,
}

/// The parts of a graph that follow the slots.
#[derive(Debug)]
pub(crate) struct Attention {
    spans: Vec<Span>,
    /// Positions a row sees in local layers.
    window: Option<usize>,
    context: usize,
    /// Views over the arena, with what they look at.
    views: Vec<View>,
}

#[derive(Debug)]
struct Span {
    rows: SpanRows,
    /// For global layers and for local ones; made when the first such layer comes, and not for a single row.
    masks: [Option<Tensor>; 2],
}

#[derive(Debug, Clone, Copy)]
struct View {
    view: Tensor,
    arena: Tensor,
    span: usize,
    local: bool,
}

impl Attention {
    /// `positions_max` is the largest number of positions that a slot will have filled after any call, `window` the number that
    /// a row sees in local layers.
    pub(crate) fn new(spans: &[SpanRows], positions_max: usize, window: Option<usize>) -> Self {
        let spans = spans.iter().map(|span| Span { rows: *span, masks: [None; 2] });
        Self { spans: spans.collect(), window, context: positions_max, views: Vec::new() }
    }

    /// What the rows gather, `[query_width, rows]`. Keys and values of these rows are already demanded to be in `memory`.
    pub(crate) fn attend(
        &mut self,
        build: &Builder<'_>,
        shape: &LayerShape,
        memory: KvLayer,
        qkv: Qkv,
        local: bool,
    ) -> Tensor {
        let mut all: Option<Tensor> = None;
        for index in 0..self.spans.len() {
            let kv = self.look(build, shape, memory, index, local);
            let mask = self.mask(build, index, local);
            let rows = self.spans[index].rows;
            let [dim, heads, ..] = qkv.queries.dims().map(|length| length as usize);
            let [_, head, row, _] = qkv.queries.strides();
            let queries = build.view_3d(qkv.queries, [dim, heads, rows.count], [head, row], rows.first * row);
            let scale = shape.attention_scale();
            let attended = match mask {
                None => self.attend_row(build, queries, kv, scale),
                mask => build.flat_heads(build.attend(build.exchange_rows_and_heads(queries), kv, mask, scale)),
            };
            all = Some(all.map_or(attended, |before| build.stack_rows(before, attended)));
        }
        all.expect("a graph has rows")
    }

    fn mask(&mut self, build: &Builder<'_>, span: usize, local: bool) -> Option<Tensor> {
        let Span { rows, masks } = &mut self.spans[span];
        if rows.count == 1 {
            return None;
        }
        let make = || build.input_2d(sys::GGML_TYPE_F16, self.context, rows.count);
        Some(*masks[usize::from(local)].get_or_insert_with(make))
    }

    /// Attention of a single row, by the arithmetic that several rows get.
    fn attend_row(&self, build: &Builder<'_>, queries: Tensor, kv: (Tensor, Tensor), scale: f32) -> Tensor {
        let [dim, heads, ..] = queries.dims().map(|length| length as usize);
        let head = queries.strides()[1];
        if self.context < DIVIDED_POSITIONS_MIN {
            return build.flat_heads(build.attend(build.exchange_rows_and_heads(queries), kv, None, scale));
        }
        let kv_heads = kv.0.dims()[2] as usize;
        let group = heads / kv_heads;
        if group > 1 {
            // Heads that share keys become rows, since nothing distinguishes them.
            let rows = build.view_3d(queries, [dim, group, kv_heads], [head, group * head], 0);
            let attended = build.exchange_rows_and_heads(build.attend(rows, kv, None, scale));
            return build.flat_rows(build.packed(attended), dim * heads);
        }
        // The same row twice, of which one is kept. A copy: ggml forbids views that are larger than what they look at.
        let row = build.exchange_rows_and_heads(queries);
        let rows = build.stack_rows(row, row);
        build.rows(build.flat_heads(build.attend(rows, kv, None, scale)), 0, 1)
    }

    /// Views `[head_dim, positions, kv_heads]` over a layer's arena, to be aimed before every call.
    fn look(
        &mut self,
        build: &Builder<'_>,
        shape: &LayerShape,
        memory: KvLayer,
        span: usize,
        local: bool,
    ) -> (Tensor, Tensor) {
        let h = &shape.hyperparameters;
        let mut view = |arena: Tensor, head_dim: u32| {
            let [element, row, ..] = arena.strides();
            let dims = [head_dim as usize, self.context, h.kv_heads as usize];
            let view = build.view_3d(arena, dims, [row, head_dim as usize * element], 0);
            self.views.push(View { view, arena, span, local });
            view
        };
        (view(memory.keys, h.head_dim_k), view(memory.values, h.head_dim_v))
    }

    /// Points the views and masks at the slots of a call, one aim a span.
    pub(crate) fn aim(&self, aims: &[SpanAim]) {
        for view in &self.views {
            let (first, count) = self.sight(view.span, view.local, aims);
            view.view.slide(view.arena, aims[view.span].base + first, count);
        }
        for (index, span) in self.spans.iter().enumerate() {
            for (local, mask) in [false, true].into_iter().zip(span.masks) {
                if let Some(mask) = mask {
                    self.write_mask(mask, index, local, aims);
                }
            }
        }
    }

    /// The first position that any row of the span sees, and how many from there on.
    fn sight(&self, span: usize, local: bool, aims: &[SpanAim]) -> (usize, usize) {
        let start = aims[span].start;
        let end = start + self.spans[span].rows.count;
        let first = match self.window {
            Some(window) if local => {
                let oldest = (start + 1).saturating_sub(window);
                // ggml adds up the keys of many rows in tiles that begin with the view. They begin where blocks do, wherever the call
                // begins (invariant 16). A single row has no mask to hide what it does not see, and no tiles.
                if self.spans[span].rows.count == 1 { oldest } else { oldest / BLOCK_ROWS * BLOCK_ROWS }
            }
            _ => 0,
        };
        (first, end - first)
    }

    /// Zero where a row sees a position, minus infinity where it does not.
    fn write_mask(&self, mask: Tensor, span: usize, local: bool, aims: &[SpanAim]) {
        let (first, count) = self.sight(span, local, aims);
        let window = self.window.filter(|_| local).unwrap_or(usize::MAX);
        let rows = self.spans[span].rows.count;
        let mut values = vec![f16::NEG_INFINITY; rows * count];
        for (row, seen) in values.chunks_exact_mut(count).enumerate() {
            let position = aims[span].start + row;
            let oldest = (position + 1).saturating_sub(window).max(first);
            seen[oldest - first..=position - first].fill(f16::ZERO);
        }
        mask.shorten_rows(count);
        mask.write(&values);
    }
}
