//! The edge's driver: one task owns the core, one thread the engine, one task each stream to the cloud.

mod connection;
mod driver;
mod handle;
mod outbox;
mod probe;
mod round_trip;

use std::{error::Error, net::IpAddr, ops::AddAssign, time::Duration};

use collm_core::{
    confidence::ConfidenceMeasure,
    edge::{EdgeConfig, FinishReason, Loss, PromptToken, Stats, Token},
    limits::Limits,
};
use collm_engine::Engine;
use collm_exec::Judges;
use tokio::sync::mpsc;
use tonic::transport::Uri;

pub(crate) use self::connection::{address, describe, transport};
use self::{connection::CloudChannel, driver::Driver};
pub use self::{
    connection::{CloudKey, EndpointError},
    handle::{AnswerStream, EdgeHandle, RequestError},
    probe::{ProbeError, Probed, probe},
};
use crate::{engine_thread::EngineStartError, tls::Authorities};

/// Everything an edge node is told at start.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// For the core. Whether there is a cloud is decided by `cloud`, not by [`EdgeConfig::has_cloud`].
    pub config: EdgeConfig,
    /// How the exits say how sure they are of their guesses.
    pub judges: Judges,
    /// Where to ask; `None` for an edge that is always alone.
    pub cloud: Option<CloudEndpoint>,
    /// What is accepted from the cloud.
    pub limits: Limits,
}

/// A cloud, and how to treat the way there.
#[derive(Debug, Clone)]
pub struct CloudEndpoint {
    /// `http://host:port`, or `https://host:port` for encryption.
    pub url: String,
    /// With `https`: whose signature on the cloud's certificate is believed; `None` for those that the system and browsers
    /// trust.
    pub authorities: Option<Authorities>,
    /// What shows the cloud that this edge may ask.
    pub key: Option<CloudKey>,
    /// For TCP and HTTP/2 together. The core waits for a handshake on its own terms, see [`EdgeConfig::ask_deadline`].
    pub connect_timeout: Duration,
    /// A connection that is silent for so long is probed, and given up after as long again.
    pub keepalive: Duration,
    /// Bytes that may wait in one stream because the way up is slower than the edge. Beyond that the cloud counts as lost.
    pub upload_bytes_max: usize,
}

impl CloudEndpoint {
    /// Whether what is said can only be read by the cloud.
    pub fn is_encrypted(&self) -> bool {
        self.url.starts_with("https://")
    }

    /// Whether nothing leaves this machine on the way there.
    pub fn is_on_this_machine(&self) -> bool {
        let host = self.url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// The usual treatment of the cloud at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            authorities: None,
            key: None,
            connect_timeout: Duration::from_secs(5),
            keepalive: Duration::from_secs(10),
            upload_bytes_max: 64 << 20,
        }
    }
}

/// Why an edge node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeStartError {
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineStartError),
    /// The cloud's address is unusable.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// What the requester of an answer hears.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// One more token of the prompt, before any of the answer.
    Prompt(PromptToken),
    /// One more token, and what has gone over the wire for the answer until then.
    Token(Token, Traffic),
    /// The cloud is not there; the answer goes on at the edge. At most once per loss.
    Degraded(Loss),
    /// The last event of a complete answer.
    Finished(Box<Finished>),
    /// The last event of an answer that could not be completed.
    Failed(String),
}

/// What an edge knows of the way to its cloud. It learns only from answers: without any the link is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// None is configured.
    NoCloud,
    /// No answer has needed it yet.
    Untried,
    /// The cloud spoke last.
    Up,
    /// It was given up last.
    Down,
}

impl LinkState {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::NoCloud, Self::Untried, Self::Up, Self::Down];

    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoCloud => "none",
            Self::Untried => "untried",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// How an answer ended and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Why it is complete.
    pub reason: FinishReason,
    /// What the core counted.
    pub stats: Stats,
    /// How exit 1 and exit 2 said how sure they were.
    pub measures: [ConfidenceMeasure; 2],
    /// What went over the wire.
    pub traffic: Traffic,
}

/// gRPC messages of one session over all its streams, each with its length prefix. Upwards: without those that were still
/// queued when their stream failed or was given up. HTTP/2 frames and headers come on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Messages to the cloud.
    pub frames_up: u64,
    /// Bytes of them.
    pub bytes_up: u64,
    /// Messages from the cloud.
    pub frames_down: u64,
    /// Bytes of them.
    pub bytes_down: u64,
}

impl Traffic {
    /// Takes back what was given to a connection that failed before it was sent.
    fn retract_up(&mut self, frames: u64, bytes: u64) {
        self.frames_up = self.frames_up.saturating_sub(frames);
        self.bytes_up = self.bytes_up.saturating_sub(bytes);
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.frames_up += more.frames_up;
        self.bytes_up += more.bytes_up;
        self.frames_down += more.frames_down;
        self.bytes_down += more.bytes_down;
    }
}

/// Starts edges.
#[derive(Debug)]
pub struct EdgeNode;

impl EdgeNode {
    /// Starts an edge whose engine `make_engine` makes on a thread of its own, and waits until it is loaded. Whatever that
    /// thread needs besides, such as cores of its own, `make_engine` can see to. The cloud is not contacted before an answer needs it. The edge ends when its handles and answers are dropped.
    ///
    /// # Errors
    /// When the engine cannot be made or the cloud's address is no address.
    pub async fn start<E, F, R>(options: EdgeOptions, make_engine: F) -> Result<EdgeHandle, EdgeStartError>
    where
        E: Engine,
        F: FnOnce() -> Result<E, R> + Send + 'static,
        R: Into<Box<dyn Error + Send + Sync>>,
    {
        let cloud = options.cloud.as_ref().map(|endpoint| CloudChannel::open(endpoint, options.limits)).transpose()?;
        let mut config = options.config;
        config.has_cloud = cloud.is_some();
        let (commands, received) = mpsc::unbounded_channel();
        let driver = Driver::start(config, options.judges, cloud, make_engine).await?;
        let link = driver.link();
        tokio::spawn(driver.run(received));
        Ok(EdgeHandle::new(commands, link))
    }
}
