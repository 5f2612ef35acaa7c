//! Time as the core sees it: a number that callers pass in. There is no clock here.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A moment, counted from an origin that the caller chooses once (process start, or zero in a simulation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub Duration);

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// Time passed since an earlier moment; zero if that moment lies ahead.
impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
