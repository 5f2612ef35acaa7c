//! When a chunk leaves and when it arrives: the link's timing as pure arithmetic, without a clock.
//!
//! Store and forward: a chunk leaves once the line has sent all chunks before it and all of its own bits, and arrives a
//! propagation delay later. Only sending keeps the line busy.

use std::time::Duration;

use tokio::time::Instant;

use crate::spec::Shape;

/// The bottleneck of one direction.
#[derive(Debug)]
pub(crate) struct Schedule {
    busy_until: Instant,
    noise: fastrand::Rng,
}

/// One chunk's way through the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Its last bit is on the line.
    pub(crate) leaves: Instant,
    /// Its last bit is at the other end.
    pub(crate) arrives: Instant,
}

impl Schedule {
    pub(crate) fn new(origin: Instant, seed: u64) -> Self {
        Self { busy_until: origin, noise: fastrand::Rng::with_seed(seed) }
    }

    /// Sends the next chunk, which was there at `ready_at`. Chunks leave in the order of these calls.
    pub(crate) fn pass(&mut self, shape: &Shape, ready_at: Instant, bytes: usize) -> Passage {
        let leaves = self.busy_until.max(ready_at) + shape.bandwidth.time_to_send(bytes);
        self.busy_until = leaves;
        Passage { leaves, arrives: leaves + shape.delay + self.jitter(shape.jitter) }
    }

    fn jitter(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.noise.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bandwidth;

    const MS: Duration = Duration::from_millis(1);

    /// 1,000 bytes take a millisecond.
    fn shape() -> Shape {
        Shape { delay: 10 * MS, jitter: Duration::ZERO, bandwidth: "8mbit".parse().expect("a bandwidth") }
    }

    fn schedule() -> (Schedule, Instant) {
        let origin = Instant::now();
        (Schedule::new(origin, 7), origin)
    }

    #[test]
    fn a_chunk_waits_for_those_before_it() {
        let (mut schedule, origin) = schedule();
        let first = schedule.pass(&shape(), origin, 3_000);
        let second = schedule.pass(&shape(), origin + MS, 2_000);
        assert_eq!(first, Passage { leaves: origin + 3 * MS, arrives: origin + 13 * MS });
        assert_eq!(second, Passage { leaves: origin + 5 * MS, arrives: origin + 15 * MS });
    }

    #[test]
    fn an_idle_line_saves_no_bandwidth_up() {
        let (mut schedule, origin) = schedule();
        schedule.pass(&shape(), origin, 1_000);
        let late = schedule.pass(&shape(), origin + 50 * MS, 1_000);
        assert_eq!(late.leaves, origin + 51 * MS);
    }

    #[test]
    fn propagation_keeps_nothing_busy() {
        let (mut schedule, origin) = schedule();
        let far = Shape { delay: 1_000 * MS, ..shape() };
        let last = (0..100).map(|_| schedule.pass(&far, origin, 1_000)).last().expect("a hundred");
        assert_eq!(last.arrives, origin + 1_100 * MS);
    }

    #[test]
    fn without_a_limit_only_the_delay_counts() {
        let (mut schedule, origin) = schedule();
        let fast = Shape { bandwidth: Bandwidth::UNLIMITED, ..shape() };
        for _ in 0..10 {
            assert_eq!(schedule.pass(&fast, origin, 1 << 30).arrives, origin + 10 * MS);
        }
    }

    #[test]
    fn a_new_shape_holds_from_the_next_chunk_on() {
        let (mut schedule, origin) = schedule();
        schedule.pass(&shape(), origin, 1_000);
        let slower = Shape { bandwidth: "4mbit".parse().expect("a bandwidth"), delay: MS, ..shape() };
        assert_eq!(schedule.pass(&slower, origin, 1_000).arrives, origin + 4 * MS);
    }

    #[test]
    fn jitter_is_bounded_seeded_and_not_constant() {
        let shaky = Shape { jitter: 5 * MS, bandwidth: Bandwidth::UNLIMITED, ..shape() };
        let origin = Instant::now();
        let arrivals = |seed| {
            let mut schedule = Schedule::new(origin, seed);
            (0..200).map(|_| schedule.pass(&shaky, origin, 1).arrives).collect::<Vec<_>>()
        };
        let drawn = arrivals(1);
        assert!(drawn.iter().all(|&at| at >= origin + 10 * MS && at <= origin + 15 * MS));
        assert!(drawn.iter().any(|&at| at < origin + 11 * MS) && drawn.iter().any(|&at| at > origin + 14 * MS));
        assert_eq!(drawn, arrivals(1));
        assert_ne!(drawn, arrivals(2));
    }
}
