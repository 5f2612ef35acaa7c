//! Threads that each compute alone.
//!
//! candle spreads a product over all processors through rayon. Two products side by side are faster than one on two threads, so
//! every worker is a rayon pool of one thread, and what candle spreads stays in it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// As many pools of one thread as there are workers.
#[derive(Debug)]
pub(crate) struct Workers(Vec<ThreadPool>);

impl Workers {
    pub(crate) fn new(count: usize) -> Result<Self, ThreadPoolBuildError> {
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build();
        (0..count.max(1)).map(pool).collect::<Result<_, _>>().map(Self)
    }

    /// Applies `work` to every item; results in the order of the items, whoever computed them.
    pub(crate) fn map<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(items.len()));
        let take = || {
            while let Some((index, item)) = take_next(items, &next) {
                let result = work(item);
                results.lock().expect("no holder panics").push((index, result));
            }
        };
        thread::scope(|scope| {
            for pool in &self.0[..self.0.len().min(items.len())] {
                scope.spawn(|| pool.install(take));
            }
        });
        let mut results = results.into_inner().expect("no holder panics");
        results.sort_unstable_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

fn take_next<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    items.get(index).map(|item| (index, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_items() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = Workers::new(3).unwrap().map(&items, |item| item * 2);
        assert!(doubled.iter().enumerate().all(|(index, value)| *value == 2 * index) && doubled.len() == 100);
        assert!(Workers::new(0).unwrap().map(&[0; 0], |item| *item).is_empty());
    }
}
