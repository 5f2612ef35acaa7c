//! The only place where the core's time comes from.

use collm_core::time::Time;
use tokio::time::{Instant, sleep_until};

/// Time since a node started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time(self.0.elapsed())
    }

    /// Sleeps until then; for ever without a moment, or with one that is beyond all clocks.
    pub(crate) async fn reach(self, moment: Option<Time>) {
        match moment.and_then(|moment| self.0.checked_add(moment.0)) {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
