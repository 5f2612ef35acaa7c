//! The cloud's process dies and comes back while answers are under way.

use std::time::Duration;

use collm_core::{
    edge::{FinishReason, Request, Source, Token},
    policy::Mode,
};
use collm_engine::scripted::ScriptedEngine;
use collm_node::{AnswerEvent, AnswerStream, CloudEndpoint, CloudOptions};

use crate::world::{
    CONTEXT, Gate, GatedEngine, Heard, RunningCloud, check, cloud_options, collect, edge_config, request, script,
    sizes, start_edge,
};

#[tokio::test]
async fn answers_outlive_a_cloud_that_is_killed_and_restarted() {
    let mut cloud = RunningCloud::start().await;
    let (engine, gate) = GatedEngine::new(ScriptedEngine::edge(script(), sizes()));
    let edge = start_edge(edge_config(), Some(CloudEndpoint::new(cloud.url())), engine).await;
    let mut degraded = 0;
    for number in 0..25 {
        let request = Request { tokens_max: CONTEXT, ..request(number, Mode::Collaborative) };
        let prompt = request.prompt.clone();
        let mut answering =
            Answering { gate: &gate, stream: edge.submit(request).await.expect("taken"), heard: Heard::default() };
        // With tokens under way the edge is anywhere between two of them when the cloud dies.
        answering.take(1 + number as usize % 7).await;
        let under_way = number as usize % 4;
        gate.open(under_way);
        let address = cloud.address;
        cloud.kill().await;
        answering.take_passed(under_way).await;
        answering.take_until(|token| token.degraded).await;
        cloud = RunningCloud::restart(address).await;
        answering.take_until(|token| token.source == Source::Cloud).await;
        answering.take(5).await;
        answering.stream.finish(FinishReason::Stop);
        let ended = collect(answering.stream, answering.heard).await;
        check(&prompt, &ended.tokens, Mode::Collaborative);
        let stats = &ended.finished.stats;
        assert!(ended.losses[0].contains("connection to the cloud is lost"), "{:?}", ended.losses);
        assert!(stats.connections >= 2 && stats.positions_replayed > 0, "{stats:?}");
        degraded += stats.degraded_tokens;
    }
    assert!(degraded >= 25);
}

#[tokio::test]
async fn a_draining_cloud_completes_what_is_under_way_and_refuses_what_is_new() {
    let mut cloud = RunningCloud::start().await;
    let (engine, gate) = GatedEngine::new(ScriptedEngine::edge(script(), sizes()));
    let edge = start_edge(edge_config(), Some(CloudEndpoint::new(cloud.url())), engine).await;
    let stream = edge.submit(request(1, Mode::Collaborative)).await.expect("taken");
    let mut answering = Answering { gate: &gate, stream, heard: Heard::default() };
    answering.take_until(|token| token.source == Source::Cloud).await;
    cloud.begin_drain();
    let before = answering.heard.tokens.len();
    answering.take_until(|token| token.source == Source::Cloud).await;
    assert!(answering.heard.tokens[before..].iter().all(|token| !token.degraded));
    // The same connection is told to go, a new one finds nobody: either way the answer is the edge's.
    let late = edge.submit(request(2, Mode::Collaborative)).await.expect("taken");
    gate.open(2 * 60);
    assert_eq!(collect(late, Heard::default()).await.tokens.len(), 60);
    let first = collect(answering.stream, answering.heard).await;
    assert_eq!((first.tokens.len(), first.losses), (60, vec![]));
    cloud.stopped().await.expect("stops after its last session");
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_short() {
    let options = CloudOptions { drain_deadline: Duration::from_millis(1), ..cloud_options() };
    let mut cloud = RunningCloud::start_with(options).await;
    let (engine, gate) = GatedEngine::new(ScriptedEngine::edge(script(), sizes()));
    let edge = start_edge(edge_config(), Some(CloudEndpoint::new(cloud.url())), engine).await;
    let stream = edge.submit(request(1, Mode::Collaborative)).await.expect("taken");
    let mut answering = Answering { gate: &gate, stream, heard: Heard::default() };
    answering.take_until(|token| token.source == Source::Cloud).await;
    cloud.begin_drain();
    cloud.stopped().await.expect("stops although a session is open");
    gate.open(60);
    let ended = collect(answering.stream, answering.heard).await;
    assert_eq!((ended.tokens.len(), ended.is_degraded()), (60, true));
}

/// An answer that the test lets grow.
struct Answering<'a> {
    gate: &'a Gate,
    stream: AnswerStream,
    heard: Heard,
}

impl Answering<'_> {
    /// Lets `count` more tokens pass, one after the other.
    async fn take(&mut self, count: usize) {
        for _ in 0..count {
            self.gate.open(1);
            self.take_passed(1).await;
        }
    }

    /// Takes tokens that were let pass before.
    async fn take_passed(&mut self, count: usize) {
        let wanted = self.heard.tokens.len() + count;
        while self.heard.tokens.len() < wanted {
            match self.stream.next().await.expect("it goes on") {
                AnswerEvent::Token(token, _) => self.heard.tokens.push(token),
                AnswerEvent::Degraded(loss) => self.heard.losses.push(loss.to_string()),
                other => panic!("too early: {other:?}"),
            }
        }
    }

    /// Lets tokens pass until one fits. The pause leaves time to what goes on at the same time; the context bounds the wait.
    async fn take_until(&mut self, fits: impl Fn(&Token) -> bool) {
        loop {
            self.take(1).await;
            if self.heard.tokens.last().is_some_and(&fits) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
