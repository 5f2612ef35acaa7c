//! Connections as they come in.

use std::{io, time::Duration};

use futures::{Stream, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tracing::warn;

/// How long to wait when the system is out of something (descriptors, mostly).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts for ever. A connection that fails before it begins is nobody's loss.
pub(super) fn connections(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    stream::unfold(listener, |listener| async move {
        loop {
            match accept(&listener).await {
                Ok(connection) => return Some((Ok(connection), listener)),
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    })
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (connection, _) = listener.accept().await?;
    // Answers are small and each is waited for: none may wait to be joined with the next.
    connection.set_nodelay(true)?;
    Ok(connection)
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
        assert!(far.and_then(|far| far.nodelay()).expect("accepted"));
    }
}
