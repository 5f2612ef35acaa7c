//! A client that goes away stops its work at the edge and in the cloud, over real sockets: of what it asked for neither engine
//! begins another step.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use axum::http::StatusCode;
use collm_core::{
    blocks::Blocks,
    cloud::{Ahead, CloudConfig},
    limits::Limits,
    policy::Mode,
    states::Encoding,
};
use collm_engine::{
    Engine, EngineError, Head, Input, Row, Scope, Scores, Shape, Stack,
    scripted::{Script, ScriptedEngine, Sizes},
};
use collm_http::{Api, Defaults, router, serve};
use collm_node::{CloudEndpoint, CloudNode, CloudOptions, EdgeNode, EdgeOptions, access::Access};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::edge::{CONTEXT, Letters, card, config, defaults};

/// An engine that counts its steps and, once the test says so, begins each only when the test lets it.
struct StepwiseEngine {
    engine: ScriptedEngine,
    steps: Arc<AtomicUsize>,
    /// Each message is one step; an end lets all pass.
    gate: mpsc::Receiver<mpsc::Receiver<()>>,
    closed: Option<mpsc::Receiver<()>>,
}

/// The test's hold on an engine.
struct Steps {
    begun: Arc<AtomicUsize>,
    gates: mpsc::Sender<mpsc::Receiver<()>>,
}

impl StepwiseEngine {
    fn new(engine: ScriptedEngine) -> (Self, Steps) {
        let (gates, gate) = mpsc::channel();
        let begun = Arc::new(AtomicUsize::new(0));
        (Self { engine, steps: Arc::clone(&begun), gate, closed: None }, Steps { begun, gates })
    }
}

impl Steps {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// From now on each step waits for a message, until what is returned is dropped.
    fn close(&self) -> mpsc::Sender<()> {
        let (open, gate) = mpsc::channel();
        self.gates.send(gate).expect("the engine runs");
        open
    }

    /// Waits until more steps than `before` have begun.
    async fn more_than(&self, before: usize) {
        while self.begun() <= before {
            tokio::task::yield_now().await;
        }
    }
}

impl Engine for StepwiseEngine {
    fn shape(&self) -> &Shape {
        self.engine.shape()
    }

    fn run(&mut self, stack: Stack, rows: &[Row], input: Input<'_>, hidden: &mut Vec<f32>) -> Result<(), EngineError> {
        self.closed = self.gate.try_recv().ok().or(self.closed.take());
        self.steps.fetch_add(1, Ordering::SeqCst);
        if self.closed.as_ref().is_some_and(|gate| gate.recv().is_err()) {
            self.closed = None;
        }
        self.engine.run(stack, rows, input, hidden)
    }

    fn score(&mut self, head: Head, scope: Scope, hidden: &[f32], scores: &mut Scores) -> Result<(), EngineError> {
        self.engine.score(head, scope, hidden, scores)
    }

    fn shortlist(&self, head: Head) -> Option<usize> {
        self.engine.shortlist(head)
    }

    fn filled(&self, stack: Stack, slot: collm_core::ids::SlotId) -> usize {
        self.engine.filled(stack, slot)
    }

    fn truncate(&mut self, slot: collm_core::ids::SlotId, length: usize) {
        self.engine.truncate(slot, length);
    }
}

/// An edge and a cloud that can do everything, on this thread but for their engines.
struct World {
    api: std::net::SocketAddr,
    edge: Steps,
    cloud: Steps,
    numbers: PrometheusHandle,
}

impl World {
    async fn start(numbers: PrometheusHandle) -> Self {
        let script = Script { turn_ends: 0.0, ..Script::default() };
        let sizes = Sizes { slots: 2, context: CONTEXT as usize, batch_rows_max: 32 };
        let (cloud_engine, cloud) = StepwiseEngine::new(ScriptedEngine::whole(script.clone(), sizes));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let options = CloudOptions::new(cloud_config());
        tokio::spawn(CloudNode::serve(listener, options, || Ok::<_, Infallible>(cloud_engine), std::future::pending()));
        let (edge_engine, edge) = StepwiseEngine::new(ScriptedEngine::edge(script, sizes));
        let mut config = config();
        config.keep = Duration::ZERO;
        let cloud_at = Some(CloudEndpoint::new(url));
        let options = EdgeOptions { config, judges: Default::default(), cloud: cloud_at, limits: Limits::DEFAULT };
        let handle = EdgeNode::start(options, || Ok::<_, Infallible>(edge_engine)).await.expect("an engine");
        let defaults = Defaults { mode: Mode::Collaborative, ..defaults() };
        let router = router(Api::new(handle, Arc::new(Letters::new()), card(), defaults));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let api = listener.local_addr().expect("bound");
        tokio::spawn(serve(listener, router, Access::default(), std::future::pending()));
        Self { api, edge, cloud, numbers }
    }

    /// Sends a request and returns its connection.
    async fn ask(&self, mode: Mode, tokens: u32, stream: bool) -> TcpStream {
        let model = format!("letters@{}", mode.name());
        // Standing still, so that how many steps an answer takes does not depend on which side is faster.
        let body = json!({
            "model": model, "prompt": "HELLO", "max_tokens": tokens, "temperature": 0, "stream": stream,
            "collm": {"run_ahead": false},
        });
        let body = body.to_string();
        let head = "POST /v1/completions HTTP/1.1\r\nhost: edge\r\nconnection: close\r\ncontent-type: application/json";
        let mut client = TcpStream::connect(self.api).await.expect("it listens");
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        client.write_all(request.as_bytes()).await.expect("it reads");
        client
    }

    /// Steps that a short answer takes at the edge and in the cloud, from an idle world to an idle world.
    async fn steps_of_an_answer(&self, mode: Mode) -> (usize, usize) {
        let before = (self.edge.begun(), self.cloud.begun());
        let mut reply = String::new();
        self.ask(mode, 3, false).await.read_to_string(&mut reply).await.expect("it answers");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(StatusCode::OK.as_str()), "{reply}");
        let answer: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&answer["usage"]["completion_tokens"], &answer["collm"]["degraded"]), (&json!(3), &json!(false)));
        self.is_idle().await;
        (self.edge.begun() - before.0, self.cloud.begun() - before.1)
    }

    /// Waits until neither side holds anything of anybody.
    async fn is_idle(&self) {
        loop {
            let page = self.numbers.render();
            let is = |line: &str| page.lines().any(|found| found == line);
            if is("collm_requests_running 0") && is("collm_contexts 0") && is("collm_streams 0") {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn cloud_config() -> CloudConfig {
    CloudConfig {
        identity: config().identity,
        holds_whole: true,
        context: CONTEXT,
        slots: 2,
        batch_rows_max: 32,
        blocks: Blocks::new(8, 0),
        ahead: Ahead::Nothing,
        contexts_max: 2,
        states_bytes_max: 1 << 20,
        encodings: Encoding::ALL.into(),
        idle_max: Duration::from_secs(600),
        hold: Duration::ZERO,
    }
}

#[tokio::test]
async fn a_client_that_goes_away_stops_both_sides_within_a_step() {
    let recorder = PrometheusBuilder::new().build_recorder();
    // Of this thread, on which the test's runtime runs edge, cloud and API.
    let _counting = metrics::set_default_local_recorder(&recorder);
    let world = World::start(recorder.handle()).await;
    for (mode, in_cloud) in [
        (Mode::Standalone, false),
        (Mode::Collaborative, false),
        (Mode::Exact, false),
        (Mode::Exact, true),
        (Mode::Cloud, true),
    ] {
        for stream in [true, false] {
            let one_answer = world.steps_of_an_answer(mode).await;
            let side = if in_cloud { &world.cloud } else { &world.edge };
            let gate = side.close();
            let before = side.begun();
            let mut client = world.ask(mode, 100, stream).await;
            // The first step begins and may end; the client leaves in the middle of the second.
            side.more_than(before).await;
            gate.send(()).expect("the engine waits");
            side.more_than(before + 1).await;
            if stream {
                client.read_u8().await.expect("an answer has begun");
            }
            drop(client);
            world.is_idle().await;
            assert_eq!(side.begun(), before + 2, "{mode:?}: nothing more has begun");
            let begun = (world.edge.begun(), world.cloud.begun());
            drop(gate);
            // Whatever were left of the first would be done before or beside the next.
            assert_eq!(world.steps_of_an_answer(mode).await, one_answer, "{mode:?}, in the cloud: {in_cloud}");
            assert_eq!(begun.0 + one_answer.0, world.edge.begun(), "{mode:?}");
        }
    }
}
