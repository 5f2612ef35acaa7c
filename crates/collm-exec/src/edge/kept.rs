//! Hidden states of one slot between its two stages.

use collm_core::ids::Position;

/// States after `e1`, from position `first` on. Its end is always the filled length of the lower stack.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    first: usize,
    states: Vec<f32>,
}

impl Kept {
    /// Keeps the states of the next positions.
    pub(super) fn push(&mut self, states: &[f32]) {
        self.states.extend_from_slice(states);
    }

    /// The states of positions `[first, end)`.
    pub(super) fn range(&self, first: Position, end: Position, width: usize) -> Option<&[f32]> {
        let from = first.index().checked_sub(self.first)? * width;
        self.states.get(from..(end.index() - self.first) * width)
    }

    /// The states of the last `rows` positions. Panics if fewer are kept.
    pub(super) fn last(&self, rows: usize, width: usize) -> &[f32] {
        &self.states[self.states.len() - rows * width..]
    }

    /// Those from position `length` on are not wanted any more.
    pub(super) fn truncate(&mut self, length: usize, width: usize) {
        self.first = self.first.min(length);
        self.states.truncate((length - self.first) * width);
    }

    /// All of them are done with.
    pub(super) fn clear(&mut self, width: usize) {
        self.first += self.states.len() / width;
        self.states.clear();
    }

    /// Memory of the states.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.states.as_slice())
    }
}
