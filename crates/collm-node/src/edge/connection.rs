//! The way to the cloud: one HTTP/2 connection an edge, opened when it is needed, and one gRPC stream a session on it.
//!
//! Frames flow before the cloud has answered anything. Deliberately absent: when to connect or to give up (the core's), and
//! for now encryption and keys.

use std::time::Duration;

use collm_core::{
    edge::StreamId,
    frame::{Open, ToCloud},
    limits::Limits,
};
use collm_wire::{
    SESSION_METADATA, SessionParser, frame_bytes,
    proto::{CloudFrame, cloud_client::CloudClient},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tonic::{
    Request, Status, Streaming,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};
use tracing::debug;

use super::{
    CloudEndpoint,
    driver::Arrival,
    outbox::{Outbox, Outgoing, Overflow, outbox},
};

/// Why an address cannot be the cloud's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not an address at all.
    #[error("{url} is not an address of a cloud; write http://host:port")]
    Url {
        /// What was given.
        url: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// Encryption is asked for.
    #[error("{url} asks for TLS, which this version does not speak; write http://host:port and use a trusted network")]
    Tls {
        /// What was given.
        url: String,
    },
}

/// How long a stream may take to deliver its last frames once it has closed its session.
const LINGER: Duration = Duration::from_secs(5);

/// The shared connection.
#[derive(Debug, Clone)]
pub(super) struct CloudChannel {
    client: CloudClient<Channel>,
    limits: Limits,
    upload_bytes_max: usize,
}

/// The driver's end of one stream. Dropping it resets the stream, so that what is still queued does not compete with the
/// streams that come after it; unless a [`ToCloud::Close`] was sent, which is delivered together with all before it.
#[derive(Debug)]
pub(super) struct Uplink {
    outbox: Outbox,
    /// Dropped without a word: reset.
    farewell: Option<oneshot::Sender<Farewell>>,
}

/// The session is closed.
#[derive(Debug)]
struct Farewell;

impl CloudChannel {
    /// Nothing is sent yet.
    pub(super) fn open(endpoint: &CloudEndpoint, limits: Limits) -> Result<Self, EndpointError> {
        let channel = transport(endpoint)?.connect_lazy();
        let client = CloudClient::new(channel).max_decoding_message_size(limits.frame_bytes_max);
        Ok(Self { client, limits, upload_bytes_max: endpoint.upload_bytes_max })
    }

    /// Begins a stream that `open`, to be sent first, describes. What comes of it arrives in `arrivals`: frames in order, then
    /// one end.
    pub(super) fn connect(&self, stream: StreamId, open: &Open, arrivals: mpsc::Sender<Arrival>) -> Uplink {
        let (outbox, outgoing) = outbox(self.upload_bytes_max);
        let (farewell, over) = oneshot::channel();
        let call =
            Call { client: self.client.clone(), stream, parser: SessionParser::new(open, self.limits), arrivals };
        tokio::spawn(call.run(outgoing, over));
        Uplink { outbox, farewell: Some(farewell) }
    }
}

impl Uplink {
    /// Sends a frame and returns its bytes.
    pub(super) fn send(&mut self, frame: ToCloud) -> Result<u64, Overflow> {
        let closes = matches!(frame, ToCloud::Close);
        let frame_bytes = self.outbox.push(frame.into())?;
        if let Some(farewell) = self.farewell.take_if(|_| closes) {
            self.outbox.finish();
            // A call that has ended needs none.
            let _ = farewell.send(Farewell);
        }
        Ok(frame_bytes)
    }

    /// Frames and bytes that are lost if the stream is dropped now: no connection has taken them, nor will.
    pub(super) fn unsent(&self) -> (u64, u64) {
        if self.farewell.is_some() { self.outbox.waiting() } else { (0, 0) }
    }
}

fn transport(endpoint: &CloudEndpoint) -> Result<Endpoint, EndpointError> {
    let url = endpoint.url.clone();
    let transport = Endpoint::from_shared(url.clone()).map_err(|source| EndpointError::Url { url, source })?;
    if transport.uri().scheme_str() == Some("https") {
        return Err(EndpointError::Tls { url: endpoint.url.clone() });
    }
    Ok(transport
        // Frames are small and each is waited for: none may wait to be joined with the next.
        .tcp_nodelay(true)
        .connect_timeout(endpoint.connect_timeout)
        .http2_keep_alive_interval(endpoint.keepalive)
        .keep_alive_timeout(endpoint.keepalive)
        .keep_alive_while_idle(true))
}

/// The task of one stream.
struct Call {
    client: CloudClient<Channel>,
    stream: StreamId,
    parser: SessionParser,
    arrivals: mpsc::Sender<Arrival>,
}

impl Call {
    async fn run(mut self, outgoing: Outgoing, over: oneshot::Receiver<Farewell>) {
        let why = tokio::select! {
            why = self.talk(outgoing) => why,
            () = patience(over) => return,
        };
        debug!(session = %self.stream.session, attempt = self.stream.attempt, why, "stream ended");
        self.arrive(Arrival::LinkDown(self.stream, why)).await;
    }

    /// Carries frames until the stream ends, and says why it did.
    async fn talk(&mut self, outgoing: Outgoing) -> String {
        match self.client.session(self.request(outgoing)).await {
            Ok(response) => self.receive(response.into_inner()).await,
            Err(status) => describe(&status),
        }
    }

    fn request(&self, outgoing: Outgoing) -> Request<Outgoing> {
        let mut request = Request::new(outgoing);
        let session =
            AsciiMetadataValue::try_from(self.stream.session.to_string()).expect("hexadecimal digits are ASCII");
        request.metadata_mut().insert(SESSION_METADATA, session);
        request
    }

    async fn receive(&self, mut incoming: Streaming<CloudFrame>) -> String {
        loop {
            match incoming.message().await {
                Ok(Some(message)) => {
                    let bytes = frame_bytes(&message) as u64;
                    match self.parser.to_edge(message) {
                        Ok(frame) => self.arrive(Arrival::Frame { stream: self.stream, frame, bytes }).await,
                        Err(error) => return format!("the cloud sent an unusable frame: {error}"),
                    }
                }
                Ok(None) => return "the cloud ended the stream".into(),
                Err(status) => return describe(&status),
            }
        }
    }

    async fn arrive(&self, arrival: Arrival) {
        // Fails when the edge has ended; then nobody wants to know.
        let _ = self.arrivals.send(arrival).await;
    }
}

/// Resolves when the call is to be dropped, which resets the stream.
async fn patience(over: oneshot::Receiver<Farewell>) {
    if let Ok(Farewell) = over.await {
        sleep(LINGER).await;
    }
}

/// The status for people, with the cause that transports hide in sources.
fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_never_wait_to_be_joined() {
        let transport = transport(&CloudEndpoint::new("http://127.0.0.1:1")).expect("an address");
        assert!(transport.get_tcp_nodelay());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert!(matches!(transport(&CloudEndpoint::new("http://a b")), Err(EndpointError::Url { .. })));
        assert!(matches!(transport(&CloudEndpoint::new("https://cloud:1")), Err(EndpointError::Tls { .. })));
    }
}
