//! Causal attention of several sequences that lie one after another, positions rotated on the way in.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Result;
use collm_model::Hyperparameters;

use super::Rotation;
use super::rotation::Way;
use crate::dense::{Matrix, View, product};
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

    /// Columns of a query head, and of the keys and values that it looks at.
    fn columns(self, head: usize) -> [Range<usize>; 2] {
        let shared = head / (self.queries / self.keys);
        [head, shared].map(|index| index * self.dim..(index + 1) * self.dim)
    }
}

/// Attention within each of several sequences.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    pub(crate) rotation: Arc<Rotation>,
    /// Rows of each sequence.
    pub(crate) sequences: Arc<[Range<usize>]>,
}

/// Queries and keys with their positions in them, and values.
struct Turned<'a> {
    queries: Matrix,
    keys: Matrix,
    values: &'a Matrix,
    heads: Heads,
}

/// A block of queries of one head and the keys that it sees.
struct Block {
    head: usize,
    queries: Range<usize>,
    keys: Range<usize>,
}

impl Attention {
    /// Queries `[rows, query width]`, keys and values `[rows, key width]`; gives `[rows, query width]`.
    pub(crate) fn forward(&self, queries: &Matrix, keys: &Matrix, values: &Matrix) -> Result<Matrix> {
        let turned = self.turned(queries, keys, values);
        let mut attended = Matrix::zeros(queries.rows(), queries.columns());
        for block in self.blocks() {
            let mixed = product(turned.probabilities(&block)?.view(), turned.block_values(&block))?;
            let [columns, _] = self.heads.columns(block.head);
            add_block(&mut attended, block.queries, &columns, &mixed);
        }
        Ok(attended)
    }

    /// The gradients of queries, keys and values.
    pub(crate) fn backward(
        &self,
        queries: &Matrix,
        keys: &Matrix,
        values: &Matrix,
        given: &Matrix,
    ) -> Result<[Matrix; 3]> {
        let turned = self.turned(queries, keys, values);
        let mut gradients = Gradients::zero(&turned);
        for block in self.blocks() {
            gradients.add(&turned, &block, given.view())?;
        }
        self.turn(&mut gradients.queries, Way::Back);
        self.turn(&mut gradients.keys, Way::Back);
        Ok([gradients.queries, gradients.keys, gradients.values])
    }

    fn turned<'a>(&self, queries: &Matrix, keys: &Matrix, values: &'a Matrix) -> Turned<'a> {
        let turned = |matrix: &Matrix| {
            let mut matrix = matrix.clone();
            self.turn(&mut matrix, Way::There);
            matrix
        };
        Turned { queries: turned(queries), keys: turned(keys), values, heads: self.heads }
    }

    fn turn(&self, matrix: &mut Matrix, way: Way) {
        let width = matrix.columns();
        for rows in self.sequences.iter() {
            self.rotation.turn(&mut matrix.values_mut()[rows.start * width..rows.end * width], width, way);
        }
    }

    fn blocks(&self) -> impl Iterator<Item = Block> {
        let heads = self.heads;
        let queries = self
            .sequences
            .iter()
            .flat_map(|rows| rows.clone().step_by(BLOCK).map(|start| (rows.start, start..rows.end.min(start + BLOCK))));
        queries.flat_map(move |(sequence, queries)| {
            let first = sequence.max((queries.start + 1).saturating_sub(heads.window));
            (0..heads.queries).map(move |head| Block { head, queries: queries.clone(), keys: first..queries.end })
        })
    }
}

impl Turned<'_> {
    fn block_queries(&self, block: &Block) -> View<'_> {
        self.queries.view().block(block.queries.clone(), self.heads.columns(block.head)[0].clone())
    }

    fn block_keys(&self, block: &Block) -> View<'_> {
        self.keys.view().block(block.keys.clone(), self.heads.columns(block.head)[1].clone())
    }

    fn block_values(&self, block: &Block) -> View<'_> {
        self.values.view().block(block.keys.clone(), self.heads.columns(block.head)[1].clone())
    }

    /// How much each query attends to each key, `[queries, keys]`. Computed again for the backward pass, which is
    /// cheaper than keeping it.
    fn probabilities(&self, block: &Block) -> Result<Matrix> {
        let mut scores = product(self.block_queries(block), self.block_keys(block).transposed())?;
        for (query, row) in block.queries.clone().zip(scores.values_mut().chunks_exact_mut(block.keys.len())) {
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

/// Adds `block` to the rows and columns of `target` that it covers.
fn add_block(target: &mut Matrix, rows: Range<usize>, columns: &Range<usize>, block: &Matrix) {
    let width = target.columns();
    for (row, values) in rows.zip(block.values().chunks_exact(block.columns())) {
        lanes::add(&mut target.values_mut()[row * width..][columns.clone()], values);
    }
}

/// Gradients of queries and keys as turned, and of values.
struct Gradients {
    queries: Matrix,
    keys: Matrix,
    values: Matrix,
}

impl Gradients {
    fn zero(turned: &Turned<'_>) -> Self {
        let zeros = |model: &Matrix| Matrix::zeros(model.rows(), model.columns());
        Self { queries: zeros(&turned.queries), keys: zeros(&turned.keys), values: zeros(turned.values) }
    }

    fn add(&mut self, turned: &Turned<'_>, block: &Block, given: View<'_>) -> Result<()> {
        let [columns, shared] = turned.heads.columns(block.head);
        let given = given.block(block.queries.clone(), columns.clone());
        let shares = turned.probabilities(block)?;
        let mut to_scores = product(given, turned.block_values(block).transposed())?;
        through_softmax(&mut to_scores, &shares, turned.heads.scale);
        let to_values = product(shares.view().transposed(), given)?;
        let to_queries = product(to_scores.view(), turned.block_keys(block))?;
        let to_keys = product(to_scores.view().transposed(), turned.block_queries(block))?;
        add_block(&mut self.values, block.keys.clone(), &shared, &to_values);
        add_block(&mut self.queries, block.queries.clone(), &columns, &to_queries);
        add_block(&mut self.keys, block.keys.clone(), &shared, &to_keys);
        Ok(())
    }
}

/// Turns gradients of probabilities into those of scores. Unseen keys have probability 0 and so get none.
fn through_softmax(gradients: &mut Matrix, shares: &Matrix, scale: f32) {
    let keys = shares.columns();
    for (row, shares) in gradients.values_mut().chunks_exact_mut(keys).zip(shares.values().chunks_exact(keys)) {
        let along = dot(row, shares);
        row.iter_mut().zip(shares).for_each(|(value, share)| *value = (*value - along) * share * scale);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use collm_model::RopeKind;

    use super::*;
    use crate::ops::checks::{check_gradients, random};
    use crate::ops::rotation;

    pub(crate) fn small_attention(kind: RopeKind, window: usize, sequences: &[Range<usize>]) -> Attention {
        let heads = Heads { queries: 4, keys: 2, dim: 8, scale: 0.35, window };
        Attention { heads, rotation: Arc::new(rotation::tests::plain(kind, 8, 300)), sequences: sequences.into() }
    }

    #[test]
    fn gradients_are_slopes() {
        for (kind, window) in [(RopeKind::Adjacent, usize::MAX), (RopeKind::Halves, 3)] {
            let attention = small_attention(kind, window, &[0..5, 5..12]);
            check_gradients(
                &[random(1, 12, 32), random(2, 12, 16), random(3, 12, 16)],
                |inputs| attention.forward(&inputs[0], &inputs[1], &inputs[2]).unwrap(),
                |inputs, given| {
                    let gradients = attention.backward(&inputs[0], &inputs[1], &inputs[2], given);
                    gradients.unwrap().map(Matrix::into_values).into()
                },
            );
        }
    }

    /// Rows of a sequence longer than a block, alone and behind another sequence.
    #[test]
    fn sequences_do_not_see_each_other() {
        let (first, rows) = (9, BLOCK + 40);
        let run = |sequences: &[Range<usize>], inputs: &[Matrix; 3]| {
            let [queries, keys, values] = inputs;
            small_attention(RopeKind::Adjacent, 70, sequences).forward(queries, keys, values).unwrap().into_values()
        };
        let inputs = [(1, 32), (2, 16), (3, 16)].map(|(seed, width)| random(seed, first + rows, width));
        let together = run(&[0..first, first..first + rows], &inputs);
        let own = inputs.map(|input| Matrix::new(input.values()[first * input.columns()..].to_vec(), input.columns()));
        let alone = run(std::slice::from_ref(&(0..rows)), &own);
        assert!(together[first * 32..].iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
