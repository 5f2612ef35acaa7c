//! The way to the cloud: one HTTP/2 connection an edge, opened when it is needed, and one gRPC stream a session on it.
//!
//! Frames flow before the cloud has answered anything. Deliberately absent: when to connect or to give up (the core's).

use std::time::Duration;

use collm_core::{
    edge::StreamId,
    frame::{Open, ToCloud, ToEdge},
    ids::SessionId,
    limits::Limits,
};
use collm_wire::{
    AUTHORIZATION_METADATA, SESSION_METADATA, SessionParser, frame_bytes,
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
use crate::tls;

/// Why an address cannot be the cloud's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not an address at all.
    #[error("{url} is not an address of a cloud; write http://host:port or https://host:port")]
    Url {
        /// What was given.
        url: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// Encryption cannot be set up.
    #[error("cannot encrypt the way to {url}: {source}")]
    Tls {
        /// What was given.
        url: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// Authorities are named, and nothing is to be encrypted.
    #[error("{url} is not encrypted, so no authority can vouch for it; write https://host:port")]
    Authorities {
        /// What was given.
        url: String,
    },
    /// The key cannot travel.
    #[error("a key has other characters than visible ASCII; make one with: openssl rand -hex 32")]
    Key,
}

/// A key as it travels to the cloud. Never shown, `Debug` included.
#[derive(Debug, Clone)]
pub struct CloudKey(AsciiMetadataValue);

impl CloudKey {
    /// The key, without `Bearer`.
    ///
    /// # Errors
    /// When it has characters that metadata cannot carry.
    pub fn new(key: &str) -> Result<Self, EndpointError> {
        let visible = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        let value = visible.then(|| AsciiMetadataValue::try_from(format!("Bearer {key}")).ok()).flatten();
        let mut value = value.ok_or(EndpointError::Key)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// How long a stream may take to deliver its last frames once it has closed its session.
const LINGER: Duration = Duration::from_secs(5);

/// The shared connection.
#[derive(Debug, Clone)]
pub(super) struct CloudChannel {
    client: CloudClient<Channel>,
    key: Option<CloudKey>,
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
        Ok(Self { client, key: endpoint.key.clone(), limits, upload_bytes_max: endpoint.upload_bytes_max })
    }

    /// Begins a stream that `open`, to be sent first, describes. What comes of it arrives in `arrivals`: frames in order, then
    /// one end.
    pub(super) fn connect(&self, stream: StreamId, open: &Open, arrivals: mpsc::Sender<Arrival>) -> Uplink {
        let (outbox, outgoing) = outbox(self.upload_bytes_max);
        let (farewell, over) = oneshot::channel();
        let parser = SessionParser::new(open, self.limits);
        let call = Call { client: self.client.clone(), key: self.key.clone(), stream, parser, arrivals };
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

pub(crate) fn transport(endpoint: &CloudEndpoint) -> Result<Endpoint, EndpointError> {
    let url = || endpoint.url.clone();
    let transport = Endpoint::from_shared(url()).map_err(|source| EndpointError::Url { url: url(), source })?;
    Ok(encrypted(transport, endpoint)?
        // Frames are small and each is waited for: none may wait to be joined with the next.
        .tcp_nodelay(true)
        .connect_timeout(endpoint.connect_timeout)
        .http2_keep_alive_interval(endpoint.keepalive)
        .keep_alive_timeout(endpoint.keepalive)
        .keep_alive_while_idle(true))
}

fn encrypted(transport: Endpoint, endpoint: &CloudEndpoint) -> Result<Endpoint, EndpointError> {
    let url = || endpoint.url.clone();
    if transport.uri().scheme_str() == Some("https") {
        let tls = tls::client(endpoint.authorities.as_ref());
        return transport.tls_config(tls).map_err(|source| EndpointError::Tls { url: url(), source });
    }
    if endpoint.authorities.is_some() {
        return Err(EndpointError::Authorities { url: url() });
    }
    Ok(transport)
}

/// The task of one stream.
struct Call {
    client: CloudClient<Channel>,
    key: Option<CloudKey>,
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
        match self.client.session(address(outgoing, self.stream.session, self.key.as_ref())).await {
            Ok(response) => self.receive(response.into_inner()).await,
            Err(status) => self.fail(&status).await,
        }
    }

    /// What a status says: a refusal, for the core to judge, or why the stream ended.
    async fn fail(&self, status: &Status) -> String {
        if let Some(refusal) = collm_wire::refusal(status) {
            let frame = ToEdge::Refused(refusal);
            self.arrive(Arrival::Frame { stream: self.stream, frame, bytes: 0 }).await;
        }
        describe(status)
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
                Err(status) => return self.fail(&status).await,
            }
        }
    }

    async fn arrive(&self, arrival: Arrival) {
        // Fails when the edge has ended; then nobody wants to know.
        let _ = self.arrivals.send(arrival).await;
    }
}

/// A stream of frames with what it says on the envelope.
pub(crate) fn address<S>(frames: S, session: SessionId, key: Option<&CloudKey>) -> Request<S> {
    let mut request = Request::new(frames);
    let session = AsciiMetadataValue::try_from(session.to_string()).expect("hexadecimal digits are ASCII");
    request.metadata_mut().insert(SESSION_METADATA, session);
    if let Some(CloudKey(key)) = key {
        request.metadata_mut().insert(AUTHORIZATION_METADATA, key.clone());
    }
    request
}

/// Resolves when the call is to be dropped, which resets the stream.
async fn patience(over: oneshot::Receiver<Farewell>) {
    if let Ok(Farewell) = over.await {
        sleep(LINGER).await;
    }
}

/// The status for people, with the cause that transports hide in sources, and what to do where that is known.
pub(crate) fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        if let Some(advice) = tls::advice(error) {
            text.push_str("; ");
            text.push_str(advice);
        }
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
    }

    #[test]
    fn keys_are_visible_to_the_cloud_alone() {
        let key = CloudKey::new("s3cret").expect("visible characters");
        assert!(!format!("{key:?}").contains("s3cret"));
        for unusable in ["", "two words", "line\n", "schlüssel"] {
            assert!(matches!(CloudKey::new(unusable), Err(EndpointError::Key)), "{unusable:?}");
        }
    }
}
