//! What a link is like, and what that means for one direction of it.

use std::time::Duration;

use crate::Bandwidth;

/// How a link behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSpec {
    /// Propagation time there and back; each direction takes half.
    pub rtt: Duration,
    /// Each chunk takes up to this much longer, drawn uniformly. Never reorders a connection.
    pub jitter: Duration,
    /// From those who connect to where the link leads, shared by all connections.
    pub up: Bandwidth,
    /// Back, shared by all connections.
    pub down: Bandwidth,
    /// Names the jitter.
    pub seed: u64,
}

/// Why a link cannot behave so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A round trip or jitter beyond reason.
    #[error("{name} is {value:?}; it must be at most {DELAY_MAX:?}")]
    Delay {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: Duration,
    },
}

/// Longest round trip and jitter. Keeps every sum of times far from overflow.
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// Bytes that a connection may have under way on top of what propagation needs; about what a socket buffers.
const QUEUE_BYTES: usize = 128 << 10;

/// Bytes that a connection may have under way when no bandwidth says what propagation needs.
const UNLIMITED_BYTES: usize = 16 << 20;

impl LinkSpec {
    /// As if the link were not there.
    pub const PERFECT: Self = Self {
        rtt: Duration::ZERO,
        jitter: Duration::ZERO,
        up: Bandwidth::UNLIMITED,
        down: Bandwidth::UNLIMITED,
        seed: 0,
    };

    /// Itself, if every setting is in range.
    ///
    /// # Errors
    /// Names the first setting that is not.
    pub fn validated(self) -> Result<Self, SpecError> {
        let delays = [("rtt", self.rtt), ("jitter", self.jitter)];
        match delays.into_iter().find(|(_, value)| *value > DELAY_MAX) {
            Some((name, value)) => Err(SpecError::Delay { name, value }),
            None => Ok(self),
        }
    }

    pub(crate) fn shape(&self, direction: Direction) -> Shape {
        let half = self.rtt / 2;
        let (delay, bandwidth) = match direction {
            Direction::Up => (half, self.up),
            Direction::Down => (self.rtt - half, self.down),
        };
        Shape { delay, jitter: self.jitter, bandwidth }
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From those who connect.
    Up,
    /// To those who connect.
    Down,
}

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) bandwidth: Bandwidth,
}

impl Shape {
    /// Bytes that one connection may have under way: the bandwidth-delay product and a queue.
    pub(crate) fn window_bytes(&self) -> usize {
        match self.bandwidth.bytes_within(self.delay + self.jitter) {
            Some(product) => product.saturating_add(QUEUE_BYTES),
            None => UNLIMITED_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_together_take_the_round_trip() {
        let spec = LinkSpec { rtt: Duration::from_nanos(7), ..LinkSpec::PERFECT };
        let there = spec.shape(Direction::Up).delay;
        let back = spec.shape(Direction::Down).delay;
        assert_eq!(there + back, spec.rtt);
    }

    #[test]
    fn delays_beyond_reason_are_named() {
        let spec = LinkSpec { jitter: Duration::MAX, ..LinkSpec::PERFECT };
        assert_eq!(spec.validated(), Err(SpecError::Delay { name: "jitter", value: Duration::MAX }));
        assert_eq!(LinkSpec::PERFECT.validated(), Ok(LinkSpec::PERFECT));
    }

    #[test]
    fn the_window_holds_what_is_propagating() {
        let spec =
            LinkSpec { rtt: Duration::from_secs(2), up: "8mbit".parse().expect("a bandwidth"), ..LinkSpec::PERFECT };
        assert_eq!(spec.shape(Direction::Up).window_bytes(), 1_000_000 + QUEUE_BYTES);
    }
}
