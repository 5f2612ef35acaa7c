//! Listening, and what those who watch over the edge ask.

use std::{future::Future, io, net::SocketAddr, pin::Pin};

use axum::{
    Router,
    extract::State,
    response::IntoResponse,
    serve::{Listener, ListenerExt as _},
};
use collm_node::{
    access::{Access, Exposed},
    connections::{TlsStream, encrypted},
};
use futures::{Stream, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info};

use crate::{
    Api,
    watch::{self, Phase},
};

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Reachable by others without saying so.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The listener is of no use.
    #[error("cannot serve: {0}")]
    Listener(#[from] io::Error),
}

/// Serves until `shutdown` resolves and the answers under way have ended. To bound that wait, drop the future. The keys of
/// `access` are those that the router was given.
///
/// # Errors
/// When the listener may not be used with this protection, or it fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    access: Access,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    access.check(address)?;
    info!(%address, encrypted = access.tls.is_some(), "serving HTTP");
    if let Some(tls) = &access.tls {
        let listener = Encrypted(Box::pin(encrypted(listener, tls, b"http/1.1")), address);
        return Ok(axum::serve(listener, router).with_graceful_shutdown(shutdown).await?);
    }
    let listener = listener.tap_io(|connection| {
        // Tokens are small and each is waited for: none may wait to be joined with the next.
        if let Err(error) = connection.set_nodelay(true) {
            debug!(%error, "a connection may delay its tokens");
        }
    });
    Ok(axum::serve(listener, router).with_graceful_shutdown(shutdown).await?)
}

/// Connections as this server wants them, from an address.
struct Encrypted(Pin<Box<dyn Stream<Item = (TlsStream<TcpStream>, SocketAddr)> + Send>>, SocketAddr);

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.0.next().await.expect("connections come in for ever")
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.1)
    }
}

/// `GET /ready`
pub(crate) async fn ready(State(api): State<Api>) -> impl IntoResponse {
    let phase = if api.edge.is_running() { Phase::Ready } else { Phase::Stopping };
    watch::readiness(phase, Some(api.edge.link().name()))
}

/// `GET /metrics`
pub(crate) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    watch::metrics(&api.render_metrics)
}
