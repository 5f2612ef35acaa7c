//! Averages that forget.

use std::time::Duration;

/// Exponential moving average; forgets half of what it knew after about five values.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Average {
    value: Option<Duration>,
    /// How many it was fed since it last forgot everything.
    count: u32,
}

impl Average {
    pub(super) fn add(&mut self, value: Duration) {
        self.value = Some(self.value.map_or(value, |average| (average * 7 + value) / 8));
        self.count = self.count.saturating_add(1);
    }

    /// `None` before the first value.
    pub(super) fn known(self) -> Option<Duration> {
        self.value
    }

    /// `None` before so many values.
    pub(super) fn after(self, count: u32) -> Option<Duration> {
        self.value.filter(|_| self.count >= count)
    }

    /// Zero before the first value.
    pub(super) fn value(self) -> Duration {
        self.value.unwrap_or_default()
    }
}
