//! Does again what a recorded edge did, in a session of its own.

use std::time::{Duration, Instant};

use collm_core::ids::SessionId;
use collm_wire::proto::{CloudFrame, EdgeFrame, cloud_client::CloudClient, cloud_frame, edge_frame};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::trace::{Does, Step, Trace, things_said};
use crate::{
    edge::{CloudEndpoint, address, describe, transport},
    session::{SessionIdError, fresh_session},
};

/// How long a replayed edge waits for a frame that the recorded one had: a cloud of many clients is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a recorded answer could not be made again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The cloud's address is unusable.
    #[error(transparent)]
    Endpoint(#[from] crate::EndpointError),
    /// No session id.
    #[error(transparent)]
    Session(#[from] SessionIdError),
    /// The cloud failed or refused.
    #[error("the cloud ended the session: {0}")]
    Ended(String),
    /// The cloud forgot the session, whose states a replayed edge has not kept.
    #[error("the cloud has no room for the session; start it with more --slots and --states-memory")]
    Missing,
    /// Fewer answers than recorded.
    #[error("the cloud said less than when it was recorded, within {PATIENCE:?}")]
    Silent,
}

/// One client, with a connection of its own.
#[derive(Debug, Clone)]
pub struct Replayer {
    client: CloudClient<Channel>,
}

/// What the cloud has said so far.
#[derive(Debug, Clone, Default)]
struct Heard {
    /// When each thing was said.
    things: Vec<Instant>,
    /// Why there will be no more.
    ended: Option<End>,
}

#[derive(Debug, Clone)]
enum End {
    Missing,
    Stream(String),
}

impl Replayer {
    /// A client of the cloud at `url`.
    ///
    /// # Errors
    /// When that is no address.
    pub fn new(url: &str) -> Result<Self, ReplayError> {
        Ok(Self { client: CloudClient::new(transport(&CloudEndpoint::new(url))?.connect_lazy()) })
    }

    /// Makes the answer again. Returns when each of its tokens was there, since it began.
    ///
    /// # Errors
    /// When the cloud does not do its part.
    pub async fn replay(&self, trace: &Trace) -> Result<Vec<Duration>, ReplayError> {
        let session = fresh_session()?;
        let (frames, outgoing) = mpsc::unbounded_channel();
        let (report, mut heard) = watch::channel(Heard::default());
        let call = self.clone().listen(address(UnboundedReceiverStream::new(outgoing), session, None), report);
        // Ends with this answer, however it ends.
        let mut listening = JoinSet::new();
        listening.spawn(call);
        let began = Instant::now();
        let mut last = began;
        let mut tokens = Vec::new();
        for step in &trace.steps {
            last = due(step, last, &mut heard).await?;
            sleep_until(last.into()).await;
            match &step.does {
                Does::Say(frame) => {
                    let frame = in_session(frame, session);
                    frames.send(frame).map_err(|_| ReplayError::Ended("it is gone".to_owned()))?;
                }
                Does::Tell => tokens.push(began.elapsed()),
            }
        }
        drop(frames);
        // The cloud ends the stream when it has seen the goodbye.
        let _ = timeout(PATIENCE, listening.join_next()).await;
        Ok(tokens)
    }

    async fn listen<S>(mut self, request: tonic::Request<S>, report: watch::Sender<Heard>)
    where
        S: futures::Stream<Item = EdgeFrame> + Send + 'static,
    {
        let end = match self.client.session(request).await {
            Ok(response) => hear(response.into_inner(), &report).await,
            Err(status) => End::Stream(describe(&status)),
        };
        report.send_modify(|heard| heard.ended = Some(end));
    }
}

async fn hear(mut incoming: Streaming<CloudFrame>, report: &watch::Sender<Heard>) -> End {
    loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return End::Stream("no reason given".to_owned()),
            Err(status) => return End::Stream(describe(&status)),
        };
        match &message.frame {
            Some(cloud_frame::Frame::Missing(_)) => return End::Missing,
            Some(cloud_frame::Frame::Refused(refused)) => return End::Stream(refused.message.clone()),
            _ => {
                let things = std::iter::repeat_n(Instant::now(), things_said(&message));
                report.send_modify(|heard| heard.things.extend(things));
            }
        }
    }
}

/// When the step is to be done: its time after what it follows from. Counted from when that was due, so that a client that is woken
/// late does not stand for a slower device.
async fn due(step: &Step, last: Instant, heard: &mut watch::Receiver<Heard>) -> Result<Instant, ReplayError> {
    let has_come = |heard: &Heard| heard.things.len() >= step.heard || heard.ended.is_some();
    let waited = timeout(PATIENCE, heard.wait_for(has_come)).await.map_err(|_| ReplayError::Silent)?;
    let heard = waited.map_err(|_| ReplayError::Ended("it is gone".to_owned()))?;
    let follows = match step.heard.checked_sub(1) {
        None => last,
        Some(index) => match (heard.things.get(index), &heard.ended) {
            (Some(came), _) => last.max(*came),
            (None, Some(End::Missing)) => return Err(ReplayError::Missing),
            (None, Some(End::Stream(why))) => return Err(ReplayError::Ended(why.clone())),
            (None, None) => return Err(ReplayError::Silent),
        },
    };
    Ok(follows + step.after)
}

/// The frame, as another session says it.
fn in_session(frame: &EdgeFrame, session: SessionId) -> EdgeFrame {
    let mut frame = frame.clone();
    if let Some(edge_frame::Frame::Open(open)) = &mut frame.frame {
        open.session_id = session.0.to_be_bytes().to_vec().into();
    }
    frame
}
