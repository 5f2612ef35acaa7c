//! Who engine time is billed to: every row that was computed for a session is told by its next answer, once. What is computed after the
//! last is told by none; the cloud's own count has it.

use std::{ops::AddAssign, time::Duration};

use crate::{
    frame::{Answer, Confirmed, Scores},
    ids::{Epoch, Position},
    sampling::Scored,
    time::Time,
};

/// Rows, and the engine time that they took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Spent {
    pub(super) rows: u32,
    pub(super) compute: Duration,
}

/// What was spent on a session that no answer has told of yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Unbilled {
    /// In batches that brought a question nearer to its answer without answering it.
    asked: Spent,
    /// While no question waited for it, or in vain.
    unasked: Spent,
}

/// A session's part of a batch, divided among the questions that it answers.
#[derive(Debug)]
pub(super) struct Bill {
    /// Position of the first row that is not billed yet.
    next: u32,
    end: u32,
    whole: Spent,
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.compute += other.compute;
    }
}

impl Unbilled {
    /// Nobody asked for it, or what was asked is void.
    pub(super) fn in_vain(&mut self, spent: Spent) {
        self.unasked += spent;
    }

    /// A question has waited so long by the end of it: for all of it, or for its end alone if it came meanwhile.
    pub(super) fn on_the_way(&mut self, spent: Spent, waited: Option<Duration>) {
        let compute = spent.compute.min(waited.unwrap_or_default());
        // Of rows that were waited for in part, that time says nothing about what a row takes.
        let rows = if waited.is_some() && compute == spent.compute { spent.rows } else { 0 };
        self.asked += Spent { rows, compute };
        self.unasked += Spent { rows: spent.rows - rows, compute: spent.compute - compute };
    }
}

impl Bill {
    /// Of rows from the position `first` on.
    pub(super) fn new(first: u32, whole: Spent) -> Self {
        Self { next: first, end: first + whole.rows, whole }
    }

    /// The rows up to this position, of which the last question takes what follows it, too: it waited for it.
    pub(super) fn take(&mut self, position: Position, is_last: bool) -> Spent {
        let end = if is_last { self.end } else { (position.0 + 1).clamp(self.next, self.end) };
        let rows = end - std::mem::replace(&mut self.next, end);
        self.of(rows)
    }

    /// What nobody took.
    pub(super) fn rest(self) -> Spent {
        self.of(self.end - self.next)
    }

    fn of(&self, rows: u32) -> Spent {
        Spent { rows, compute: self.whole.compute * rows / self.whole.rows.max(1) }
    }
}

/// When a question came, and when its batch was done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) since: Time,
    pub(super) until: Time,
}

impl Wait {
    /// What it waited beyond what was computed for it.
    fn beyond(self, compute: Duration) -> Duration {
        (self.until - self.since).saturating_sub(compute)
    }
}

impl Answer {
    /// The answer that tells what was not told before.
    pub(super) fn billed(epoch: Epoch, position: Position, scored: Scored, wait: Wait, unbilled: Unbilled) -> Self {
        let spent = unbilled.asked;
        Self {
            epoch,
            position,
            token: scored.choice.token,
            confidence: scored.choice.confidence,
            log_probs: scored.log_probs,
            confirmed: Vec::new(),
            compute: spent.compute,
            rows: spent.rows,
            queued: wait.beyond(spent.compute),
            unasked: unbilled.unasked.compute,
            unasked_rows: unbilled.unasked.rows,
        }
    }

    /// This answer and the one before, which confirms a guess and was ready together with it.
    pub(super) fn after_confirming(self, before: Self) -> Self {
        let Self { confidence, log_probs, mut confirmed, .. } = before;
        confirmed.push(Confirmed { confidence, log_probs });
        let compute = before.compute + self.compute;
        Self {
            confirmed,
            compute,
            rows: before.rows + self.rows,
            queued: (before.compute + before.queued).saturating_sub(compute),
            unasked: before.unasked + self.unasked,
            unasked_rows: before.unasked_rows + self.unasked_rows,
            ..self
        }
    }
}

impl Scores {
    /// One more token's, or the first. It tells what was spent before it, too.
    pub(super) fn tell(&mut self, spent: Spent, wait: Wait) {
        self.compute += spent.compute;
        self.queued = wait.beyond(self.compute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_row_is_billed_once() {
        let mut bill = Bill::new(10, Spent { rows: 8, compute: ms(80) });
        assert_eq!(bill.take(Position(12), false), Spent { rows: 3, compute: ms(30) });
        assert_eq!(bill.take(Position(13), false), Spent { rows: 1, compute: ms(10) });
        assert_eq!(bill.rest(), Spent { rows: 4, compute: ms(40) });
        let mut bill = Bill::new(10, Spent { rows: 8, compute: ms(80) });
        assert_eq!(bill.take(Position(12), true), Spent { rows: 8, compute: ms(80) });
        assert_eq!(bill.rest(), Spent::default());
    }

    #[test]
    fn a_question_that_came_meanwhile_waited_for_the_end_alone() {
        let mut unbilled = Unbilled::default();
        unbilled.on_the_way(Spent { rows: 4, compute: ms(20) }, Some(ms(5)));
        assert_eq!(unbilled.asked, Spent { rows: 0, compute: ms(5) });
        assert_eq!(unbilled.unasked, Spent { rows: 4, compute: ms(15) });
        unbilled.on_the_way(Spent { rows: 4, compute: ms(20) }, Some(ms(50)));
        assert_eq!(unbilled.asked, Spent { rows: 4, compute: ms(25) });
        unbilled.on_the_way(Spent { rows: 2, compute: ms(10) }, None);
        assert_eq!(unbilled.unasked, Spent { rows: 6, compute: ms(25) });
    }
}
