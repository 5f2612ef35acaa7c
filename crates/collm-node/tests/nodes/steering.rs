//! Budgets and mode auto over sockets. How long anything takes here is up to the machine; that the tokens follow what was decided
//! is not.

use collm_core::{
    budget::{Budget, Target},
    edge::{Request, Source, Token},
    ids::TokenId,
    policy::{Mode, Threshold},
};
use collm_engine::Head;
use collm_node::answer::AnswerStats;

use crate::world::{Ended, Heard, RunningCloud, collect, edge_of, request, script};

fn within(number: u32, mode: Mode, target: Target) -> Request {
    let threshold_min = Threshold::new(0.35).expect("a threshold");
    Request { budget: Some(Budget { target, threshold_min }), tokens_max: 200, ..request(number, mode) }
}

/// Every token is what the policy that it tells sends it to.
fn check(prompt: &[TokenId], tokens: &[Token]) {
    let mut prefix = prompt.to_vec();
    for token in tokens {
        let [first, second] = [Head::Exit1, Head::Exit2].map(|head| script().guess(head, &prefix));
        let passes = |confidence: f32, threshold: Threshold| confidence >= threshold.value() - 1e-3;
        let expected = match token.source {
            Source::Exit1 => {
                assert!(token.policy.exit1.is_some_and(|threshold| passes(first.1, threshold)), "{token:?}");
                first.0
            }
            Source::Exit2 => {
                assert!(passes(second.1, token.policy.exit2), "{token:?}");
                second.0
            }
            Source::Cloud => {
                assert!(second.1 <= token.policy.exit2.value() + 1e-3, "{token:?}");
                script().truth(&prefix)
            }
            Source::Whole => panic!("no whole model here"),
        };
        assert_eq!((token.id, token.degraded), (expected, false), "{token:?}");
        prefix.push(token.id);
    }
}

async fn answer(cloud: &RunningCloud, request: Request) -> Ended {
    let prompt = request.prompt.clone();
    let edge = edge_of(Some(cloud.url())).await;
    let ended = collect(edge.submit(request).await.expect("taken"), Heard::default()).await;
    check(&prompt, &ended.tokens);
    ended
}

#[tokio::test]
async fn a_share_of_the_tokens_is_asked_about() {
    let cloud = RunningCloud::start().await;
    let ended = answer(&cloud, within(1, Mode::Collaborative, Target::cloud_share(0.2).expect("a share"))).await;
    let report = ended.finished.stats.budget.expect("a budget");
    assert!(report.kept && report.lowest >= report.budget.threshold_min, "{report:?}");
    // Four tokens in five would be more than exit 1 lets through here.
    assert!((20..=41).contains(&ended.finished.stats.cloud_tokens), "{:?}", ended.finished.stats);
}

#[tokio::test]
async fn auto_and_a_time_per_token_say_what_they_saw() {
    let cloud = RunningCloud::start().await;
    let target = Target::milliseconds_per_token(60_000.0).expect("a time");
    let stats = AnswerStats::new(&answer(&cloud, within(2, Mode::Auto, target)).await.finished);
    let auto = stats.auto.expect("mode auto");
    assert!(auto.cloud && auto.fell_after.is_none(), "a minute a token leaves time to ask: {auto:?}");
    assert!(stats.budget.is_some_and(|report| report.kept));
    assert!(stats.link.round_trip_ms.is_some() && stats.link.cloud_compute_ms.is_some());
    let comparison = stats.comparison.expect("there is a cloud");
    assert!(comparison.verdict.is_some() && comparison.cloud_only_ms.is_some() && comparison.edge_only_ms.is_some());
}
