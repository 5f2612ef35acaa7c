//! Sessions that go on: what a follow-up finds, and what those leave behind who do not come back.

use std::time::Duration;

use collm_core::{
    blocks::Blocks,
    cloud::CloudConfig,
    edge::{EdgeConfig, FinishReason, Request},
    ids::TokenId,
    policy::Mode,
};
use collm_engine::scripted::ScriptedEngine;
use collm_node::{AnswerEvent, CloudEndpoint, CloudOptions, EdgeHandle};

use crate::world::{
    GatedEngine, Heard, RunningCloud, answer, cloud_options, collaborative, collect, edge_config, edge_of, edge_with,
    request, script, sizes, start_edge, truth,
};

/// An edge that keeps sessions for longer than any test takes.
async fn keeping_edge(cloud: &RunningCloud) -> EdgeHandle {
    keeping_edge_of(cloud, edge_config().blocks).await
}

async fn keeping_edge_of(cloud: &RunningCloud, blocks: Blocks) -> EdgeHandle {
    edge_with(EdgeConfig { keep: Duration::from_secs(600), blocks, ..edge_config() }, Some(cloud.url())).await
}

/// The next turn of a conversation: the prompt, its answer, and something new.
fn follow_up(before: &Request, told: &[TokenId], number: u32) -> Request {
    let new = request(number, before.mode);
    Request { prompt: [&before.prompt, told, &new.prompt[..5]].concat(), ..new }
}

#[tokio::test]
async fn a_follow_up_computes_and_uploads_only_what_is_new() {
    // Of a prompt of 20 and an answer as long.
    goes_on_from(Blocks::new(8, 0), 16).await;
}

#[tokio::test]
async fn before_the_first_block_a_follow_up_goes_on_from_the_answer() {
    goes_on_from(Blocks::new(8, 64), 39).await;
}

async fn goes_on_from(blocks: Blocks, kept_positions: u32) {
    let cloud = RunningCloud::start().await;
    let (keeping, forgetful) = (keeping_edge_of(&cloud, blocks).await, edge_of(Some(cloud.url())).await);
    for mode in [Mode::Collaborative, Mode::Exact, Mode::Standalone] {
        let short = |request: Request| Request { tokens_max: 20, ..request };
        let first = short(request(1, mode));
        let told = answer(&keeping, first.clone()).await;
        assert_eq!(told.finished.stats.cached_tokens, 0);
        let second = short(follow_up(&first, &told.ids(), 2));
        let kept = answer(&keeping, second.clone()).await;
        let fresh = answer(&forgetful, short(follow_up(&first, &told.ids(), 2))).await;
        assert_eq!(kept.ids(), fresh.ids(), "{mode:?}");
        match mode {
            Mode::Collaborative => assert_eq!(kept.ids(), collaborative(&second.prompt, 20)),
            Mode::Exact => assert_eq!(kept.ids(), truth(&second.prompt, 20)),
            _ => {}
        }
        let [kept, fresh] = [kept, fresh].map(|ended| ended.finished);
        assert_eq!((kept.stats.cached_tokens, fresh.stats.cached_tokens), (kept_positions, 0), "{mode:?}");
        if mode != Mode::Standalone {
            assert_eq!(kept.stats.positions_uploaded + kept_positions, fresh.stats.positions_uploaded, "{mode:?}");
            assert_eq!((kept.stats.connections, fresh.stats.connections), (0, 1), "the stream is the same");
            assert!(kept.traffic.bytes_up < fresh.traffic.bytes_up);
        }
    }
}

#[tokio::test]
async fn turns_follow_one_another() {
    let cloud = RunningCloud::start().await;
    let edge = keeping_edge(&cloud).await;
    let mut turn = Request { tokens_max: 6, ..request(1, Mode::Collaborative) };
    for number in 2..6 {
        let ended = answer(&edge, turn.clone()).await;
        assert_eq!(ended.ids(), collaborative(&turn.prompt, 6));
        assert!(!ended.is_degraded(), "{:?}", ended.losses);
        assert_eq!(ended.finished.stats.cached_tokens > 0, number > 2, "turn {number}");
        turn = Request { tokens_max: 6, ..follow_up(&turn, &ended.ids(), number) };
    }
}

#[tokio::test]
async fn a_cloud_that_needs_the_room_is_replayed() {
    // Room for one session: each of the two drives out what is kept of the other.
    let config = CloudConfig { contexts_max: 1, hold: Duration::ZERO, ..cloud_options().config };
    let cloud = RunningCloud::start_with(CloudOptions { config, ..cloud_options() }).await;
    let edge = keeping_edge(&cloud).await;
    let [a, b] = [1, 2].map(|number| Request { tokens_max: 6, ..request(number, Mode::Collaborative) });
    let told = [answer(&edge, a.clone()).await, answer(&edge, b.clone()).await];
    for (number, (before, told)) in [a, b].iter().zip(&told).enumerate() {
        let next = Request { tokens_max: 6, ..follow_up(before, &told.ids(), 3 + number as u32) };
        let ended = answer(&edge, next.clone()).await;
        assert_eq!(ended.ids(), collaborative(&next.prompt, 6));
        assert!(!ended.is_degraded(), "{:?}", ended.losses);
        assert_eq!(ended.finished.stats.cached_tokens, 16, "the edge has kept its share");
    }
}

#[tokio::test]
async fn what_is_said_late_of_an_answer_does_not_end_the_next() {
    let cloud = RunningCloud::start().await;
    let edge = keeping_edge(&cloud).await;
    let first = Request { tokens_max: 1, ..request(1, Mode::Standalone) };
    let mut unread = edge.submit(first.clone()).await.expect("the edge takes it");
    let Some(AnswerEvent::Token(token, _)) = unread.next().await else { panic!("a token comes first") };
    let next = follow_up(&first, &[token.id], 2);
    let stream = edge.submit(next).await.expect("the edge takes it");
    assert_eq!(stream.session(), unread.session(), "the session goes on");
    // Withdraws an answer whose end nobody has read.
    drop(unread);
    let ended = collect(stream, Heard::default()).await;
    assert_eq!(ended.finished.reason, FinishReason::Length);
}

#[tokio::test]
async fn a_requester_that_leaves_is_forgotten_by_the_cloud() {
    // Whose cloud has room for one session, and does not take it from one in the middle of an answer.
    let config = CloudConfig { contexts_max: 1, hold: Duration::from_secs(600), ..cloud_options().config };
    let cloud = RunningCloud::start_with(CloudOptions { config, ..cloud_options() }).await;
    let (engine, gate) = GatedEngine::new(ScriptedEngine::edge(script(), sizes()));
    let keep = EdgeConfig { keep: Duration::from_secs(600), ..edge_config() };
    let edge = start_edge(keep, Some(CloudEndpoint::new(cloud.url())), engine).await;
    gate.open(3);
    let mut leaving = edge.submit(request(1, Mode::Exact)).await.expect("the edge takes it");
    leaving.next().await.expect("a token");
    drop(leaving);
    drop(gate);
    // The goodbye and the next session come on streams of their own, so the first tries may be refused.
    for _ in 0..1000 {
        let staying = Request { tokens_max: 1, ..request(2, Mode::Exact) };
        if answer(&edge, staying).await.losses.is_empty() {
            return;
        }
    }
    panic!("the cloud still holds a session whose requester has left");
}
