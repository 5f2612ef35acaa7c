//! What the tests share: nodes to start, requests to send, and the oracle that says what every token must be.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use collm_core::{
    blocks::Blocks,
    cloud::{Ahead, CloudConfig},
    edge::{Ablation, BreakerConfig, EdgeConfig, PromptToken, Request, SecondStage, Source, Token},
    frame::Identity,
    ids::{SessionId, SlotId, TokenId},
    limits::Limits,
    policy::{Mode, RunAhead, Threshold},
    sampling::Sampling,
    states::Encoding,
    upload::UploadSettings,
};
use collm_engine::{
    Engine, EngineError, Head, Input, Row, Scope, Scores, Shape, Stack,
    scripted::{Script, ScriptedEngine, Sizes, WIDTH},
};
use collm_node::{
    AnswerEvent, AnswerStream, CloudEndpoint, CloudNode, CloudOptions, CloudServeError, EdgeHandle, EdgeNode,
    EdgeOptions, Finished,
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::oneshot,
};

/// Long, so that a test that waits for something to happen during an answer has time.
pub(crate) const CONTEXT: u32 = 8192;

/// Any free port of this machine.
pub(crate) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) const THRESHOLD: f32 = 0.8;

/// Never ends a turn by itself, so that answers have the length asked for.
pub(crate) fn script() -> Script {
    Script { turn_ends: 0.0, ..Script::default() }
}

pub(crate) fn sizes() -> Sizes {
    Sizes { slots: 4, context: CONTEXT as usize, batch_rows_max: 32 }
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
        encodings: Encoding::ALL.into(),
        context: CONTEXT,
        slots: 4,
        batch_rows_max: 32,
        blocks: Blocks::new(32, 0),
        // Tests count the batches of what they ask.
        ahead: Ahead::Nothing,
        contexts_max: 8,
        states_bytes_max: 1 << 20,
        idle_max: Duration::from_secs(60),
        hold: Duration::from_millis(20),
    })
}

/// Patient, so that a busy machine cannot turn a slow answer into a lost one.
pub(crate) fn edge_config() -> EdgeConfig {
    EdgeConfig {
        identity: identity(),
        second: SecondStage::Tail,
        has_exit1: true,
        has_cloud: true,
        layers: 30,
        context: CONTEXT,
        slots: 4,
        waiting_max: 8,
        job_rows_max: 16,
        first_job_rows: 16,
        blocks: Blocks::new(8, 0),
        keep: Duration::ZERO,
        upload_rows_max: 8,
        upload: UploadSettings::PAPER,
        ask_deadline: Duration::from_secs(60),
        breaker: BreakerConfig { pause_first: Duration::from_millis(1), pause_max: Duration::from_millis(4) },
    }
}

/// A cloud with a runtime of its own, so that killing it closes its sockets as the end of a process does. Dropping it kills
/// it, too.
pub(crate) struct RunningCloud {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
    served: oneshot::Receiver<Result<(), CloudServeError>>,
    stop: Option<oneshot::Sender<()>>,
}

impl RunningCloud {
    pub(crate) async fn start() -> Self {
        Self::start_with(cloud_options()).await
    }

    pub(crate) async fn start_with(options: CloudOptions) -> Self {
        let engine = ScriptedEngine::cloud(script(), sizes());
        Self::start_at(LOCAL, options, engine).await
    }

    /// Where another one was killed.
    pub(crate) async fn restart(address: SocketAddr) -> Self {
        Self::start_at(address, cloud_options(), ScriptedEngine::cloud(script(), sizes())).await
    }

    pub(crate) async fn start_at(address: SocketAddr, options: CloudOptions, engine: ScriptedEngine) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let (bound, address_of) = oneshot::channel();
        let (ended, served) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.expect("the port is free");
            bound.send(listener.local_addr().expect("it is bound")).expect("the test waits");
            let shutdown = async { drop(stopped.await) };
            let result = CloudNode::serve(listener, options, || Ok::<_, Infallible>(engine), shutdown).await;
            // A test that kills it does not ask.
            let _ = ended.send(result);
        });
        let address = address_of.await.expect("it is bound");
        Self { address, runtime: Some(runtime), served, stop: Some(stop) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it at once, and frees its port.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take().expect("killed once");
        let killing = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(60)));
        killing.await.expect("a runtime without blocking tasks ends");
    }

    /// Asks it to stop, as SIGTERM does.
    pub(crate) fn begin_drain(&mut self) {
        self.stop.take().expect("stopped once").send(()).expect("it runs");
    }

    /// Waits until it has stopped by itself.
    pub(crate) async fn stopped(mut self) -> Result<(), CloudServeError> {
        (&mut self.served).await.expect("it was not killed")
    }
}

impl Drop for RunningCloud {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) async fn edge_of(url: Option<String>) -> EdgeHandle {
    edge_with(edge_config(), url).await
}

pub(crate) async fn edge_with(config: EdgeConfig, url: Option<String>) -> EdgeHandle {
    start_edge(config, url.map(CloudEndpoint::new), ScriptedEngine::edge(script(), sizes())).await
}

pub(crate) async fn start_edge<E: Engine + Send + 'static>(
    config: EdgeConfig,
    cloud: Option<CloudEndpoint>,
    engine: E,
) -> EdgeHandle {
    let options = EdgeOptions { config, judges: Default::default(), cloud, limits: Limits::DEFAULT };
    EdgeNode::start(options, || Ok::<_, Infallible>(engine)).await.expect("a scripted engine always loads")
}

/// An edge engine that computes a token only when the test lets it, so that tests act at chosen moments of an answer.
pub(crate) struct GatedEngine {
    engine: ScriptedEngine,
    gate: mpsc::Receiver<Passage>,
}

/// Lets a [`GatedEngine`] pass. Dropping it opens the gate for good.
pub(crate) struct Gate(mpsc::Sender<Passage>);

enum Passage {
    Open,
    Panic,
}

impl GatedEngine {
    pub(crate) fn new(engine: ScriptedEngine) -> (Self, Gate) {
        let (open, gate) = mpsc::channel();
        (Self { engine, gate }, Gate(open))
    }
}

impl Gate {
    /// Lets `tokens` more pass.
    pub(crate) fn open(&self, tokens: usize) {
        (0..tokens).for_each(|_| self.0.send(Passage::Open).expect("the engine runs"));
    }

    /// Makes the engine panic at the next token.
    pub(crate) fn mine(&self) {
        self.0.send(Passage::Panic).expect("the engine runs");
    }
}

impl Engine for GatedEngine {
    fn shape(&self) -> &Shape {
        self.engine.shape()
    }

    fn run(&mut self, stack: Stack, rows: &[Row], input: Input<'_>, hidden: &mut Vec<f32>) -> Result<(), EngineError> {
        // The prompt passes freely.
        if stack == Stack::Lower && rows.len() == 1 && matches!(self.gate.recv(), Ok(Passage::Panic)) {
            panic!("on purpose");
        }
        self.engine.run(stack, rows, input, hidden)
    }

    fn score(&mut self, head: Head, scope: Scope, hidden: &[f32], scores: &mut Scores) -> Result<(), EngineError> {
        self.engine.score(head, scope, hidden, scores)
    }

    fn shortlist(&self, head: Head) -> Option<usize> {
        self.engine.shortlist(head)
    }

    fn filled(&self, stack: Stack, slot: SlotId) -> usize {
        self.engine.filled(stack, slot)
    }

    fn truncate(&mut self, slot: SlotId, length: usize) {
        self.engine.truncate(slot, length);
    }
}

/// Another prompt for each number.
pub(crate) fn request(number: u32, mode: Mode) -> Request {
    static SESSIONS: AtomicU32 = AtomicU32::new(1);
    Request {
        session: SessionId(SESSIONS.fetch_add(1, Ordering::Relaxed).into()),
        prompt: (0..20).map(|index| TokenId(1 + (number * 7 + index * 3) % 63)).collect(),
        mode,
        thresholds: Threshold::new(THRESHOLD).expect("a threshold").into(),
        budget: None,
        run_ahead: RunAhead::Never,
        without: Ablation::Nothing,
        sampling: Sampling::GREEDY,
        tokens_max: 60,
        score_prompt: false,
        stop: vec![],
    }
}

/// An answer that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) prompt: Vec<PromptToken>,
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
    let (prompt, mode) = (request.prompt.clone(), request.mode);
    let stream = edge.submit(request).await.expect("the edge takes it");
    let ended = collect(stream, Heard::default()).await;
    check(&prompt, &ended.tokens, mode);
    ended
}

/// What was heard of an answer so far.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) prompt: Vec<PromptToken>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) losses: Vec<String>,
}

/// The rest of an answer.
pub(crate) async fn collect(mut stream: AnswerStream, mut heard: Heard) -> Ended {
    loop {
        match stream.next().await.expect("an answer has a last event") {
            AnswerEvent::Prompt(token) => heard.prompt.push(token),
            AnswerEvent::Token(token, _) => heard.tokens.push(token),
            AnswerEvent::Degraded(loss) => heard.losses.push(loss.to_string()),
            AnswerEvent::Finished(finished) => {
                return Ended { prompt: heard.prompt, tokens: heard.tokens, losses: heard.losses, finished: *finished };
            }
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

/// What the whole model says.
pub(crate) fn truth(prompt: &[TokenId], count: usize) -> Vec<TokenId> {
    let mut prefix = prompt.to_vec();
    while prefix.len() < prompt.len() + count {
        prefix.push(script().truth(&prefix));
    }
    prefix.split_off(prompt.len())
}

/// Every token is what the policy in force gives where its source says it was decided.
pub(crate) fn check(prompt: &[TokenId], tokens: &[Token], mode: Mode) {
    let is_standalone = mode == Mode::Standalone;
    let mut prefix = prompt.to_vec();
    for token in tokens {
        let expected = match token.source {
            Source::Exit1 => sure_guess(Head::Exit1, &prefix),
            Source::Exit2 if token.degraded => script().guess(Head::Exit2, &prefix).0,
            Source::Exit2 if is_standalone => script().guess(Head::Exit2, &prefix).0,
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
