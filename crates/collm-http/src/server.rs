//! Listening, and the endpoints for those who watch over the process.

use std::{future::Future, io, net::SocketAddr};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    serve::ListenerExt,
};
use tokio::net::TcpListener;
use tracing::{debug, info};

use crate::Api;

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Reachable by others without saying so.
    #[error(
        "{0} can be reached by other machines, and what is said here is not encrypted; listen on 127.0.0.1, or allow \
         remote clients explicitly if the network is trusted"
    )]
    Remote(SocketAddr),
    /// The listener is of no use.
    #[error("cannot serve: {0}")]
    Listener(#[from] io::Error),
}

/// Serves until `shutdown` resolves and the answers under way have ended. To bound that wait, drop the future.
///
/// # Errors
/// When the listener is not for this machine only although `allow_remote` does not say so, or it fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    allow_remote: bool,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() && !allow_remote {
        return Err(ServeError::Remote(address));
    }
    info!(%address, "API is ready");
    let listener = listener.tap_io(|connection| {
        // Tokens are small and each is waited for: none may wait to be joined with the next.
        if let Err(error) = connection.set_nodelay(true) {
            debug!(%error, "a connection may delay its tokens");
        }
    });
    Ok(axum::serve(listener, router).with_graceful_shutdown(shutdown).await?)
}

/// The process is alive.
pub(crate) async fn health() -> &'static str {
    "ok"
}

/// Requests can be served. Whether the cloud is there is no condition: without it answers are degraded, not absent.
pub(crate) async fn ready(State(api): State<Api>) -> (StatusCode, &'static str) {
    if api.edge.is_running() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "stopped") }
}

pub(crate) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], (api.render_metrics)())
}
