//! One connection through the link: four half-duplex workers in one task.
//!
//! Two read from the ends and queue chunks for the lanes; two wait until chunks have arrived and write them. What an
//! end does (send, close its half, vanish) reaches the other end after everything it did before.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};

use crate::{
    control::LinkControl,
    lane::{Arrival, Chunk, LaneEntry, Payload, wait_until},
    spec::Direction,
};

/// Bytes read at a time. Small, so that connections share the line finely; a millisecond at 30 Mbit/s.
const CHUNK_BYTES: usize = 4096;

/// What a connection goes through.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) control: LinkControl,
    pub(crate) up: LaneEntry,
    pub(crate) down: LaneEntry,
}

/// The connection did not end by both halves closing: both ends should see it reset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reset;

/// Carries bytes both ways until both halves are closed.
pub(crate) async fn carry<N, F>(near: N, far: F, path: &Path) -> Result<(), Reset>
where
    N: AsyncRead + AsyncWrite,
    F: AsyncRead + AsyncWrite,
{
    let (from_near, to_near) = tokio::io::split(near);
    let (from_far, to_far) = tokio::io::split(far);
    let up = Half { direction: Direction::Up, lane: &path.up, control: &path.control };
    let down = Half { direction: Direction::Down, lane: &path.down, control: &path.control };
    tokio::try_join!(up.transfer(from_near, to_far), down.transfer(from_far, to_near))?;
    Ok(())
}

/// One direction of one connection.
struct Half<'a> {
    direction: Direction,
    lane: &'a LaneEntry,
    control: &'a LinkControl,
}

impl Half<'_> {
    async fn transfer(&self, from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin) -> Result<(), Reset> {
        let window = Window::default();
        let (entry, arrivals) = mpsc::unbounded_channel();
        tokio::try_join!(self.send(from, entry, &window), self.deliver(arrivals, to, &window))?;
        Ok(())
    }

    async fn send(
        &self,
        mut from: impl AsyncRead + Unpin,
        to: mpsc::UnboundedSender<Arrival>,
        window: &Window,
    ) -> Result<(), Reset> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            window.room(|| self.control.shape(self.direction).window_bytes()).await;
            let read = from.read(&mut buffer).await;
            let payload = read.map_or(Payload::Reset, |count| payload(&buffer[..count]));
            let last = !matches!(payload, Payload::Data(_));
            window.add(payload.bytes());
            let chunk = Chunk { ready_at: Instant::now(), payload, to: to.clone() };
            // Only a link that shuts down has no lane.
            self.lane.send(chunk).await.map_err(|_| Reset)?;
            if last {
                return Ok(());
            }
        }
    }

    async fn deliver(
        &self,
        mut arrivals: mpsc::UnboundedReceiver<Arrival>,
        mut to: impl AsyncWrite + Unpin,
        window: &Window,
    ) -> Result<(), Reset> {
        while let Some(Arrival { at, payload }) = arrivals.recv().await {
            wait_until(at).await;
            self.control.flowing().await;
            match payload {
                Payload::Data(bytes) => {
                    self.write(&mut to, &bytes).await?;
                    window.remove(bytes.len());
                }
                Payload::Close => return to.shutdown().await.map_err(|_| Reset),
                Payload::Reset => return Err(Reset),
            }
        }
        Err(Reset)
    }

    async fn write(&self, to: &mut (impl AsyncWrite + Unpin), bytes: &Bytes) -> Result<(), Reset> {
        if to.write_all(bytes).await.is_err() {
            // News that the receiver is gone takes as long as anything else it sends.
            sleep(self.control.shape(self.direction).delay).await;
            self.control.flowing().await;
            return Err(Reset);
        }
        self.control.count_delivered(self.direction, bytes.len());
        Ok(())
    }
}

fn payload(read: &[u8]) -> Payload {
    if read.is_empty() {
        return Payload::Close;
    }
    Payload::Data(Bytes::copy_from_slice(read))
}

/// Bytes of one direction that were read and are not written yet. Bounding them is what holds a sender back.
#[derive(Debug, Default)]
struct Window {
    used: AtomicUsize,
    freed: Notify,
}

impl Window {
    /// Waits until less than `limit` is used. The limit is asked for anew each time, since the link may change.
    async fn room(&self, limit: impl Fn() -> usize) {
        while self.used.load(Ordering::Acquire) >= limit() {
            self.freed.notified().await;
        }
    }

    fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    fn remove(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        self.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    //! In virtual time, over in-memory pipes: what the arithmetic promises is what an end sees.

    use std::time::Duration;

    use tokio::{io::DuplexStream, task::JoinHandle};

    use super::*;
    use crate::{LinkSpec, lane::lane};

    /// Both ends of a connection through a link, and what commands it.
    struct Ends {
        near: DuplexStream,
        far: DuplexStream,
        control: LinkControl,
        carried: JoinHandle<Result<(), Reset>>,
    }

    /// The pipes hold little, so that what is under way is in the link.
    const PIPE_BYTES: usize = CHUNK_BYTES;

    fn connect(spec: LinkSpec) -> Ends {
        let control = LinkControl::new(spec);
        let (up, up_lane) = lane(control.clone(), Direction::Up);
        let (down, down_lane) = lane(control.clone(), Direction::Down);
        tokio::spawn(up_lane);
        tokio::spawn(down_lane);
        let path = Path { control: control.clone(), up, down };
        let (near, near_inside) = tokio::io::duplex(PIPE_BYTES);
        let (far, far_inside) = tokio::io::duplex(PIPE_BYTES);
        let carried = tokio::spawn(async move { carry(near_inside, far_inside, &path).await });
        Ends { near, far, control, carried }
    }

    fn spec() -> LinkSpec {
        LinkSpec {
            rtt: Duration::from_millis(80),
            up: "8mbit".parse().expect("a bandwidth"),
            down: "80mbit".parse().expect("a bandwidth"),
            ..LinkSpec::PERFECT
        }
    }

    #[track_caller]
    fn assert_about(elapsed: Duration, expected_ms: u64) {
        let off = elapsed.abs_diff(Duration::from_millis(expected_ms));
        assert!(off <= Duration::from_millis(2), "{elapsed:?}, expected {expected_ms} ms");
    }

    async fn echo(mut end: DuplexStream) {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = end.read(&mut buffer).await {
            end.write_all(&buffer[..count]).await.expect("the near end reads");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_message_takes_one_round_trip() {
        let Ends { mut near, far, .. } = connect(spec());
        tokio::spawn(echo(far));
        for _ in 0..3 {
            let start = Instant::now();
            near.write_all(b"ask").await.expect("open");
            let mut answer = [0; 3];
            near.read_exact(&mut answer).await.expect("echoed");
            assert_about(start.elapsed(), 80);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_message_takes_its_bandwidth_then_half_a_round_trip() {
        let Ends { mut near, mut far, control, carried } = connect(spec());
        let start = Instant::now();
        let sent: Vec<u8> = (0..1_000_000u32).map(|index| (index % 251) as u8).collect();
        let expected = sent.clone();
        tokio::spawn(async move {
            near.write_all(&sent).await.expect("open");
            near.shutdown().await.expect("open");
            near
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.expect("closed after the last byte");
        assert!(received == expected, "content changed on the way");
        assert_about(start.elapsed(), 1_000 + 40);
        assert_eq!(control.counters().up_bytes, 1_000_000);
        far.shutdown().await.expect("open");
        assert_eq!(carried.await.expect("no panic"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_reorders_nothing() {
        let Ends { mut near, mut far, .. } = connect(LinkSpec { jitter: Duration::from_millis(30), ..spec() });
        tokio::spawn(async move {
            for index in 0..200u8 {
                near.write_all(&[index]).await.expect("open");
                sleep(Duration::from_millis(1)).await;
            }
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.expect("closed after the last byte");
        assert_eq!(received, (0..200).collect::<Vec<u8>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_does_not_read_holds_the_sender_back() {
        let Ends { mut near, far: _unread, control, .. } = connect(spec());
        let mut written = 0;
        let chunk = [0; 1_000];
        while tokio::time::timeout(Duration::from_secs(60), near.write_all(&chunk)).await.is_ok() {
            written += chunk.len();
        }
        let most = control.shape(Direction::Up).window_bytes() + CHUNK_BYTES + 2 * PIPE_BYTES;
        assert!(written <= most, "{written} bytes under way, at most {most}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_that_closed_still_receives() {
        let Ends { mut near, mut far, carried, .. } = connect(spec());
        near.write_all(b"question").await.expect("open");
        near.shutdown().await.expect("open");
        let mut question = String::new();
        far.read_to_string(&mut question).await.expect("closed after the question");
        sleep(Duration::from_secs(10)).await;
        far.write_all(b"answer").await.expect("open");
        drop(far);
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("closed after the answer");
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        assert_eq!(carried.await.expect("no panic"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_vanished_resets_the_connection() {
        let Ends { mut near, far, carried, .. } = connect(spec());
        drop(far);
        near.write_all(b"anyone?").await.expect("open");
        assert_eq!(carried.await.expect("no panic"), Err(Reset));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_delays_and_loses_nothing() {
        let Ends { mut near, mut far, control, .. } = connect(spec());
        control.stall();
        near.write_all(b"held").await.expect("open");
        let start = Instant::now();
        let mut received = [0; 4];
        let early = tokio::time::timeout(Duration::from_secs(5), far.read_exact(&mut received)).await;
        assert!(early.is_err(), "a stalled link delivered");
        control.restore();
        far.read_exact(&mut received).await.expect("delivered");
        assert_eq!(&received, b"held");
        assert_about(start.elapsed(), 5_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_round_trip_time_holds_from_then_on() {
        let Ends { mut near, mut far, control, .. } = connect(spec());
        control.reshape(LinkSpec { rtt: Duration::from_secs(2), ..spec() }).expect("in range");
        let start = Instant::now();
        near.write_all(b"slow").await.expect("open");
        far.read_exact(&mut [0; 4]).await.expect("delivered");
        assert_about(start.elapsed(), 1_000);
    }
}
