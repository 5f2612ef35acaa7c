//! The hidden states of a session so far, as blocks in order of position. The edge keeps one for replay, the cloud one for computing.

use std::collections::VecDeque;

use super::StateBlock;

/// States of positions `[0, rows)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateLog {
    /// First position and states of each block.
    blocks: VecDeque<(u32, StateBlock)>,
    rows: u32,
    bytes: usize,
}

impl StateLog {
    /// Positions held.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the next positions.
    pub fn push(&mut self, block: StateBlock) {
        let first = self.rows;
        self.rows += block.rows();
        self.bytes += block.bytes().len();
        self.blocks.push_back((first, block));
    }

    /// Forgets positions from `length` on.
    pub fn truncate(&mut self, length: u32) {
        while let Some((first, block)) = self.blocks.pop_back() {
            let keep = length.saturating_sub(first).min(block.rows());
            if keep == block.rows() {
                self.blocks.push_back((first, block));
                break;
            }
            self.rows = first;
            self.bytes -= block.bytes().len();
            if keep > 0 {
                self.push(block.copy_first(keep));
                break;
            }
        }
    }

    /// Positions `[from, to)` as pieces of at most `rows_max`, each with its first position. What is not held is not there.
    pub fn pieces(&self, from: u32, to: u32, rows_max: u32) -> impl Iterator<Item = (u32, StateBlock)> {
        let start = self.blocks.partition_point(|(first, block)| first + block.rows() <= from);
        self.blocks
            .range(start..)
            .take_while(move |(first, _)| *first < to)
            .flat_map(move |(first, block)| pieces_of(*first, block, from, to, rows_max))
    }
}

/// The part of one block that lies in `[from, to)`, cut to `rows_max`.
fn pieces_of(
    first: u32,
    block: &StateBlock,
    from: u32,
    to: u32,
    rows_max: u32,
) -> impl Iterator<Item = (u32, StateBlock)> {
    let begin = from.saturating_sub(first);
    let end = (to - first).min(block.rows());
    (begin..end).step_by(rows_max.max(1) as usize).map(move |at| {
        let until = at.saturating_add(rows_max.max(1)).min(end);
        (first + at, block.slice(at, until))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::states::Encoding;

    /// A block of rows of one byte pair each.
    fn block(rows: &[u8]) -> StateBlock {
        let bytes: Vec<u8> = rows.iter().flat_map(|&row| [row, 0]).collect();
        StateBlock::parse(Encoding::F16, 1, bytes.into()).expect("small numbers are finite")
    }

    fn log() -> StateLog {
        let mut log = StateLog::default();
        for rows in [&[0, 1, 2][..], &[3], &[4, 5]] {
            log.push(block(rows));
        }
        log
    }

    fn read(log: &StateLog, from: u32, to: u32, rows_max: u32) -> Vec<(u32, Vec<u8>)> {
        log.pieces(from, to, rows_max)
            .map(|(first, b)| (first, b.bytes().iter().copied().step_by(2).collect()))
            .collect()
    }

    #[test]
    fn reads_any_range_in_pieces() {
        for from in 0..6 {
            for to in from..=6 {
                for rows_max in 1..4 {
                    let rows: Vec<u8> =
                        read(&log(), from, to, rows_max).into_iter().flat_map(|(_, rows)| rows).collect();
                    assert_eq!(rows, (from as u8..to as u8).collect::<Vec<_>>(), "{from}..{to} by {rows_max}");
                }
            }
        }
        assert_eq!(read(&log(), 1, 6, 2), [(1, vec![1, 2]), (3, vec![3]), (4, vec![4, 5])]);
    }

    #[test]
    fn truncating_forgets_exactly_the_rest() {
        for length in 0..8 {
            let mut log = log();
            log.truncate(length);
            let kept = length.min(6);
            assert_eq!((log.rows(), log.bytes()), (kept, kept as usize * 2), "to {length}");
            log.push(block(&[9]));
            assert_eq!(read(&log, kept, kept + 1, 9), [(kept, vec![9])]);
        }
    }
}
