//! How long runs will take that are not alike, from those of their kind that were there.

use std::{collections::BTreeMap, time::Duration};

/// What runs of each kind took, and how many are left.
#[derive(Debug, Clone, Default)]
pub(in crate::commands::bench) struct Timetable<K> {
    kinds: BTreeMap<K, Kind>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Kind {
    left: u32,
    done: u32,
    took: Duration,
}

impl Kind {
    fn mean(&self) -> Option<Duration> {
        self.took.checked_div(self.done)
    }
}

impl<K: Ord> Timetable<K> {
    /// One more run is to be made.
    pub(in crate::commands::bench) fn expect(&mut self, kind: K) {
        self.kinds.entry(kind).or_default().left += 1;
    }

    /// One of the runs that were expected was made, now or before.
    pub(in crate::commands::bench) fn took(&mut self, kind: K, time: Duration) {
        let kind = self.kinds.entry(kind).or_default();
        kind.left = kind.left.saturating_sub(1);
        kind.done += 1;
        kind.took += time;
    }

    /// Runs that are left, and runs in all.
    pub(in crate::commands::bench) fn counts(&self) -> (usize, usize) {
        let left: u32 = self.kinds.values().map(|kind| kind.left).sum();
        let done: u32 = self.kinds.values().map(|kind| kind.done).sum();
        (left as usize, (left + done) as usize)
    }

    /// What is left, at the mean of each kind; kinds that nobody has seen yet at the mean of those seen. `None` before the first run.
    pub(in crate::commands::bench) fn left(&self) -> Option<Duration> {
        let means = || self.kinds.values().filter_map(Kind::mean);
        let usual = means().sum::<Duration>().checked_div(means().count() as u32)?;
        Some(self.kinds.values().map(|kind| kind.mean().unwrap_or(usual) * kind.left).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_left_takes_as_long_as_its_kind() {
        let mut table = Timetable::default();
        for kind in ["fast", "slow", "new", "fast", "slow", "fast"] {
            table.expect(kind);
        }
        assert_eq!((table.left(), table.counts()), (None, (6, 6)));
        table.took("fast", S);
        table.took("fast", 3 * S);
        table.took("slow", 10 * S);
        // A fast one of 2 s, a slow one of 10 s, and a new one of what kinds take on average.
        assert_eq!((table.left(), table.counts()), (Some(18 * S), (3, 6)));
    }

    #[test]
    fn runs_of_an_earlier_session_count() {
        let mut table = Timetable::default();
        table.expect("fast");
        table.took("fast", S);
        table.expect("fast");
        assert_eq!((table.left(), table.counts()), (Some(S), (1, 2)));
    }
}
