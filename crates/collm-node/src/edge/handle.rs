//! What callers of an edge hold: a handle to ask with, and a stream that is one answer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use collm_core::{
    edge::{FinishReason, Request, SubmitError},
    ids::SessionId,
};
use futures::Stream;
use tokio::sync::{mpsc, oneshot, watch};

use super::{AnswerEvent, LinkState};

/// What callers want of the driver. The queue has no bound of its own: each caller has at most one command under way, and
/// withdrawing an answer must not block.
#[derive(Debug)]
pub(super) enum Command {
    Submit(Request, oneshot::Sender<Result<Submitted, SubmitError>>),
    Finish(AnswerId, FinishReason),
    Drain(oneshot::Sender<()>),
    Stop,
}

/// One answer of a session, which may be kept and make others: what is said of an answer that has ended must not end the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnswerId {
    pub(super) session: SessionId,
    /// Counted over all answers of the edge.
    pub(super) number: u64,
}

/// A request that was taken.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) id: AnswerId,
    pub(super) events: mpsc::UnboundedReceiver<AnswerEvent>,
}

/// A running edge. Clones are handles of the same edge.
#[derive(Debug, Clone)]
pub struct EdgeHandle {
    commands: mpsc::UnboundedSender<Command>,
    link: watch::Receiver<LinkState>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request was refused.
    #[error(transparent)]
    Refused(#[from] SubmitError),
    /// The edge is shutting down, or its engine is gone.
    #[error("the edge has stopped; restart it and send the request again")]
    Stopped,
}

impl EdgeHandle {
    pub(super) fn new(commands: mpsc::UnboundedSender<Command>, link: watch::Receiver<LinkState>) -> Self {
        Self { commands, link }
    }

    /// Asks for an answer.
    ///
    /// # Errors
    /// When the request cannot be served; nothing of it remains then.
    pub async fn submit(&self, request: Request) -> Result<AnswerStream, RequestError> {
        let (reply, submitted) = oneshot::channel();
        self.commands.send(Command::Submit(request, reply)).map_err(|_| RequestError::Stopped)?;
        let Submitted { id, events } = submitted.await.map_err(|_| RequestError::Stopped)??;
        Ok(AnswerStream { id, events, commands: self.commands.clone(), ended: false })
    }

    /// Refuses new requests from now on, and waits until the answers under way are complete. To bound the wait, drop it: the
    /// edge stays closed to requests.
    pub async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.commands.send(Command::Drain(done)).is_ok() {
            // A driver that is gone has nothing left to complete.
            let _ = drained.await;
        }
    }

    /// What is known of the way to the cloud.
    pub fn link(&self) -> LinkState {
        *self.link.borrow()
    }

    /// Whether requests can still be served.
    pub fn is_running(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Ends the edge, whatever is under way, and waits until its engine is gone: a process must not end while it computes.
    pub async fn stop(&self) {
        if self.commands.send(Command::Stop).is_ok() {
            self.commands.closed().await;
        }
    }
}

/// The events of one answer: tokens, then exactly one [`AnswerEvent::Finished`] or [`AnswerEvent::Failed`]. Dropping it
/// withdraws the request, at the edge and in the cloud.
///
/// Events wait here until they are taken; an answer has no more of them than the context has positions.
#[derive(Debug)]
pub struct AnswerStream {
    id: AnswerId,
    events: mpsc::UnboundedReceiver<AnswerEvent>,
    commands: mpsc::UnboundedSender<Command>,
    ended: bool,
}

impl AnswerStream {
    /// Whose answer: of the request's session, or of one that was kept and goes on.
    pub fn session(&self) -> SessionId {
        self.id.session
    }

    /// Ends the answer early for a reason of the requester's, such as a stop string. The last event is still to come.
    pub fn finish(&self, reason: FinishReason) {
        // An edge that has stopped has ended the answer already.
        let _ = self.commands.send(Command::Finish(self.id, reason));
    }

    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<AnswerEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<AnswerEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = std::task::ready!(self.events.poll_recv(cx));
        let event = event.unwrap_or_else(|| AnswerEvent::Failed("the edge has stopped".into()));
        self.ended = matches!(event, AnswerEvent::Finished(_) | AnswerEvent::Failed(_));
        Poll::Ready(Some(event))
    }
}

impl Stream for AnswerStream {
    type Item = AnswerEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AnswerEvent>> {
        self.get_mut().poll_event(cx)
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        if !self.ended {
            self.finish(FinishReason::Cancelled);
        }
    }
}
