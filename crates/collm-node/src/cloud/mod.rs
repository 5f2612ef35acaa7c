//! The cloud's driver: a gRPC service, one task that owns the core, one thread with the engine.

mod driver;
mod service;

use std::{error::Error, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use collm_core::{cloud::CloudConfig, limits::Limits};
use collm_engine::Engine;
use collm_wire::proto::cloud_server::CloudServer;
use futures::{Stream, StreamExt as _};
use tokio::{net::TcpListener, sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{info, warn};

use self::{
    driver::{ARRIVALS_MAX, Driver},
    service::Sessions,
};
use crate::{
    access::{Access, Exposed},
    connections::{encrypted, plain},
    engine_thread::EngineStartError,
};

/// Everything a cloud node is told at start.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// For the core.
    pub config: CloudConfig,
    /// What is accepted from edges.
    pub limits: Limits,
    /// Streams open at once, over all connections; more are turned away with a status.
    pub peers_max: usize,
    /// A connection that is silent for so long is probed, and given up after as long again.
    pub keepalive: Duration,
    /// How long answers under way may take to end once the cloud is told to stop.
    pub drain_deadline: Duration,
    /// Who may connect. Whoever reads uploaded states can guess the text.
    pub access: Access,
}

impl CloudOptions {
    /// The usual way to run a cloud of this configuration, for this machine only.
    pub fn new(config: CloudConfig) -> Self {
        Self {
            config,
            limits: Limits::DEFAULT,
            peers_max: 1024,
            keepalive: Duration::from_secs(10),
            drain_deadline: Duration::from_secs(10),
            access: Access::default(),
        }
    }
}

/// Why a cloud node did not start or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudServeError {
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineStartError),
    /// The engine is gone.
    #[error("the engine's thread panicked; restart the cloud")]
    EngineEnded,
    /// The listener has no address.
    #[error("cannot tell the address listened on: {0}")]
    Address(#[from] io::Error),
    /// Reachable by others without saying so.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The transport failed.
    #[error("cannot serve: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves clouds.
#[derive(Debug)]
pub struct CloudNode;

impl CloudNode {
    /// Serves edges on `listener`, with an engine that `make_engine` makes on a thread of its own, until `shutdown` resolves
    /// and the answers under way have ended or their deadline has passed. Dropping the future ends all sessions at once.
    ///
    /// # Errors
    /// When the engine cannot be made or is lost, or the listener may not be used.
    pub async fn serve<E, F, R>(
        listener: TcpListener,
        options: CloudOptions,
        make_engine: F,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), CloudServeError>
    where
        E: Engine,
        F: FnOnce() -> Result<E, R> + Send + 'static,
        R: Into<Box<dyn Error + Send + Sync>>,
    {
        let address = listener.local_addr()?;
        options.access.check(address)?;
        let (report, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let driver = Driver::start(options.config.clone(), report.clone(), make_engine).await?;
        info!(%address, "cloud is ready");
        let drain = CancellationToken::new();
        let sessions = Sessions::new(report, options.access.keys.clone(), options.limits, options.peers_max);
        let closed = CancellationToken::new();
        let serving = async {
            tokio::select! {
                ended = accept(listener, &options, sessions, drain.clone()) => ended?,
                () = overdue(shutdown, &drain, options.drain_deadline) => {}
            }
            closed.cancel();
            Ok(())
        };
        tokio::try_join!(driver.run(arrivals, drain.clone(), closed.clone()), serving)?;
        Ok(())
    }
}

/// Takes connections until the drain begins, then waits for their streams to end.
async fn accept(
    listener: TcpListener,
    options: &CloudOptions,
    sessions: Sessions,
    drain: CancellationToken,
) -> Result<(), CloudServeError> {
    let limits = options.limits;
    // Beyond `peers_max` streams are turned away with a status; beyond this they would wait without one.
    let streams_max = u32::try_from(options.peers_max).unwrap_or(u32::MAX).saturating_mul(2);
    let service = CloudServer::from_arc(Arc::new(sessions)).max_decoding_message_size(limits.frame_bytes_max);
    let server = Server::builder()
        .http2_keepalive_interval(Some(options.keepalive))
        .http2_keepalive_timeout(Some(options.keepalive))
        .max_concurrent_streams(streams_max)
        .add_service(service);
    let drained = drain.cancelled_owned();
    match &options.access.tls {
        None => server.serve_with_incoming_shutdown(accepted(plain(listener)), drained).await?,
        Some(tls) => server.serve_with_incoming_shutdown(accepted(encrypted(listener, tls, b"h2")), drained).await?,
    }
    Ok(())
}

/// As the server wants connections, which never fail to come in.
fn accepted<C>(connections: impl Stream<Item = (C, SocketAddr)>) -> impl Stream<Item = io::Result<C>> {
    connections.map(|(connection, _)| Ok(connection))
}

/// Begins the drain at `shutdown`, and resolves when it has taken too long.
async fn overdue(shutdown: impl Future<Output = ()>, drain: &CancellationToken, deadline: Duration) {
    shutdown.await;
    info!("draining: no new sessions");
    drain.cancel();
    sleep(deadline).await;
    warn!("answers under way took longer than {deadline:?}; their edges finish alone");
}
