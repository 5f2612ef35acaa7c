//! The way to the cloud, estimated from the frames themselves: no extra traffic, and nothing before the first answer.

use std::time::Duration;

use super::average::Average;
use crate::time::Time;

/// Fewer bytes than this say nothing about how many fit through a link in a second.
const RATE_BYTES_MIN: u64 = 16 << 10;

/// How long a rate counts for the choice of what to upload. Token ids are too few to measure one by: after this long the next new
/// session uploads states again and finds out whether the link has changed.
const RATE_HOLDS: Duration = Duration::from_secs(120);

/// The way to the cloud, as an edge has seen it: moving averages over its answers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkEstimate {
    /// From an ask to its answer, without what the cloud spent on it; `None` before one was answered on a stream that was open.
    pub round_trip: Option<Duration>,
    /// Bytes a second from the edge to the cloud. At least so many: a link that was never full may be faster. `None` before
    /// enough was uploaded at once.
    pub bytes_per_second: Option<u64>,
    /// Time that an ask waits in the cloud before its batch begins; of those that are answered together, the oldest.
    pub queued: Option<Duration>,
    /// The cloud's engine time for an ask.
    pub compute: Option<Duration>,
}

/// What one answer says about the link.
#[derive(Debug, Clone, Copy)]
pub(in crate::edge) struct Passage {
    /// From the oldest ask that it is about to the answer.
    pub(in crate::edge) after: Duration,
    /// Asks that it is about; at least one.
    pub(in crate::edge) asks: u32,
    pub(in crate::edge) compute: Duration,
    pub(in crate::edge) queued: Duration,
    /// What was on its way up; with the ask still on its way to a connection, the time is not the network's.
    pub(in crate::edge) flight: Option<Flight>,
}

/// Bytes that were given to the link since the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::edge) struct Flight {
    pub(in crate::edge) bytes: u64,
    /// From the first of them to the answer.
    pub(in crate::edge) lasted: Duration,
}

/// Counts what is on its way, from one answer to the next.
#[derive(Debug, Default)]
pub(in crate::edge) struct Departures {
    bytes: u64,
    since: Time,
}

impl Departures {
    pub(in crate::edge) fn add(&mut self, now: Time, bytes: u64) {
        if self.bytes == 0 {
            self.since = now;
        }
        self.bytes += bytes;
    }

    /// An answer came: all of it has arrived.
    pub(in crate::edge) fn land(&mut self, now: Time) -> Flight {
        Flight { bytes: std::mem::take(&mut self.bytes), lasted: now - self.since }
    }
}

#[derive(Debug, Default)]
pub(super) struct Link {
    round_trip: Average,
    queued: Average,
    compute: Average,
    bytes_per_second: Option<f64>,
    /// When the rate was last measured.
    rated: Time,
}

impl Link {
    pub(super) fn passed(&mut self, now: Time, passage: Passage) {
        let Passage { after, asks, compute, queued, flight } = passage;
        self.queued.add(queued);
        self.compute.add(compute / asks.max(1));
        let Some(flight) = flight else { return };
        let network = after.saturating_sub(compute + queued);
        if flight.bytes >= RATE_BYTES_MIN {
            self.carried(now, flight, network, compute + queued);
        } else {
            self.round_trip.add(network);
        }
    }

    /// Much was uploaded at once. The link was full if the last of it, the ask, took far longer than an ask alone does; then this is
    /// its rate, and else it carries at least as much.
    fn carried(&mut self, now: Time, flight: Flight, network: Duration, in_cloud: Duration) {
        let Some(alone) = self.round_trip.known() else { return };
        let lasted = flight.lasted.saturating_sub(in_cloud + alone).max(Duration::from_micros(1));
        let rate = flight.bytes as f64 / lasted.as_secs_f64();
        let was_full = network > alone * 2;
        self.bytes_per_second = Some(match (self.bytes_per_second, self.rate_that_holds(now)) {
            (Some(known), _) if !was_full => known.max(rate),
            (_, Some(known)) => (known * 3.0 + rate) / 4.0,
            (_, None) => rate,
        });
        self.rated = now;
    }

    /// Bytes a second, unless they were measured too long ago.
    pub(super) fn rate_that_holds(&self, now: Time) -> Option<f64> {
        self.bytes_per_second.filter(|_| now - self.rated <= RATE_HOLDS)
    }

    pub(super) fn estimate(&self) -> LinkEstimate {
        LinkEstimate {
            round_trip: self.round_trip.known(),
            bytes_per_second: self.bytes_per_second.map(|rate| rate as u64),
            queued: self.queued.known(),
            compute: self.compute.known(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(Duration::from_secs(1));

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// An ask over a link of 20 ms and 1 MB/s after uploading so many bytes at once; the cloud takes 10 ms.
    fn passage(bytes: u64) -> Passage {
        let after = ms(20 + 10 + bytes / 1000);
        Passage { after, asks: 1, compute: ms(7), queued: ms(3), flight: Some(Flight { bytes, lasted: after }) }
    }

    #[test]
    fn small_asks_tell_the_distance_and_large_uploads_the_rate() {
        let mut link = Link::default();
        link.passed(NOW, passage(500_000));
        assert_eq!(link.estimate().round_trip, None, "it took this long because so much came before it");
        for _ in 0..20 {
            link.passed(NOW, passage(100));
            link.passed(NOW, passage(500_000));
        }
        let LinkEstimate { round_trip, bytes_per_second, queued, compute } = link.estimate();
        assert_eq!((round_trip, queued, compute), (Some(ms(20)), Some(ms(3)), Some(ms(7))));
        let rate = bytes_per_second.expect("measured");
        assert!((990_000..=1_010_000).contains(&rate), "{rate}");
    }

    #[test]
    fn a_link_that_was_not_full_is_at_least_as_fast() {
        let mut link = Link::default();
        link.passed(NOW, passage(0));
        let slowly = |lasted| Passage { flight: Some(Flight { bytes: 100_000, lasted: ms(lasted) }), ..passage(0) };
        link.passed(NOW, slowly(1030));
        assert_eq!(link.estimate().bytes_per_second, Some(100_000));
        link.passed(NOW, slowly(10_030));
        assert_eq!(link.estimate().bytes_per_second, Some(100_000), "the edge made no more in that time");
    }

    #[test]
    fn a_rate_of_long_ago_is_measured_anew() {
        let mut link = Link::default();
        link.passed(NOW, passage(0));
        link.passed(NOW, passage(500_000));
        let later = NOW + RATE_HOLDS;
        assert!(link.rate_that_holds(later).is_some());
        let too_late = later + ms(1);
        // Token ids say nothing about it.
        link.passed(too_late, passage(100));
        assert_eq!(link.rate_that_holds(too_late), None);
        let at_least = Passage { flight: Some(Flight { bytes: 100_000, lasted: ms(1030) }), ..passage(0) };
        link.passed(too_late, at_least);
        let known = link.rate_that_holds(too_late).expect("measured");
        assert!(known > 900_000.0, "a link that was not full may be as fast as it was: {known}");
        let later = too_late + RATE_HOLDS + ms(1);
        let full = Flight { bytes: 100_000, lasted: ms(1030) };
        link.passed(later, Passage { after: ms(1030), flight: Some(full), ..passage(0) });
        assert_eq!(link.rate_that_holds(later), Some(100_000.0), "what was known so long ago counts no more");
    }

    #[test]
    fn distances_follow_the_link() {
        let mut link = Link::default();
        link.passed(NOW, passage(0));
        let far = Passage { after: ms(210), ..passage(0) };
        (0..40).for_each(|_| link.passed(NOW, far));
        let round_trip = link.estimate().round_trip.expect("measured");
        assert!(round_trip > ms(195), "{round_trip:?}");
    }

    #[test]
    fn a_connection_being_made_is_not_the_distance() {
        let mut link = Link::default();
        link.passed(NOW, Passage { flight: None, ..passage(0) });
        assert_eq!(link.estimate().round_trip, None);
    }

    #[test]
    fn departures_land_with_the_next_answer() {
        let mut departures = Departures::default();
        departures.add(Time(ms(5)), 10);
        departures.add(Time(ms(8)), 20);
        assert_eq!(departures.land(Time(ms(15))), Flight { bytes: 30, lasted: ms(10) });
        departures.add(Time(ms(20)), 1);
        assert_eq!(departures.land(Time(ms(21))), Flight { bytes: 1, lasted: ms(1) });
    }
}
