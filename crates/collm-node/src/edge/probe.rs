//! Knocks at a cloud's door as an edge would, for those who look why it does not open: connection, encryption, key, protocol,
//! pair, and how far away it is. Nothing is asked and nothing remains.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use collm_core::{
    frame::{Feed, Identity, Open, PROTOCOL, Refusal, ToCloud, ToEdge},
    ids::Epoch,
    limits::Limits,
    sampling::Sampling,
    states::Encoding,
};
use collm_wire::{SessionParser, proto::cloud_client::CloudClient};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::{
    CloudEndpoint, EndpointError,
    connection::{address, describe, transport},
};
use crate::{SessionIdError, fresh_session};

/// Handshakes whose fastest is the distance.
const HANDSHAKES: usize = 5;

/// How long each may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found behind the door.
#[derive(Debug, Clone)]
pub struct Probed {
    /// From nothing to a connection, encryption included.
    pub connect: Duration,
    /// The fastest way there and back over that connection, with what the cloud does to open a session.
    pub round_trip: Duration,
    /// What the cloud says of this edge; `None`: it is welcome.
    pub refusal: Option<Refusal>,
    /// The cloud's clock, as HTTP dates are written.
    pub date: Option<String>,
}

/// Why nothing is known of what is behind the door.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The address is unusable.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No connection, or it was lost.
    #[error("the cloud cannot be reached: {0}")]
    Link(String),
    /// Somebody took the connection and said nothing.
    #[error("nothing came within {PATIENCE:?}; is it a cloud that listens there?")]
    Silent,
    /// It says what a cloud would not.
    #[error("it does not answer as a cloud does: {0}")]
    NoCloud(String),
    /// No name for a session.
    #[error(transparent)]
    Session(#[from] SessionIdError),
}

/// Knocks as the edge of this identity.
///
/// # Errors
/// When there was no answer; a refusal is one.
pub async fn probe(endpoint: &CloudEndpoint, identity: &Identity) -> Result<Probed, ProbeError> {
    let began = Instant::now();
    let channel = patient(transport(endpoint)?.connect()).await?;
    let channel = channel.map_err(|error| ProbeError::Link(describe(&Status::from_error(Box::new(error)))))?;
    let mut probed = Probed { connect: began.elapsed(), round_trip: PATIENCE, refusal: None, date: None };
    for _ in 0..HANDSHAKES {
        let began = Instant::now();
        let opened = patient(open(CloudClient::new(channel.clone()), endpoint, identity)).await??;
        probed.round_trip = probed.round_trip.min(began.elapsed());
        (probed.refusal, probed.date) = (opened.refusal, opened.date.or(probed.date));
    }
    Ok(probed)
}

struct Opened {
    refusal: Option<Refusal>,
    date: Option<String>,
}

async fn open(
    mut client: CloudClient<Channel>,
    endpoint: &CloudEndpoint,
    identity: &Identity,
) -> Result<Opened, ProbeError> {
    let open = Open {
        protocol: PROTOCOL,
        attempt: 1,
        identity: identity.clone(),
        session: fresh_session()?,
        epoch: Epoch(0),
        prompt: 1,
        feed: Feed::States(Encoding::F16),
        sampling: Sampling::GREEDY,
        tells_tokens: false,
    };
    let parser = SessionParser::new(&open, Limits::DEFAULT);
    let (frames, outgoing) = mpsc::channel(2);
    let request = address(ReceiverStream::new(outgoing), open.session, endpoint.key.as_ref());
    frames.try_send(ToCloud::Open(open).into()).expect("there is room for two");
    let response = match client.session(request).await {
        Ok(response) => response,
        Err(status) => {
            let refusal = collm_wire::refusal(&status).ok_or_else(|| ProbeError::Link(describe(&status)))?;
            return Ok(Opened { refusal: Some(refusal), date: None });
        }
    };
    let date = response.metadata().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
    let first = response.into_inner().message().await.map_err(|status| ProbeError::Link(describe(&status)))?;
    let first = first.ok_or_else(|| ProbeError::NoCloud("it ended the stream".to_owned()))?;
    // The session is over; a cloud that has refused does not listen any more.
    let _ = frames.try_send(ToCloud::Close.into());
    match parser.to_edge(first).map_err(|error| ProbeError::NoCloud(error.to_string()))? {
        ToEdge::Opened { .. } => Ok(Opened { refusal: None, date }),
        ToEdge::Refused(refusal) => Ok(Opened { refusal: Some(refusal), date }),
        _ => Err(ProbeError::NoCloud("an answer to a question that was not asked".to_owned())),
    }
}

async fn patient<T>(step: impl Future<Output = T>) -> Result<T, ProbeError> {
    timeout(PATIENCE, step).await.map_err(|_| ProbeError::Silent)
}
