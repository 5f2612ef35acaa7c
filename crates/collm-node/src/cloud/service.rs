//! The gRPC service: turns each stream into a peer of the core, and each of its messages into a frame.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use collm_core::{
    cloud::PeerId,
    frame::{Refusal, RefusalCode, ToCloud},
    limits::Limits,
};
use collm_wire::{
    AUTHORIZATION_METADATA, SessionParser, frame_bytes, parse_open,
    proto::{CloudFrame, EdgeFrame, cloud_server::Cloud},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};
use tracing::{Instrument, Span, debug, field, info_span};

use super::driver::{Arrival, Peer};
use crate::{
    access::{Keys, bearer},
    metrics::cloud as metrics,
};

/// How long a stream may be open without saying what for.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// Frames that may wait for an edge that does not read them. Answers are far fewer than that: the edge waits for them.
const OUTGOING_FRAMES_MAX: usize = 1024;

/// All streams of all connections.
#[derive(Debug)]
pub(super) struct Sessions {
    driver: mpsc::Sender<Arrival>,
    keys: Keys,
    limits: Limits,
    room: Arc<Semaphore>,
    next_peer: AtomicU64,
}

impl Sessions {
    pub(super) fn new(driver: mpsc::Sender<Arrival>, keys: Keys, limits: Limits, peers_max: usize) -> Self {
        Self { driver, keys, limits, room: Arc::new(Semaphore::new(peers_max)), next_peer: AtomicU64::new(0) }
    }

    fn check_key(&self, metadata: &MetadataMap) -> Result<(), Status> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let value = metadata.get(AUTHORIZATION_METADATA).and_then(|value| value.to_str().ok());
        match value.and_then(bearer) {
            Some(key) if self.keys.admit(key) => Ok(()),
            Some(_) => {
                Err(Status::unauthenticated("it does not know this edge's key; give it one of the cloud's keys"))
            }
            None => Err(Status::unauthenticated("it asks for a key; give the edge one with --cloud-key-file")),
        }
    }
}

#[tonic::async_trait]
impl Cloud for Sessions {
    type SessionStream = ReceiverStream<Result<CloudFrame, Status>>;

    async fn session(&self, request: Request<Streaming<EdgeFrame>>) -> Result<Response<Self::SessionStream>, Status> {
        self.check_key(request.metadata()).inspect_err(|_| metrics::record_refused("key"))?;
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| {
            metrics::record_refused("streams");
            Status::resource_exhausted("too many streams are open; retry later")
        })?;
        let id = PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed));
        let (outgoing, to_edge) = mpsc::channel(OUTGOING_FRAMES_MAX);
        let gone = CancellationToken::new();
        let peer = Peer { outgoing, _open: gone.clone().drop_guard() };
        let joined = self.driver.send(Arrival::Joined(id, peer)).await;
        joined.map_err(|_| Status::unavailable("this cloud has stopped"))?;
        let reader = Reader { peer: id, driver: self.driver.clone(), limits: self.limits, _room: room };
        let incoming = request.into_inner();
        let reading = async move { gone.run_until_cancelled(reader.run(incoming)).await };
        tokio::spawn(reading.instrument(info_span!("session", peer = id.0, session = field::Empty)));
        Ok(Response::new(ReceiverStream::new(to_edge)))
    }
}

/// Reads one stream until it ends or breaks a rule.
struct Reader {
    peer: PeerId,
    driver: mpsc::Sender<Arrival>,
    limits: Limits,
    _room: OwnedSemaphorePermit,
}

/// Why a stream was read to its end.
enum End {
    /// It failed or was ended: the edge may come back.
    Down,
    /// It broke a rule.
    Refused(Refusal),
}

impl Reader {
    async fn run(self, mut incoming: Streaming<EdgeFrame>) {
        let end = match self.read(&mut incoming).await {
            End::Down => Arrival::Down(self.peer),
            End::Refused(refusal) => {
                debug!(%refusal, "stream refused");
                Arrival::Refused(self.peer, refusal)
            }
        };
        self.deliver(end).await;
    }

    async fn read(&self, incoming: &mut Streaming<EdgeFrame>) -> End {
        let first = timeout(OPEN_DEADLINE, next(incoming));
        let open = match first.await.unwrap_or_else(|_| Err(End::Refused(too_late()))) {
            Ok(message) => parse_open(message, &self.limits),
            Err(end) => return end,
        };
        let open = match open {
            Ok(open) => open,
            Err(error) => return End::Refused(error.into()),
        };
        Span::current().record("session", field::display(open.session));
        debug!("stream opened");
        let parser = SessionParser::new(&open, self.limits);
        self.deliver(Arrival::Frame(self.peer, ToCloud::Open(open))).await;
        loop {
            let frame = match next(incoming).await {
                Ok(message) => parser.to_cloud(message),
                Err(end) => return end,
            };
            match frame {
                Ok(frame) => self.deliver(Arrival::Frame(self.peer, frame)).await,
                Err(error) => return End::Refused(error.into()),
            }
        }
    }

    /// Waits while the driver is busy, and so makes the edge wait.
    async fn deliver(&self, arrival: Arrival) {
        // Fails when the cloud has ended; then nobody wants to know.
        let _ = self.driver.send(arrival).await;
    }
}

async fn next(incoming: &mut Streaming<EdgeFrame>) -> Result<EdgeFrame, End> {
    match incoming.message().await {
        Ok(Some(message)) => {
            metrics::record_received(frame_bytes(&message));
            Ok(message)
        }
        Ok(None) => Err(End::Down),
        Err(status) if is_malformed(&status) => Err(End::Refused(Refusal {
            code: RefusalCode::Malformed,
            message: format!("a message is not a frame: {}", status.message()),
        })),
        Err(_) => Err(End::Down),
    }
}

/// Tells a message that cannot be decoded or is over the limit from a connection that failed, which has a source.
fn is_malformed(status: &Status) -> bool {
    let decoding =
        matches!(status.code(), Code::Internal | Code::OutOfRange | Code::ResourceExhausted | Code::Unimplemented);
    decoding && std::error::Error::source(status).is_none()
}

fn too_late() -> Refusal {
    let message = format!("no open frame came within {OPEN_DEADLINE:?}");
    Refusal { code: RefusalCode::Malformed, message }
}
