//! Causal attention of several sequences that lie one after another, positions rotated on the way in.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use collm_model::Hyperparameters;

use super::rotation::Way;
use super::{Held, Rotation, floats, gradient};
use crate::dense::{View, product};
use crate::lanes::{self, dot, exponentials};

/// Queries that look at keys together. A block sees no key after its end, which leaves out nearly half of all products.
const BLOCK: usize = 128;

/// The heads of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    queries: usize,
    keys: usize,
    dim: usize,
    scale: f32,
    /// A query at `p` sees keys above `p - window`.
    window: usize,
}

impl Heads {
    pub(crate) fn new(h: &Hyperparameters, local: bool) -> Self {
        let window = h.sliding_window.as_ref().filter(|_| local).map_or(usize::MAX, |window| window.size as usize);
        let (queries, keys, dim) = (h.heads as usize, h.kv_heads as usize, h.head_dim_k as usize);
        Self { queries, keys, dim, scale: h.attention_scale, window }
    }

    fn query_width(self) -> usize {
        self.queries * self.dim
    }

    fn key_width(self) -> usize {
        self.keys * self.dim
    }

    /// Columns of a query head, and of the keys and values that it looks at.
    fn columns(self, head: usize) -> [Range<usize>; 2] {
        let shared = head / (self.queries / self.keys);
        [head, shared].map(|index| index * self.dim..(index + 1) * self.dim)
    }
}

/// Attention of queries `[rows, query width]` to keys and values `[rows, key width]`; gives `[rows, query width]`.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    pub(crate) rotation: Arc<Rotation>,
    /// Rows of each sequence.
    pub(crate) sequences: Arc<[Range<usize>]>,
}

/// Queries, keys and values with their positions in them.
struct Turned {
    queries: CpuStorage,
    keys: CpuStorage,
    values: CpuStorage,
    rows: usize,
    heads: Heads,
}

/// A block of queries of one head and the keys that it sees.
struct Block {
    head: usize,
    queries: Range<usize>,
    keys: Range<usize>,
}

impl Attention {
    fn turned(&self, queries: &[f32], keys: &[f32], values: &[f32]) -> Turned {
        let rows = queries.len() / self.heads.query_width();
        let turned = |values: &[f32], width| {
            let mut values = values.to_vec();
            self.turn(&mut values, width, Way::There);
            CpuStorage::F32(values)
        };
        let (queries, keys) = (turned(queries, self.heads.query_width()), turned(keys, self.heads.key_width()));
        Turned { queries, keys, values: CpuStorage::F32(values.to_vec()), rows, heads: self.heads }
    }

    fn turn(&self, values: &mut [f32], width: usize, way: Way) {
        for rows in self.sequences.iter() {
            self.rotation.turn(&mut values[rows.start * width..rows.end * width], width, way);
        }
    }

    fn blocks(&self) -> impl Iterator<Item = Block> {
        let heads = self.heads;
        let queries = self.sequences.iter().flat_map(|rows| {
            rows.clone().step_by(BLOCK).map(|start| (rows.start, start..rows.end.min(start + BLOCK)))
        });
        queries.flat_map(move |(sequence, queries)| {
            let first = sequence.max((queries.start + 1).saturating_sub(heads.window));
            (0..heads.queries).map(move |head| Block { head, queries: queries.clone(), keys: first..queries.end })
        })
    }
}

impl Turned {
    fn view<'a>(&self, storage: &'a CpuStorage, width: usize, rows: &Range<usize>, columns: &Range<usize>) -> View<'a> {
        View::new(storage, self.rows, width).block(rows.clone(), columns.clone())
    }

    fn block_queries(&self, block: &Block) -> View<'_> {
        self.view(&self.queries, self.heads.query_width(), &block.queries, &self.heads.columns(block.head)[0])
    }

    fn block_keys(&self, block: &Block) -> View<'_> {
        self.view(&self.keys, self.heads.key_width(), &block.keys, &self.heads.columns(block.head)[1])
    }

    fn block_values(&self, block: &Block) -> View<'_> {
        self.view(&self.values, self.heads.key_width(), &block.keys, &self.heads.columns(block.head)[1])
    }

    /// How much each query attends to each key, `[queries, keys]`. Computed again for the backward pass, which is
    /// cheaper than keeping it.
    fn probabilities(&self, block: &Block) -> Result<Vec<f32>> {
        let mut scores = product(self.block_queries(block), self.block_keys(block).transposed())?;
        for (query, row) in block.queries.clone().zip(scores.chunks_exact_mut(block.keys.len())) {
            let first = (query + 1).saturating_sub(self.heads.window).max(block.keys.start);
            let (unseen, rest) = row.split_at_mut(first - block.keys.start);
            let (seen, later) = rest.split_at_mut(query + 1 - first);
            unseen.fill(0.0);
            later.fill(0.0);
            softmax(seen, self.heads.scale);
        }
        Ok(scores)
    }
}

fn softmax(scores: &mut [f32], scale: f32) {
    scores.iter_mut().for_each(|score| *score *= scale);
    let largest = lanes::max(scores);
    let share = 1.0 / exponentials(scores, largest);
    scores.iter_mut().for_each(|score| *score *= share);
}

/// Adds `block`, rows of `columns.len()` values, to `rows` of `target`, whose rows are `width` long.
fn add_block(target: &mut [f32], width: usize, rows: Range<usize>, columns: &Range<usize>, block: &[f32]) {
    for (row, values) in rows.zip(block.chunks_exact(columns.len())) {
        lanes::add(&mut target[row * width..][columns.clone()], values);
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        query_layout: &Layout,
        keys: &CpuStorage,
        key_layout: &Layout,
        values: &CpuStorage,
        value_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let turned =
            self.turned(floats(queries, query_layout)?, floats(keys, key_layout)?, floats(values, value_layout)?);
        let width = self.heads.query_width();
        let mut attended = vec![0.0; turned.rows * width];
        for block in self.blocks() {
            let shares = CpuStorage::F32(turned.probabilities(&block)?);
            let shares = View::new(&shares, block.queries.len(), block.keys.len());
            let mixed = product(shares, turned.block_values(&block))?;
            let [columns, _] = self.heads.columns(block.head);
            add_block(&mut attended, width, block.queries, &columns, &mixed);
        }
        Ok((CpuStorage::F32(attended), query_layout.shape().clone()))
    }

    fn bwd(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        _result: &Tensor,
        given: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let held = [queries, keys, values, given].map(Held::new);
        let turned = self.turned(held[0].floats()?, held[1].floats()?, held[2].floats()?);
        let mut gradients = Gradients::zero(&turned);
        for block in self.blocks() {
            gradients.add(&turned, &block, held[3].view()?)?;
        }
        self.turn(&mut gradients.queries, self.heads.query_width(), Way::Back);
        self.turn(&mut gradients.keys, self.heads.key_width(), Way::Back);
        Ok((
            gradient(gradients.queries, queries)?,
            gradient(gradients.keys, keys)?,
            gradient(gradients.values, values)?,
        ))
    }
}

/// Gradients of queries and keys as turned, and of values.
struct Gradients {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Gradients {
    fn zero(turned: &Turned) -> Self {
        let zeros = |width| vec![0.0; turned.rows * width];
        let (query_width, key_width) = (turned.heads.query_width(), turned.heads.key_width());
        Self { queries: zeros(query_width), keys: zeros(key_width), values: zeros(key_width) }
    }

    fn add(&mut self, turned: &Turned, block: &Block, given: View<'_>) -> Result<()> {
        let heads = turned.heads;
        let [columns, shared] = heads.columns(block.head);
        let given = given.block(block.queries.clone(), columns.clone());
        let shares = turned.probabilities(block)?;
        let mut to_scores = product(given, turned.block_values(block).transposed())?;
        through_softmax(&mut to_scores, &shares, block.keys.len(), heads.scale);
        let matrix = |values| CpuStorage::F32(values);
        let (shares, to_scores) = (matrix(shares), matrix(to_scores));
        let view = |storage| View::new(storage, block.queries.len(), block.keys.len());
        let to_values = product(view(&shares).transposed(), given)?;
        let to_queries = product(view(&to_scores), turned.block_keys(block))?;
        let to_keys = product(view(&to_scores).transposed(), turned.block_queries(block))?;
        let (query_width, key_width) = (heads.query_width(), heads.key_width());
        add_block(&mut self.values, key_width, block.keys.clone(), &shared, &to_values);
        add_block(&mut self.queries, query_width, block.queries.clone(), &columns, &to_queries);
        add_block(&mut self.keys, key_width, block.keys.clone(), &shared, &to_keys);
        Ok(())
    }
}

/// Turns gradients of probabilities into those of scores. Unseen keys have probability 0 and so get none.
fn through_softmax(gradients: &mut [f32], shares: &[f32], keys: usize, scale: f32) {
    for (row, shares) in gradients.chunks_exact_mut(keys).zip(shares.chunks_exact(keys)) {
        let along = dot(row, shares);
        row.iter_mut().zip(shares).for_each(|(value, share)| *value = (*value - along) * share * scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::checks::{check_gradients, random};
    use crate::ops::rotation;

    fn attention(kind: collm_model::RopeKind, window: usize, sequences: &[Range<usize>]) -> Attention {
        let heads = Heads { queries: 4, keys: 2, dim: 8, scale: 0.35, window };
        let rotation = Arc::new(rotation::tests::plain(kind, 8, 300));
        Attention { heads, rotation, sequences: sequences.into() }
    }

    #[test]
    fn gradients_are_slopes() {
        for (kind, window) in [(collm_model::RopeKind::Adjacent, usize::MAX), (collm_model::RopeKind::Halves, 3)] {
            let attention = attention(kind, window, &[0..5, 5..12]);
            check_gradients(&[random(1, 12, 32), random(2, 12, 16), random(3, 12, 16)], |inputs| {
                inputs[0].apply_op3(&inputs[1], &inputs[2], attention.clone())
            });
        }
    }

    /// Rows of a sequence longer than a block, alone and behind another sequence.
    #[test]
    fn sequences_do_not_see_each_other() {
        let rows = BLOCK + 40;
        let run = |sequences: &[Range<usize>], inputs: [Tensor; 3]| {
            let attention = attention(collm_model::RopeKind::Adjacent, 70, sequences);
            inputs[0].apply_op3(&inputs[1], &inputs[2], attention).unwrap()
        };
        let inputs = [(1, 32), (2, 16), (3, 16)].map(|(seed, width)| random(seed, 9 + rows, width).as_detached_tensor());
        let together = run(&[0..9, 9..9 + rows], inputs.clone()).narrow(0, 9, rows).unwrap();
        let own = inputs.map(|input| input.narrow(0, 9, rows).unwrap().contiguous().unwrap());
        let alone = run(&[0..rows], own);
        let difference = (together - alone).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-5);
    }
}
