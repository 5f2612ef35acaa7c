//! Links that stall or are too slow, engines that fail.

use std::time::Duration;

use collm_core::{
    edge::{BreakerConfig, EdgeConfig},
    policy::Mode,
};
use collm_engine::scripted::ScriptedEngine;
use collm_link::{Link, LinkSpec};
use collm_node::{
    AnswerEvent, CloudEndpoint, CloudNode, CloudServeError, EdgeHandle, EdgeNode, EdgeOptions, EdgeStartError,
    RequestError,
};
use futures::StreamExt;
use tokio::net::TcpListener;

use crate::world::{
    Ended, GatedEngine, LOCAL, RunningCloud, answer, cloud_options, collaborative, edge_config, edge_of, edge_with,
    request, script, sizes, start_edge,
};

#[tokio::test]
async fn a_stalled_link_costs_the_deadline_and_no_answer() {
    let cloud = RunningCloud::start().await;
    let link = Link::start("127.0.0.1:0", cloud.address.to_string(), LinkSpec::PERFECT).await.expect("a free port");
    let impatient = EdgeConfig {
        ask_deadline: Duration::from_millis(30),
        // Once lost, the cloud stays lost for this answer.
        breaker: BreakerConfig { pause_first: Duration::from_secs(3600), pause_max: Duration::from_secs(3600) },
        ..edge_config()
    };
    link.control().stall();
    let edge = edge_with(impatient, Some(format!("http://{}", link.local_addr()))).await;
    let ended = answer(&edge, request(1, Mode::Collaborative)).await;
    assert_eq!(ended.tokens.len(), 60);
    assert_eq!(ended.losses, ["the cloud did not answer within 30ms"]);
    assert!(ended.is_degraded());
    assert_eq!(ended.finished.traffic.bytes_down, 0);
}

#[tokio::test]
async fn collaboration_resumes_after_a_stall() {
    let cloud = RunningCloud::start().await;
    let link = Link::start("127.0.0.1:0", cloud.address.to_string(), LinkSpec::PERFECT).await.expect("a free port");
    let impatient = EdgeConfig { ask_deadline: Duration::from_millis(30), ..edge_config() };
    let edge = edge_with(impatient, Some(format!("http://{}", link.local_addr()))).await;
    link.control().stall();
    assert!(answer(&edge, request(1, Mode::Collaborative)).await.is_degraded());
    link.control().restore();
    undegraded(&edge).await;
}

/// Asks until the cloud takes part without a loss, which it must sooner or later.
async fn undegraded(edge: &EdgeHandle) -> Ended {
    loop {
        let request = request(2, Mode::Collaborative);
        let ended = answer(edge, request.clone()).await;
        if ended.losses.is_empty() {
            assert_eq!(ended.ids(), collaborative(&request.prompt, 60));
            return ended;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nobody_there_is_a_named_loss() {
    let listener = TcpListener::bind(LOCAL).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let edge = edge_of(Some(format!("http://{address}"))).await;
    let ended = answer(&edge, request(1, Mode::Collaborative)).await;
    assert_eq!(ended.tokens.len(), 60);
    assert!(ended.is_degraded());
    assert!(ended.losses.iter().any(|loss| loss.contains("Connection refused")), "{:?}", ended.losses);
}

#[tokio::test]
async fn a_link_that_is_too_slow_for_the_uploads_counts_as_lost() {
    let cloud = RunningCloud::start().await;
    let endpoint = CloudEndpoint { upload_bytes_max: 100, ..CloudEndpoint::new(cloud.url()) };
    let edge = start_edge(edge_config(), Some(endpoint), ScriptedEngine::edge(script(), sizes())).await;
    let ended = answer(&edge, request(1, Mode::Collaborative)).await;
    assert_eq!(ended.tokens.len(), 60);
    assert!(ended.losses[0].contains("bytes wait for the way up, more than the 100 allowed"), "{:?}", ended.losses);
}

#[tokio::test]
async fn a_failing_cloud_engine_degrades_and_recovers() {
    let engine = ScriptedEngine::cloud(script(), sizes()).failing_at(4);
    let cloud = RunningCloud::start_at(LOCAL, cloud_options(), engine).await;
    let edge = edge_of(Some(cloud.url())).await;
    let ended = answer(&edge, request(1, Mode::Collaborative)).await;
    assert_eq!(ended.tokens.len(), 60);
    assert!(ended.losses[0].starts_with("the cloud refused"), "{:?}", ended.losses);
    assert!(ended.losses[0].contains("injected fault"), "{:?}", ended.losses);
    undegraded(&edge).await;
}

#[tokio::test]
async fn a_failing_edge_engine_fails_one_answer() {
    let engine = ScriptedEngine::edge(script(), sizes()).failing_at(9);
    let edge = start_edge(edge_config(), None, engine).await;
    let stream = edge.submit(request(1, Mode::Standalone)).await.expect("taken");
    let events: Vec<_> = stream.collect().await;
    let last = events.last().expect("an answer has a last event");
    assert!(matches!(last, AnswerEvent::Failed(why) if why.contains("injected fault")), "{last:?}");
    assert_eq!(answer(&edge, request(2, Mode::Standalone)).await.tokens.len(), 60);
}

#[tokio::test]
async fn an_edge_whose_engine_panics_leaves_nobody_hanging() {
    let (engine, gate) = GatedEngine::new(ScriptedEngine::edge(script(), sizes()));
    let edge = start_edge(edge_config(), None, engine).await;
    let stream = edge.submit(request(1, Mode::Standalone)).await.expect("taken");
    gate.mine();
    let events: Vec<_> = stream.collect().await;
    assert_eq!(events.last(), Some(&AnswerEvent::Failed("the edge has stopped".into())));
    assert_eq!(edge.submit(request(2, Mode::Standalone)).await.err(), Some(RequestError::Stopped));
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let missing = || Err::<ScriptedEngine, _>("no such file: edge.gguf");
    let options =
        EdgeOptions { config: edge_config(), judges: Default::default(), cloud: None, limits: Default::default() };
    let edge = EdgeNode::start(options.clone(), missing).await.expect_err("there is no engine");
    assert_eq!(edge.to_string(), "cannot load the engine: no such file: edge.gguf");
    let nowhere = EdgeOptions { cloud: Some(CloudEndpoint::new("http://a b")), ..options };
    let edge = EdgeNode::start(nowhere, missing).await.expect_err("no address");
    assert!(matches!(edge, EdgeStartError::Endpoint(_)), "{edge}");
    let listener = TcpListener::bind(LOCAL).await.expect("a free port");
    let cloud = CloudNode::serve(listener, cloud_options(), missing, std::future::pending()).await;
    assert!(matches!(cloud, Err(CloudServeError::Engine(_))));
}

#[tokio::test]
async fn a_cloud_is_not_exposed_by_accident() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
    let engine = || Ok::<_, std::convert::Infallible>(ScriptedEngine::cloud(script(), sizes()));
    let served = CloudNode::serve(listener, cloud_options(), engine, std::future::pending()).await;
    assert!(matches!(served, Err(CloudServeError::Exposed(_))));
}

#[tokio::test]
async fn an_edge_that_is_stopped_ends_its_answers_and_its_engine() {
    let (engine, gate) = GatedEngine::new(ScriptedEngine::edge(script(), sizes()));
    let edge = start_edge(edge_config(), None, engine).await;
    let stream = edge.submit(request(1, Mode::Standalone)).await.expect("taken");
    // The engine waits in the middle of a token; only when it is let go can the edge have stopped.
    let stopping = tokio::spawn({
        let edge = edge.clone();
        async move { edge.stop().await }
    });
    let events: Vec<_> = stream.collect().await;
    assert_eq!(events.last(), Some(&AnswerEvent::Failed("the edge has stopped".into())));
    drop(gate);
    stopping.await.expect("it stops");
    assert!(!edge.is_running());
}
