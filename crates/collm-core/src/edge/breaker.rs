//! Circuit breaker: when to try a cloud that failed. Shared by all sessions of an edge, since they share the cloud.
//!
//! Closed: sessions connect. Open: nobody does until a pause has passed. Half-open: one session, the probe, tries; its fate
//! closes the breaker or opens it again with a longer pause.

use std::time::Duration;

use crate::{ids::SessionId, time::Time};

/// How long to leave a failed cloud alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// After the first failure.
    pub pause_first: Duration,
    /// At most; the pause doubles with each failure until the cloud answers again.
    pub pause_max: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { pause_first: Duration::from_millis(200), pause_max: Duration::from_secs(10) }
    }
}

#[derive(Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    state: State,
    pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Time },
    HalfOpen { probe: SessionId },
}

impl Breaker {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed, pause: config.pause_first }
    }

    /// Whether `session` may connect now. Makes it the probe if the pause is over.
    pub(super) fn admits(&mut self, now: Time, session: SessionId) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } if now >= until => {
                self.state = State::HalfOpen { probe: session };
                true
            }
            State::Open { .. } => false,
            State::HalfOpen { probe } => probe == session,
        }
    }

    /// A handshake passed: the others may connect, too.
    pub(super) fn succeed(&mut self) {
        self.state = State::Closed;
    }

    /// The cloud has answered. A handshake alone does not shorten the next pause: a cloud may open and then fail, again and again.
    pub(super) fn prove(&mut self) {
        self.pause = self.config.pause_first;
    }

    /// A connection, a handshake or an ask failed. Several sessions losing the same cloud count once.
    pub(super) fn fail(&mut self, now: Time, session: SessionId) {
        match self.state {
            State::Closed => self.open(now),
            State::HalfOpen { probe } if probe == session => self.open(now),
            State::Open { .. } | State::HalfOpen { .. } => {}
        }
    }

    /// The probe ended without a verdict: the next session may try at once.
    pub(super) fn release(&mut self, now: Time, session: SessionId) {
        if self.state == (State::HalfOpen { probe: session }) {
            self.state = State::Open { until: now };
        }
    }

    /// Whether a cloud that failed is left alone now, or another session finds out how it is.
    pub(super) fn holds_back(&self, now: Time) -> bool {
        self.next_attempt().is_none_or(|from| from > now)
    }

    /// From when on somebody may try; `None` while a probe decides.
    pub(super) fn next_attempt(&self) -> Option<Time> {
        match self.state {
            State::Closed => Some(Time::default()),
            State::Open { until } => Some(until),
            State::HalfOpen { .. } => None,
        }
    }

    fn open(&mut self, now: Time) {
        self.state = State::Open { until: now + self.pause };
        self.pause = (self.pause * 2).min(self.config.pause_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig { pause_first: Duration::from_millis(100), pause_max: Duration::from_millis(300) })
    }

    #[test]
    fn one_probe_after_the_pause() {
        let mut breaker = breaker();
        assert!(breaker.admits(at(0), A));
        breaker.fail(at(0), A);
        breaker.fail(at(1), B);
        assert_eq!(breaker.next_attempt(), Some(at(100)), "the second loss of the same cloud does not count");
        assert!(!breaker.admits(at(99), A) && breaker.holds_back(at(99)));
        assert!(!breaker.holds_back(at(100)) && breaker.admits(at(100), A));
        assert!(breaker.holds_back(at(100)), "the probe is under way");
        assert!(!breaker.admits(at(100), B), "only the probe");
        breaker.succeed();
        assert!(breaker.admits(at(101), B) && !breaker.holds_back(at(101)));
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_an_answer_resets_it() {
        let mut breaker = breaker();
        breaker.fail(at(0), A);
        let mut now = 100;
        for pause in [200, 300, 300] {
            assert!(breaker.admits(at(now), A));
            breaker.fail(at(now), A);
            now += pause;
            assert_eq!(breaker.next_attempt(), Some(at(now)));
        }
        assert!(breaker.admits(at(now), A));
        breaker.succeed();
        breaker.fail(at(now), A);
        assert_eq!(breaker.next_attempt(), Some(at(now + 300)), "a handshake is not an answer");
        assert!(breaker.admits(at(now + 300), A));
        breaker.succeed();
        breaker.prove();
        breaker.fail(at(now + 300), A);
        assert_eq!(breaker.next_attempt(), Some(at(now + 400)));
    }

    #[test]
    fn a_probe_that_leaves_makes_room() {
        let mut breaker = breaker();
        breaker.fail(at(0), A);
        assert!(breaker.admits(at(100), A));
        breaker.release(at(110), B);
        assert!(!breaker.admits(at(110), B), "not the probe's to release");
        breaker.release(at(110), A);
        assert!(breaker.admits(at(110), B));
    }
}
