//! Steps of a graph, each one ggml operation. They describe; nothing is computed until a device runs the graph.

use llama_cpp_sys_2 as sys;

use crate::ggml::{Context, Tensor};
use crate::weights::{Affine, Projection};

/// Adds steps to a context. All tensors given to it belong to live contexts.
pub(crate) struct Builder<'a> {
    context: &'a Context,
    graph: *mut sys::ggml_cgraph,
}

/// One ggml operation that takes the context and tensors, and returns a tensor.
macro_rules! step {
    ($build:expr, $function:ident, $($argument:expr),*) => {
        // SAFETY: context and tensors are alive (promise of `Builder`); ggml aborts on shapes that do not fit, which the
        // file's check and the callers' arithmetic rule out.
        Tensor::new(unsafe { sys::$function($build.raw(), $($argument),*) })
    };
}

impl<'a> Builder<'a> {
    /// A builder of a graph of up to `nodes` nodes; the context has room for them.
    pub(crate) fn new(context: &'a Context, nodes: usize) -> Self {
        // SAFETY: the context was made with room for this graph; ggml aborts if not.
        let graph = unsafe { sys::ggml_new_graph_custom(context.raw(), nodes, false) };
        Self { context, graph }
    }

    pub(crate) fn raw(&self) -> *mut sys::ggml_context {
        self.context.raw()
    }

    pub(crate) fn graph(&self) -> *mut sys::ggml_cgraph {
        self.graph
    }

    /// Has `node`, and what it needs, computed after everything that was demanded earlier.
    pub(crate) fn demand(&self, node: Tensor) {
        // SAFETY: graph and node live in live contexts.
        unsafe { sys::ggml_build_forward_expand(self.graph, node.raw()) }
    }

    pub(crate) fn input_1d(&self, ty: sys::ggml_type, length: usize) -> Tensor {
        self.context.tensor_1d(ty, length).mark_input()
    }

    pub(crate) fn input_2d(&self, ty: sys::ggml_type, row: usize, rows: usize) -> Tensor {
        self.context.tensor_2d(ty, row, rows).mark_input()
    }

    /// Each row over its root mean square, times `gain`.
    pub(crate) fn rms_norm(&self, x: Tensor, gain: Tensor, epsilon: f32) -> Tensor {
        let normed = step!(self, ggml_rms_norm, x.raw(), epsilon);
        step!(self, ggml_mul, normed.raw(), gain.raw())
    }

    pub(crate) fn add(&self, a: Tensor, b: Tensor) -> Tensor {
        step!(self, ggml_add, a.raw(), b.raw())
    }

    pub(crate) fn scale(&self, x: Tensor, factor: f32) -> Tensor {
        step!(self, ggml_scale, x.raw(), factor)
    }

    pub(crate) fn affine(&self, affine: Affine, x: Tensor) -> Tensor {
        let product = self.product(affine.weight, x);
        affine.bias.map_or(product, |bias| self.add(product, bias))
    }

    /// `matrix` times every row of `x`.
    pub(crate) fn product(&self, matrix: Tensor, x: Tensor) -> Tensor {
        step!(self, ggml_mul_mat, matrix.raw(), x.raw())
    }

    /// The outputs of three matrices with the same input, each `widths` long.
    pub(crate) fn project(&self, projection: &Projection, x: Tensor, widths: [usize; 3]) -> [Tensor; 3] {
        match projection {
            Projection::Apart(parts) => std::array::from_fn(|index| self.affine(parts[index], x)),
            Projection::Joined(affine) => {
                let all = self.affine(*affine, x);
                let start = |index: usize| widths[..index].iter().sum();
                std::array::from_fn(|index| self.columns(all, start(index), widths[index]))
            }
        }
    }

    /// Indexes of the `count` largest values of every row, in any order.
    pub(crate) fn largest(&self, x: Tensor, count: usize) -> Tensor {
        step!(self, ggml_top_k, x.raw(), count as i32)
    }

    /// The products of every row of `x` with rows of `table` of its own, which packed `indexes` `[count, rows]` names: `[count, rows]`.
    pub(crate) fn products_with(&self, table: Tensor, indexes: Tensor, x: Tensor) -> Tensor {
        let ([count, rows, ..], [width, ..]) = (indexes.dims(), x.dims());
        let indexes = step!(self, ggml_reshape_1d, indexes.raw(), count * rows);
        let chosen = step!(self, ggml_get_rows, table.raw(), indexes.raw());
        let chosen = step!(self, ggml_reshape_3d, chosen.raw(), width, count, rows);
        let x = step!(self, ggml_reshape_3d, x.raw(), width, 1, rows);
        let products = self.product(chosen, x);
        step!(self, ggml_reshape_2d, products.raw(), count, rows)
    }

    /// `silu(gate) * up` of rows that hold first the gate, then the values.
    pub(crate) fn swiglu(&self, both: Tensor) -> Tensor {
        step!(self, ggml_swiglu, both.raw())
    }

    pub(crate) fn swiglu_split(&self, gate: Tensor, up: Tensor) -> Tensor {
        step!(self, ggml_swiglu_split, gate.raw(), up.raw())
    }

    /// `gelu(gate) * up` of rows that hold first the gate, then the values.
    pub(crate) fn geglu(&self, both: Tensor) -> Tensor {
        step!(self, ggml_geglu, both.raw())
    }

    pub(crate) fn geglu_split(&self, gate: Tensor, up: Tensor) -> Tensor {
        step!(self, ggml_geglu_split, gate.raw(), up.raw())
    }

    pub(crate) fn silu(&self, x: Tensor) -> Tensor {
        step!(self, ggml_silu, x.raw())
    }

    /// `[width, rows]` from column `first` on.
    pub(crate) fn columns(&self, x: Tensor, first: usize, width: usize) -> Tensor {
        let strides = x.strides();
        step!(self, ggml_view_2d, x.raw(), width as i64, x.dims()[1], strides[1], first * strides[0])
    }

    /// `[row, rows]` from row `first` on.
    pub(crate) fn rows(&self, x: Tensor, first: usize, rows: usize) -> Tensor {
        let strides = x.strides();
        step!(self, ggml_view_2d, x.raw(), x.dims()[0], rows as i64, strides[1], first * strides[1])
    }

    /// `[head_dim, heads, rows]` of the columns from `first` on.
    pub(crate) fn heads(&self, x: Tensor, first: usize, head_dim: usize, heads: usize) -> Tensor {
        let [element, row, ..] = x.strides();
        let shape = (head_dim as i64, heads as i64, x.dims()[1]);
        step!(self, ggml_view_3d, x.raw(), shape.0, shape.1, shape.2, head_dim * element, row, first * element)
    }

    /// `heads` heads from head `first` on, of all rows.
    pub(crate) fn some_heads(&self, x: Tensor, first: usize, heads: usize) -> Tensor {
        let ([dim, _, rows, _], [_, head, row, _]) = (x.dims(), x.strides());
        step!(self, ggml_view_3d, x.raw(), dim, heads as i64, rows, head, row, first * head)
    }

    /// `[head_dim * heads, rows]` of packed `[head_dim, heads, rows]`.
    pub(crate) fn flat_heads(&self, x: Tensor) -> Tensor {
        let [dim, heads, rows, _] = x.dims();
        step!(self, ggml_reshape_2d, x.raw(), dim * heads, rows)
    }

    /// The values of packed `x` as one row.
    pub(crate) fn flat_rows(&self, x: Tensor, row: usize) -> Tensor {
        step!(self, ggml_reshape_2d, x.raw(), row as i64, 1)
    }

    /// A view with any shape and strides; `offset` in bytes.
    pub(crate) fn view_3d(&self, x: Tensor, dims: [usize; 3], strides: [usize; 2], offset: usize) -> Tensor {
        let [d0, d1, d2] = dims.map(|length| length as i64);
        step!(self, ggml_view_3d, x.raw(), d0, d1, d2, strides[0], strides[1], offset)
    }

    /// Exchanges the second and third dimension, without copying.
    pub(crate) fn exchange_rows_and_heads(&self, x: Tensor) -> Tensor {
        step!(self, ggml_permute, x.raw(), 0, 2, 1, 3)
    }

    /// A packed copy.
    pub(crate) fn packed(&self, x: Tensor) -> Tensor {
        step!(self, ggml_cont, x.raw())
    }

    /// The rows of `a`, then those of `b`.
    pub(crate) fn stack_rows(&self, a: Tensor, b: Tensor) -> Tensor {
        step!(self, ggml_concat, a.raw(), b.raw(), 1)
    }

    /// Writes the rows of `values` to the rows of `memory` that `indexes` names.
    pub(crate) fn set_rows(&self, memory: Tensor, values: Tensor, indexes: Tensor) {
        self.demand(step!(self, ggml_set_rows, memory.raw(), values.raw(), indexes.raw()));
    }

    /// Attention of `queries` `[head_dim, rows, heads]` over `keys` and `values` `[head_dim, positions, kv_heads]`, giving
    /// `[head_dim, heads, rows]`.
    pub(crate) fn attend(&self, queries: Tensor, kv: (Tensor, Tensor), mask: Option<Tensor>, scale: f32) -> Tensor {
        let mask = mask.map_or(std::ptr::null_mut(), Tensor::raw);
        step!(self, ggml_flash_attn_ext, queries.raw(), kv.0.raw(), kv.1.raw(), mask, scale, 0.0, 0.0)
    }
}
