//! Frames of one stream that wait for the way up. Bounded in bytes, so that an edge that is faster than its link neither
//! blocks on it nor fills its memory.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use collm_wire::{frame_bytes, proto::EdgeFrame};
use futures::Stream;
use tokio::sync::mpsc;

/// The end that the driver fills. Dropping it ends the stream: at once, for what is queued is of no use to anyone and would only
/// hold up other streams; or after what is queued, if it was told to [`Self::finish`].
#[derive(Debug)]
pub(super) struct Outbox {
    frames: mpsc::UnboundedSender<EdgeFrame>,
    waiting: Arc<Waiting>,
    bytes_max: usize,
    finishes: bool,
}

/// The end that the connection empties.
#[derive(Debug)]
pub(super) struct Outgoing {
    frames: mpsc::UnboundedReceiver<EdgeFrame>,
    waiting: Arc<Waiting>,
}

/// What is queued now.
#[derive(Debug, Default)]
struct Waiting {
    frames: AtomicU64,
    bytes: AtomicU64,
    /// Nobody wants it to be sent.
    discarded: AtomicBool,
}

/// More is queued than may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes wait for the way up, more than the {bytes_max} allowed; the link is too slow for this answer")]
pub(super) struct Overflow {
    bytes: u64,
    bytes_max: usize,
}

/// A queue of at most `bytes_max` bytes.
pub(super) fn outbox(bytes_max: usize) -> (Outbox, Outgoing) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(Waiting::default());
    let outbox = Outbox { frames: sender, waiting: Arc::clone(&waiting), bytes_max, finishes: false };
    (outbox, Outgoing { frames: receiver, waiting })
}

impl Outbox {
    /// Queues a frame and returns its bytes. A connection that has ended takes it and loses it: its end is reported apart.
    pub(super) fn push(&self, frame: EdgeFrame) -> Result<u64, Overflow> {
        let frame_bytes = frame_bytes(&frame) as u64;
        let bytes = self.waiting.bytes.fetch_add(frame_bytes, Ordering::Relaxed) + frame_bytes;
        self.waiting.frames.fetch_add(1, Ordering::Relaxed);
        if bytes > self.bytes_max as u64 {
            return Err(Overflow { bytes, bytes_max: self.bytes_max });
        }
        let _ = self.frames.send(frame);
        Ok(frame_bytes)
    }

    /// Lets what is queued be sent although this end is dropped.
    pub(super) fn finish(&mut self) {
        self.finishes = true;
    }

    /// Frames and bytes that no connection has taken.
    pub(super) fn waiting(&self) -> (u64, u64) {
        (self.waiting.frames.load(Ordering::Relaxed), self.waiting.bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // Before the sender goes, whose end wakes the other side.
        self.waiting.discarded.store(!self.finishes, Ordering::Release);
    }
}

impl Stream for Outgoing {
    type Item = EdgeFrame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<EdgeFrame>> {
        if self.waiting.discarded.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(self.frames.poll_recv(cx));
        if let Some(frame) = &frame {
            self.waiting.frames.fetch_sub(1, Ordering::Relaxed);
            self.waiting.bytes.fetch_sub(frame_bytes(frame) as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }
}

#[cfg(test)]
mod tests {
    use collm_core::frame::ToCloud;
    use futures::StreamExt;

    use super::*;

    fn close() -> EdgeFrame {
        ToCloud::Close.into()
    }

    #[tokio::test]
    async fn what_was_taken_makes_room() {
        let bytes = frame_bytes(&close()) as u64;
        let (outbox, mut outgoing) = outbox(2 * bytes as usize);
        assert_eq!(outbox.push(close()), Ok(bytes));
        assert_eq!(outbox.push(close()), Ok(bytes));
        assert_eq!(outgoing.next().await, Some(close()));
        assert_eq!(outbox.waiting(), (1, bytes));
        assert_eq!(outbox.push(close()), Ok(bytes));
        assert_eq!(outbox.push(close()), Err(Overflow { bytes: 3 * bytes, bytes_max: 2 * bytes as usize }));
    }

    #[tokio::test]
    async fn a_finished_outbox_ends_the_stream_after_what_is_queued() {
        let (mut outbox, mut outgoing) = outbox(1024);
        outbox.push(close()).expect("there is room");
        outbox.finish();
        drop(outbox);
        assert_eq!(outgoing.next().await, Some(close()));
        assert_eq!(outgoing.next().await, None);
    }

    #[tokio::test]
    async fn an_outbox_that_is_dropped_takes_along_what_is_queued() {
        let (outbox, mut outgoing) = outbox(1024);
        outbox.push(close()).expect("there is room");
        drop(outbox);
        assert_eq!(outgoing.next().await, None);
    }
}
