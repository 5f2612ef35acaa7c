//! Connections as they come in, in the open or encrypted. Those that fail are nobody's loss and never end a server.

use std::{io, net::SocketAddr, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
pub use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::tls::ServerTls;

/// How long to wait when the system is out of something (descriptors, mostly).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long a client may take to agree on encryption.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Clients that agree on encryption at once; more wait, at most until the slowest of these is given up.
const HANDSHAKES_MAX: usize = 256;

/// Accepts for ever.
pub(crate) fn plain(listener: TcpListener) -> impl Stream<Item = (TcpStream, SocketAddr)> {
    stream::unfold(listener, |listener| async move {
        loop {
            match accept(&listener).await {
                Ok(connection) => return Some((connection, listener)),
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    })
}

/// Accepts for ever from clients that speak `protocol` (as ALPN names it). One that is slow to agree on encryption keeps
/// no other waiting.
pub fn encrypted(
    listener: TcpListener,
    tls: &ServerTls,
    protocol: &[u8],
) -> impl Stream<Item = (TlsStream<TcpStream>, SocketAddr)> + use<> {
    let acceptor = tls.acceptor(protocol);
    plain(listener)
        .map(move |(connection, address)| handshake(acceptor.clone(), connection, address))
        .buffer_unordered(HANDSHAKES_MAX)
        .filter_map(std::future::ready)
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (connection, address) = listener.accept().await?;
    // Answers are small and each is waited for: none may wait to be joined with the next.
    connection.set_nodelay(true)?;
    Ok((connection, address))
}

async fn handshake(
    acceptor: TlsAcceptor,
    connection: TcpStream,
    address: SocketAddr,
) -> Option<(TlsStream<TcpStream>, SocketAddr)> {
    match timeout(HANDSHAKE_DEADLINE, acceptor.accept(connection)).await {
        Ok(Ok(stream)) => return Some((stream, address)),
        Ok(Err(error)) => debug!(%address, %error, "a client does not agree on encryption"),
        Err(_) => debug!(%address, "a client took too long to agree on encryption"),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_never_wait_to_be_joined() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), accept(&listener));
        let _near = near.expect("the listener listens");
        assert!(far.and_then(|(far, _)| far.nodelay()).expect("accepted"));
    }
}
