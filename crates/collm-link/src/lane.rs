//! One direction of the link: chunks of all connections queue for one line and leave one after another.
//!
//! The queue is first come, first served, short and bounded. Each connection has at most one chunk waiting for a
//! place in it, so busy connections take turns, and a newcomer waits behind a few chunks rather than behind somebody's
//! megabytes.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{control::LinkControl, schedule::Schedule, spec::Direction};

/// Chunks that wait for the line, of all connections together.
const QUEUE_CHUNKS: usize = 8;

/// How far ahead of its departure a chunk is taken from the queue. Longer than a tick of the timer, so that a late
/// wake-up never leaves the line idle.
const HORIZON: Duration = Duration::from_millis(5);

/// How late the timer wakes on average: it rounds up to whole milliseconds, and so does the system call below it. Aiming
/// that much early makes the mean error zero.
const TIMER_LATENESS: Duration = Duration::from_millis(1);

/// What goes from one end of a connection to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    Data(Bytes),
    /// The sender has nothing more to say.
    Close,
    /// The sender is gone.
    Reset,
}

impl Payload {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::Close | Self::Reset => 0,
        }
    }
}

/// A payload on its way to the line.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) ready_at: Instant,
    pub(crate) payload: Payload,
    /// The other end of its connection. Unbounded here, bounded by the connection's window: one that does not read must
    /// not hold up the line for the others.
    pub(crate) to: mpsc::UnboundedSender<Arrival>,
}

/// A payload and when it reaches the other end.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) payload: Payload,
}

/// The way into a lane.
pub(crate) type LaneEntry = mpsc::Sender<Chunk>;

/// A lane and its entry. The future sends chunks until all entries are dropped.
pub(crate) fn lane(control: LinkControl, direction: Direction) -> (LaneEntry, impl Future<Output = ()>) {
    let (entry, queue) = mpsc::channel(QUEUE_CHUNKS);
    (entry, send_all(queue, control, direction))
}

async fn send_all(mut queue: mpsc::Receiver<Chunk>, control: LinkControl, direction: Direction) {
    // Directions must not draw the same jitter.
    let seed = control.spec().seed.wrapping_add(direction as u64);
    let mut schedule = Schedule::new(Instant::now(), seed);
    while let Some(Chunk { ready_at, payload, to }) = queue.recv().await {
        let passage = schedule.pass(&control.shape(direction), ready_at, payload.bytes());
        let ahead = passage.leaves.saturating_duration_since(Instant::now());
        if ahead > HORIZON {
            sleep(ahead - HORIZON).await;
        }
        // A connection that is gone wants nothing delivered.
        let _ = to.send(Arrival { at: passage.arrives, payload });
    }
}

/// Waits for a moment, give or take half a millisecond.
pub(crate) async fn wait_until(at: Instant) {
    if at.saturating_duration_since(Instant::now()) > TIMER_LATENESS {
        sleep_until(at - TIMER_LATENESS).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinkSpec;

    fn spec() -> LinkSpec {
        let up = "8mbit".parse().expect("a bandwidth");
        LinkSpec { rtt: Duration::from_millis(40), up, ..LinkSpec::PERFECT }
    }

    async fn send(entry: &LaneEntry, bytes: usize, to: &mpsc::UnboundedSender<Arrival>) {
        let payload = Payload::Data(vec![0; bytes].into());
        let chunk = Chunk { ready_at: Instant::now(), payload, to: to.clone() };
        entry.send(chunk).await.expect("the lane is open");
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_the_line() {
        let (entry, line) = lane(LinkControl::new(spec()), Direction::Up);
        tokio::spawn(line);
        let start = Instant::now();
        let (near, mut near_arrivals) = mpsc::unbounded_channel();
        let (far, mut far_arrivals) = mpsc::unbounded_channel();
        for _ in 0..100 {
            send(&entry, 1_000, &near).await;
            send(&entry, 1_000, &far).await;
        }
        drop((entry, near, far));
        let (mut last_near, mut last_far) = (start, start);
        while let Some(arrival) = near_arrivals.recv().await {
            last_near = arrival.at;
        }
        while let Some(arrival) = far_arrivals.recv().await {
            last_far = arrival.at;
        }
        assert_eq!(last_near - start, Duration::from_millis(199 + 20));
        assert_eq!(last_far - start, Duration::from_millis(200 + 20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_holds_senders_back() {
        let (entry, line) = lane(LinkControl::new(spec()), Direction::Up);
        tokio::spawn(line);
        let start = Instant::now();
        let (to, _arrivals) = mpsc::unbounded_channel();
        for _ in 0..1_000 {
            send(&entry, 1_000, &to).await;
        }
        let waited = start.elapsed();
        let ahead = Duration::from_millis(1_000) - waited;
        assert!(ahead <= Duration::from_millis(QUEUE_CHUNKS as u64 + 1) + HORIZON, "{ahead:?} ahead of the line");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deaf_connection_does_not_hold_up_others() {
        let (entry, line) = lane(LinkControl::new(spec()), Direction::Up);
        tokio::spawn(line);
        let (deaf, _never_read) = mpsc::unbounded_channel();
        let (gone, receiver) = mpsc::unbounded_channel();
        drop(receiver);
        let (open, mut arrivals) = mpsc::unbounded_channel();
        for to in [&deaf, &gone, &open] {
            send(&entry, 1_000, to).await;
        }
        assert!(arrivals.recv().await.is_some());
    }
}
