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

    /// The last border at or before a position, of those before the first block, too.
    pub fn border_before(self, position: u32) -> u32 {
        position / self.rows * self.rows
    }

    /// The block that a position is computed together with, if the prompt has all of it.
    pub fn whole_at(self, position: u32, prompt: u32) -> Option<Range<u32>> {
        let start = self.border_before(position);
        let block = start..start.saturating_add(self.rows);
        (start >= self.first && block.end <= prompt).then_some(block)
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
        assert_eq!(blocks.border_before(7), 4);
        assert_eq!(blocks.whole_at(u32::MAX, u32::MAX - 1), None, "and nothing overflows");
        assert_eq!(Blocks::new(0, 0).rows(), 1);
    }
}
