//! Ending a call of an engine from another thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// Says of numbered pieces of work that nobody wants them any more. Who hands work to an engine's thread keeps it, and so does the
/// engine, which looks at it again and again while it computes. A piece that is done already is not affected, nor is the next.
#[derive(Debug, Default)]
pub struct Interrupt {
    under_way: AtomicU64,
    unwanted: AtomicU64,
}

impl Interrupt {
    /// The engine's thread begins a piece of work; numbers begin at 1 and rise.
    pub fn begin(&self, number: u64) {
        self.under_way.store(number, Ordering::Relaxed);
    }

    /// Nobody wants this piece of work, nor any before it.
    pub fn stop(&self, number: u64) {
        self.unwanted.fetch_max(number, Ordering::Relaxed);
    }

    /// Whether the work under way is wanted by nobody.
    pub fn is_stopped(&self) -> bool {
        let under_way = self.under_way.load(Ordering::Relaxed);
        under_way > 0 && under_way <= self.unwanted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_of_work_is_stopped_and_neither_the_last_nor_the_next() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.is_stopped(), "nothing has begun");
        interrupt.begin(1);
        assert!(!interrupt.is_stopped());
        interrupt.begin(2);
        // It came too late for the first.
        interrupt.stop(1);
        assert!(!interrupt.is_stopped());
        interrupt.stop(2);
        assert!(interrupt.is_stopped());
        interrupt.begin(3);
        assert!(!interrupt.is_stopped());
        interrupt.stop(4);
        interrupt.begin(4);
        assert!(interrupt.is_stopped(), "it waited in the queue");
    }
}
