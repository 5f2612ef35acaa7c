//! Answers when nothing goes wrong.

use collm_core::{edge::FinishReason, policy::Mode};

use crate::world::{RunningCloud, answer, collaborative, edge_of, request};

#[tokio::test]
async fn edge_and_cloud_write_an_answer_together() {
    let cloud = RunningCloud::start().await;
    let edge = edge_of(Some(cloud.url())).await;
    let request = request(1, Mode::Collaborative);
    let ended = answer(&edge, request.clone()).await;
    assert_eq!(ended.ids(), collaborative(&request.prompt, 60));
    assert_eq!(ended.finished.reason, FinishReason::Length);
    assert_eq!(ended.losses, Vec::<String>::new());
    let (stats, traffic) = (&ended.finished.stats, ended.finished.traffic);
    assert!(stats.cloud_tokens > 0 && stats.exit1_tokens > 0 && stats.exit2_tokens > 0, "{stats:?}");
    assert_eq!(stats.cloud_tokens, stats.asks);
    // One frame opens, one answers; each ask is answered.
    assert_eq!(traffic.frames_down, 1 + u64::from(stats.asks));
    let states_bytes = u64::from(stats.positions_uploaded) * 2 * collm_engine::scripted::WIDTH as u64;
    assert!(traffic.bytes_up > states_bytes && traffic.bytes_down > 0, "{traffic:?}");
}
