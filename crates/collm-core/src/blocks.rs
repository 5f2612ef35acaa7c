//! How an engine wants a prompt cut: anywhere at its beginning, and in whole blocks after that (invariant 16).

use std::ops::Range;

/// Blocks of a prompt. What follows the prompt is never computed as a whole block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    rows: u32,
    first: u32,
}

impl Blocks {
    /// Blocks of so many positions (at least one), from the position `first` on, or the next that is a multiple of them. Positions
    /// before it may be computed in any pieces.
    pub fn new(rows: u32, first: u32) -> Self {
        let rows = rows.max(1);
        Self { rows, first: first.next_multiple_of(rows) }
    }

    /// Positions of a block.
    pub fn rows(self) -> u32 {
        self.rows
    }

    /// Where the first one begins.
    pub fn first(self) -> u32 {
        self.first
    }

    /// The last position, at or before this one, where a text may be cut without changing a bit.
    pub fn cut_before(self, position: u32) -> u32 {
        if position < self.first { position } else { self.start(position) }
    }

    /// The block that a position is computed together with, if the prompt has all of it.
    pub fn whole_at(self, position: u32, prompt: u32) -> Option<Range<u32>> {
        let start = self.start(position);
        let block = start..start.saturating_add(self.rows);
        (start >= self.first && block.end <= prompt).then_some(block)
    }

    /// How far rows from a position on may reach in one call: never over all of a block that the answer has a part in.
    pub fn reach(self, from: u32, prompt: u32) -> u32 {
        let of_answer = self.cut_before(prompt).max(self.first);
        let next = from.max(of_answer).div_ceil(self.rows).saturating_mul(self.rows);
        next.saturating_add(self.rows - 1).max(from.saturating_add(1))
    }

    /// Rows to compute next on the way from one position to another, at most `rows_max`. Within the prompt they end where it may be cut,
    /// if a block is no larger than that.
    pub fn piece(self, from: u32, to: u32, prompt: u32, rows_max: u32) -> u32 {
        let end = to.min(from.saturating_add(rows_max)).min(self.reach(from, prompt));
        let cut = if end < to.min(prompt) { self.cut_before(end) } else { end };
        if cut > from { cut - from } else { end - from }
    }

    fn start(self, position: u32) -> u32 {
        position / self.rows * self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_that_the_prompt_has_and_that_come_late_enough_are_whole() {
        let blocks = Blocks::new(4, 7);
        assert_eq!((blocks.rows(), blocks.first()), (4, 8));
        assert_eq!(blocks.whole_at(7, 20), None, "before the first");
        assert_eq!(blocks.whole_at(8, 20), Some(8..12));
        assert_eq!(blocks.whole_at(15, 16), Some(12..16));
        assert_eq!(blocks.whole_at(15, 15), None, "the answer has a part in it");
        assert_eq!([7, 8, 11, 12].map(|position| blocks.cut_before(position)), [7, 8, 8, 12]);
        assert_eq!(blocks.whole_at(u32::MAX, u32::MAX - 1), None, "and nothing overflows");
        assert_eq!(Blocks::new(0, 0).rows(), 1);
    }

    #[test]
    fn pieces_end_where_a_prompt_may_be_cut_and_never_hold_a_block_of_the_answer() {
        let pieces = |from: u32, to, prompt, rows_max| {
            let mut ends = vec![from];
            while let Some(&at) = ends.last().filter(|at| **at < to) {
                ends.push(at + Blocks::new(4, 8).piece(at, to, prompt, rows_max));
            }
            ends
        };
        assert_eq!(pieces(0, 30, 30, 8), [0, 8, 16, 24, 30]);
        assert_eq!(pieces(3, 30, 30, 8), [3, 8, 16, 24, 30], "wherever it begins");
        assert_eq!(pieces(0, 30, 30, 3), [0, 3, 6, 8, 11, 12, 15, 16, 19, 20, 23, 24, 27, 30], "blocks are larger");
        assert_eq!(pieces(8, 30, 14, 100), [8, 15, 19, 23, 27, 30], "behind a prompt of 14");
        assert_eq!(Blocks::new(1, 0).piece(5, 9, 3, 4), 1);
    }
}
