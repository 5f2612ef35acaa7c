//! Stands between one edge and its cloud, passes on what they say, and writes down when.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use collm_wire::proto::{
    CloudFrame, EdgeFrame,
    cloud_client::CloudClient,
    cloud_server::{Cloud, CloudServer},
    edge_frame::Frame,
};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

use super::trace::{Seen, Trace, things_said};

/// How long an edge may take to say goodbye after its answer.
const GOODBYE: Duration = Duration::from_secs(10);

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not an address.
    #[error("{url} is not an address of a cloud; write http://host:port")]
    Url {
        /// What was given.
        url: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// No port.
    #[error("cannot listen for the edge that is to be recorded: {0}")]
    Listen(#[from] io::Error),
    /// The answer is not over.
    #[error("the edge did not end its session within {GOODBYE:?}; start it with --keep 0s")]
    Unended,
}

/// A recorder for one edge that makes one answer at a time.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    tape: Arc<Tape>,
    /// The server alone; a set because it aborts its task when dropped.
    _server: JoinSet<()>,
}

/// What was seen since [`Recorder::begin`].
#[derive(Debug)]
struct Tape {
    seen: Mutex<(Instant, Vec<(Duration, Seen)>)>,
    /// The edge said goodbye.
    ended: Notify,
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, (Instant, Vec<(Duration, Seen)>)> {
        // Whoever panicked while holding it has left a shorter list.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, what: Seen) {
        let mut seen = self.lock();
        let at = seen.0.elapsed();
        seen.1.push((at, what));
    }
}

impl Recorder {
    /// Listens on a port of this machine and leads to the cloud at `url`.
    ///
    /// # Errors
    /// When that is no address, or no port is free.
    pub async fn start(url: &str) -> Result<Self, RecordError> {
        let endpoint = Endpoint::from_shared(url.to_owned());
        let endpoint = endpoint.map_err(|source| RecordError::Url { url: url.to_owned(), source })?;
        let client = CloudClient::new(endpoint.tcp_nodelay(true).connect_lazy());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let tape = Arc::new(Tape { seen: Mutex::new((Instant::now(), Vec::new())), ended: Notify::new() });
        let service = CloudServer::new(Tap { client, tape: Arc::clone(&tape) });
        let mut server = JoinSet::new();
        server.spawn(async move {
            let connections = TcpListenerStream::new(listener).inspect(|connection| {
                if let Ok(connection) = connection {
                    // Only what is measured suffers if it cannot be set.
                    let _ = connection.set_nodelay(true);
                }
            });
            // Ends with the recorder; an edge whose connection fails says so itself.
            let _ = Server::builder().add_service(service).serve_with_incoming(connections).await;
        });
        Ok(Self { address, tape, _server: server })
    }

    /// Where the edge finds its cloud.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// An answer is asked for now.
    pub fn begin(&self) {
        *self.tape.lock() = (Instant::now(), Vec::new());
    }

    /// The edge has told a token.
    pub fn told(&self) {
        self.tape.write(Seen::Told);
    }

    /// The answer is complete, with so many tokens.
    ///
    /// # Errors
    /// When the edge does not end its session.
    pub async fn end(&self, tokens: usize) -> Result<Trace, RecordError> {
        timeout(GOODBYE, self.tape.ended.notified()).await.map_err(|_| RecordError::Unended)?;
        Ok(Trace::of(std::mem::take(&mut self.tape.lock().1), tokens))
    }
}

/// The cloud, as the edge sees it.
struct Tap {
    client: CloudClient<Channel>,
    tape: Arc<Tape>,
}

#[tonic::async_trait]
impl Cloud for Tap {
    type SessionStream = BoxStream<'static, Result<CloudFrame, Status>>;

    async fn session(&self, request: Request<Streaming<EdgeFrame>>) -> Result<Response<Self::SessionStream>, Status> {
        let (up, outgoing) = mpsc::unbounded_channel();
        tokio::spawn(pass_up(request.into_inner(), up, Arc::clone(&self.tape)));
        let response = self.client.clone().session(UnboundedReceiverStream::new(outgoing)).await?;
        Ok(Response::new(pass_down(response.into_inner(), Arc::clone(&self.tape)).boxed()))
    }
}

async fn pass_up(mut incoming: Streaming<EdgeFrame>, up: mpsc::UnboundedSender<EdgeFrame>, tape: Arc<Tape>) {
    while let Ok(Some(message)) = incoming.message().await {
        let closes = matches!(message.frame, Some(Frame::Close(_)));
        tape.write(Seen::Said(Box::new(message.clone())));
        // A cloud that is gone has told the edge so.
        let _ = up.send(message);
        if closes {
            tape.ended.notify_one();
        }
    }
}

fn pass_down(incoming: Streaming<CloudFrame>, tape: Arc<Tape>) -> impl Stream<Item = Result<CloudFrame, Status>> {
    incoming.inspect(move |message| {
        if let Ok(frame) = message {
            tape.write(Seen::Heard(things_said(frame)));
        }
    })
}
