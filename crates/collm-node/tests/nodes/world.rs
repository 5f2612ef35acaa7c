//! What the tests share: nodes to start, requests to send, and the oracle that says what every token must be.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use collm_core::{
    cloud::CloudConfig,
    edge::{BreakerConfig, EdgeConfig, Request, SecondStage, Source, Token},
    frame::Identity,
    ids::{SessionId, TokenId},
    limits::Limits,
    policy::{Mode, Threshold},
    sampling::Sampling,
    states::Encoding,
};
use collm_engine::{
    Head,
    scripted::{Script, ScriptedEngine, Sizes, WIDTH},
};
use collm_node::{
    AnswerEvent, AnswerStream, CloudEndpoint, CloudNode, CloudOptions, EdgeHandle, EdgeNode, EdgeOptions, Finished,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

pub(crate) const THRESHOLD: f32 = 0.8;

/// Never ends a turn by itself, so that answers have the length asked for.
pub(crate) fn script() -> Script {
    Script { turn_ends: 0.0, ..Script::default() }
}

pub(crate) fn sizes() -> Sizes {
    Sizes { slots: 4, context: 256, batch_rows_max: 32 }
}

pub(crate) fn identity() -> Identity {
    Identity {
        pair: "5c".repeat(8),
        source: "a0".repeat(32),
        upload_at: 10,
        width: WIDTH as u32,
        vocabulary: script().vocabulary as u32,
    }
}

pub(crate) fn cloud_options() -> CloudOptions {
    CloudOptions::new(CloudConfig {
        identity: identity(),
        holds_whole: false,
        context: 256,
        slots: 4,
        batch_rows_max: 32,
        contexts_max: 8,
        states_bytes_max: 1 << 20,
        idle_max: Duration::from_secs(60),
    })
}

/// Patient, so that a busy machine cannot turn a slow answer into a lost one.
pub(crate) fn edge_config() -> EdgeConfig {
    EdgeConfig {
        identity: identity(),
        second: SecondStage::Tail,
        has_exit1: true,
        has_cloud: true,
        context: 256,
        slots: 4,
        waiting_max: 8,
        job_rows_max: 16,
        upload_rows_max: 8,
        encoding: Encoding::F16,
        ask_deadline: Duration::from_secs(60),
        breaker: BreakerConfig { pause_first: Duration::from_millis(1), pause_max: Duration::from_millis(4) },
    }
}

/// A cloud of its own. Dropping it kills it.
pub(crate) struct RunningCloud {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl RunningCloud {
    pub(crate) async fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), cloud_options()).await
    }

    pub(crate) async fn start_at(address: SocketAddr, options: CloudOptions) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let engine = || Ok::<_, Infallible>(ScriptedEngine::cloud(script(), sizes()));
        let task = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            CloudNode::serve(listener, options, engine, shutdown).await.expect("serves until it is stopped");
        });
        Self { address, task, stop: Some(stop) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it at once, and frees its port.
    pub(crate) async fn kill(mut self) {
        // Only the task may end it: the channel stays open.
        let _stop = self.stop.take();
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn drain(mut self) {
        let stop = self.stop.take().expect("stopped once");
        stop.send(()).expect("it runs");
        (&mut self.task).await.expect("drains");
    }
}

impl Drop for RunningCloud {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn edge_of(url: Option<String>) -> EdgeHandle {
    edge_with(edge_config(), url).await
}

pub(crate) async fn edge_with(config: EdgeConfig, url: Option<String>) -> EdgeHandle {
    let options = EdgeOptions { config, cloud: url.map(CloudEndpoint::new), limits: Limits::DEFAULT };
    let engine = || Ok::<_, Infallible>(ScriptedEngine::edge(script(), sizes()));
    EdgeNode::start(options, engine).await.expect("a scripted engine always loads")
}

/// Another prompt for each number.
pub(crate) fn request(number: u32, mode: Mode) -> Request {
    static SESSIONS: AtomicU32 = AtomicU32::new(1);
    Request {
        session: SessionId(SESSIONS.fetch_add(1, Ordering::Relaxed).into()),
        prompt: (0..20).map(|index| TokenId(1 + (number * 7 + index * 3) % 63)).collect(),
        mode,
        threshold: Threshold::new(THRESHOLD).expect("a threshold"),
        sampling: Sampling::GREEDY,
        tokens_max: 60,
        stop: vec![],
    }
}

/// An answer that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) tokens: Vec<Token>,
    /// Why the cloud was lost, each time it was.
    pub(crate) losses: Vec<String>,
    pub(crate) finished: Finished,
}

impl Ended {
    pub(crate) fn ids(&self) -> Vec<TokenId> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.tokens.iter().any(|token| token.degraded)
    }
}

pub(crate) async fn answer(edge: &EdgeHandle, request: Request) -> Ended {
    let prompt = request.prompt.clone();
    let stream = edge.submit(request).await.expect("the edge takes it");
    let ended = collect(stream, Vec::new()).await;
    check(&prompt, &ended.tokens);
    ended
}

/// The rest of an answer of which `tokens` have been taken already.
pub(crate) async fn collect(mut stream: AnswerStream, mut tokens: Vec<Token>) -> Ended {
    let mut losses = Vec::new();
    loop {
        match stream.next().await.expect("an answer has a last event") {
            AnswerEvent::Token(token) => tokens.push(token),
            AnswerEvent::Degraded(loss) => losses.push(loss.to_string()),
            AnswerEvent::Finished(finished) => return Ended { tokens, losses, finished: *finished },
            AnswerEvent::Failed(why) => panic!("the answer failed: {why}"),
        }
    }
}

/// What collaboration at the threshold must say.
pub(crate) fn collaborative(prompt: &[TokenId], count: usize) -> Vec<TokenId> {
    let mut prefix = prompt.to_vec();
    while prefix.len() < prompt.len() + count {
        let sure = [Head::Exit1, Head::Exit2].map(|head| script().guess(head, &prefix));
        let sure = sure.into_iter().find(|(_, confidence)| *confidence >= THRESHOLD);
        prefix.push(sure.map_or_else(|| script().truth(&prefix), |(token, _)| token));
    }
    prefix.split_off(prompt.len())
}

/// Every token is what the policy in force gives where its source says it was decided.
pub(crate) fn check(prompt: &[TokenId], tokens: &[Token]) {
    let mut prefix = prompt.to_vec();
    for token in tokens {
        let expected = match token.source {
            Source::Exit1 => sure_guess(Head::Exit1, &prefix),
            Source::Exit2 if token.degraded => script().guess(Head::Exit2, &prefix).0,
            Source::Exit2 => sure_guess(Head::Exit2, &prefix),
            Source::Cloud => script().truth(&prefix),
            Source::Whole => panic!("no whole model here"),
        };
        assert_eq!((token.position.index(), token.id), (prefix.len(), expected), "{token:?}");
        prefix.push(token.id);
    }
}

fn sure_guess(head: Head, prefix: &[TokenId]) -> TokenId {
    let (token, confidence) = script().guess(head, prefix);
    assert!(confidence > THRESHOLD - 1e-3, "{head:?} was not sure: {confidence}");
    token
}
