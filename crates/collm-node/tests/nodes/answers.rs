//! Answers when nothing goes wrong.

use std::{sync::Arc, time::Duration};

use collm_core::{
    edge::{FinishReason, Request, Source, SubmitError},
    ids::{SessionId, TokenId},
    policy::{Mode, RunAhead},
    sampling::Sampling,
};
use collm_engine::{Head, scripted::ScriptedEngine};
use collm_link::{Link, LinkSpec};
use collm_node::{
    AnswerEvent, RequestError, Traffic,
    answer::AnswerWriter,
    text::{StopStrings, Vocabulary},
};
use futures::future::join_all;

use crate::world::{
    CONTEXT, GatedEngine, Heard, LOCAL, RunningCloud, answer, check, cloud_options, collaborative, collect,
    edge_config, edge_of, request, script, sizes, start_edge, truth,
};

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

#[tokio::test]
async fn tokens_tell_what_has_gone_over_the_wire_until_then() {
    let cloud = RunningCloud::start().await;
    let edge = edge_of(Some(cloud.url())).await;
    let mut stream = edge.submit(request(1, Mode::Collaborative)).await.expect("it is taken");
    let mut before = Traffic::default();
    loop {
        match stream.next().await.expect("an end comes") {
            AnswerEvent::Token(token, now) => {
                assert!(now.bytes_up >= before.bytes_up && now.frames_down >= before.frames_down, "{before:?} {now:?}");
                assert!(token.source != Source::Cloud || now.bytes_down > before.bytes_down, "{token:?}");
                before = now;
            }
            AnswerEvent::Finished(finished) => {
                assert!(before.bytes_up > 0 && before.bytes_up <= finished.traffic.bytes_up);
                assert_eq!(before.bytes_down, finished.traffic.bytes_down);
                return;
            }
            other => panic!("nothing goes wrong: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_prompt_is_scored_by_whoever_would_decide() {
    let mut options = cloud_options();
    options.config.holds_whole = true;
    let cloud = RunningCloud::start_at(LOCAL, options, ScriptedEngine::whole(script(), sizes())).await;
    let edge = edge_of(Some(cloud.url())).await;
    for (mode, source) in [
        (Mode::Standalone, Source::Exit2),
        (Mode::Collaborative, Source::Cloud),
        (Mode::Exact, Source::Cloud),
        (Mode::Cloud, Source::Cloud),
    ] {
        let sampling = Sampling { log_probs: Some(3), ..Sampling::GREEDY };
        let plain = answer(&edge, Request { sampling: sampling.clone(), ..request(1, mode) }).await;
        let asked = Request { score_prompt: true, sampling, ..request(1, mode) };
        let prompt = asked.prompt.clone();
        let ended = answer(&edge, asked).await;
        assert_eq!(ended.ids(), plain.ids(), "{mode:?}: asking about the prompt changes no answer");
        let told: Vec<TokenId> = ended.prompt.iter().map(|token| token.id).collect();
        assert_eq!(told, prompt[1..], "{mode:?}");
        assert!(ended.prompt.iter().all(|token| token.source == source && !token.degraded), "{mode:?}");
        let head = if source == Source::Cloud { Head::Final } else { Head::Exit2 };
        for (index, token) in ended.prompt.iter().enumerate() {
            let likeliest = script().guess(head, &prompt[..=index]).0;
            assert_eq!(token.log_probs.top[0].token, likeliest, "{mode:?}");
        }
        assert!(ended.tokens.iter().all(|token| token.log_probs.as_ref().is_some_and(|told| told.top.len() == 3)));
    }
}

#[tokio::test]
async fn a_slow_link_changes_nothing_but_time() {
    let cloud = RunningCloud::start().await;
    let slow = LinkSpec {
        rtt: Duration::from_millis(4),
        jitter: Duration::from_millis(3),
        up: "20mbit".parse().expect("a bandwidth"),
        ..LinkSpec::PERFECT
    };
    let link = Link::start("127.0.0.1:0", cloud.address.to_string(), slow).await.expect("a free port");
    let near = edge_of(Some(cloud.url())).await;
    let far = edge_of(Some(format!("http://{}", link.local_addr()))).await;
    for number in 0..4 {
        let [here, there] = [&near, &far].map(|edge| answer(edge, request(number, Mode::Collaborative)));
        let (here, there) = tokio::join!(here, there);
        assert_eq!(here.tokens.len(), 60);
        assert_eq!(here.ids(), there.ids());
        // Only compute times, which answers carry, may take another number of bytes.
        let [here, there] = [here, there].map(|ended| ended.finished.traffic);
        assert_eq!((here.frames_up, here.bytes_up), (there.frames_up, there.bytes_up));
        assert_eq!(here.frames_down, there.frames_down);
    }
}

#[tokio::test]
async fn running_ahead_changes_nothing_but_time() {
    let cloud = RunningCloud::start().await;
    let edge = edge_of(Some(cloud.url())).await;
    let hasty = |number| Request { run_ahead: RunAhead::Always(16), ..request(number, Mode::Collaborative) };
    for number in 0..8 {
        let [still, ahead] =
            [request(number, Mode::Collaborative), hasty(number)].map(|request| answer(&edge, request));
        let (still, ahead) = tokio::join!(still, ahead);
        assert_eq!(still.ids(), ahead.ids());
        assert!(!ahead.is_degraded(), "{:?}", ahead.losses);
    }
}

#[tokio::test]
async fn exact_answers_are_the_whole_models() {
    let cloud = RunningCloud::start().await;
    let edge = edge_of(Some(cloud.url())).await;
    for number in 0..8 {
        let request = Request { run_ahead: RunAhead::DEFAULT, ..request(number, Mode::Exact) };
        let ended = answer(&edge, request.clone()).await;
        assert_eq!(ended.ids(), truth(&request.prompt, 60));
    }
}

#[tokio::test]
async fn sessions_do_not_disturb_each_other() {
    let cloud = RunningCloud::start().await;
    let edge = edge_of(Some(cloud.url())).await;
    let modes = [Mode::Collaborative, Mode::Naive, Mode::Standalone];
    // More than there are slots at either side.
    let requests: Vec<_> = (0..9).map(|number| request(number, modes[number as usize % 3])).collect();
    let answers = join_all(requests.iter().map(|request| answer(&edge, request.clone()))).await;
    for (request, ended) in requests.iter().zip(answers) {
        match request.mode {
            Mode::Collaborative => assert_eq!(ended.ids(), collaborative(&request.prompt, 60)),
            Mode::Naive => assert_eq!(ended.ids(), truth(&request.prompt, 60)),
            mode => check(&request.prompt, &ended.tokens, mode),
        }
        assert!(!ended.is_degraded(), "{:?}", ended.losses);
    }
}

#[tokio::test]
async fn a_cloud_with_the_whole_model_answers_alone() {
    let mut options = cloud_options();
    options.config.holds_whole = true;
    let cloud = RunningCloud::start_at(LOCAL, options, ScriptedEngine::whole(script(), sizes())).await;
    let edge = edge_of(Some(cloud.url())).await;
    let request = request(3, Mode::Cloud);
    let ended = answer(&edge, request.clone()).await;
    assert_eq!(ended.ids(), truth(&request.prompt, 60));
    assert_eq!(ended.finished.stats.cloud_tokens, 60);
}

#[tokio::test]
async fn requests_that_cannot_be_served_are_refused_with_a_reason() {
    let edge = edge_of(None).await;
    let refused = edge.submit(request(1, Mode::Collaborative)).await.err();
    assert_eq!(refused, Some(SubmitError::NoCloud(Mode::Collaborative).into()));
    let long = Request { prompt: vec![TokenId(1); CONTEXT as usize], ..request(1, Mode::Standalone) };
    let refused = edge.submit(long).await.err();
    assert_eq!(refused, Some(SubmitError::PromptTooLong { tokens: CONTEXT as usize, context: CONTEXT }.into()));
    assert_eq!(answer(&edge, request(1, Mode::Standalone)).await.tokens.len(), 60);
}

#[tokio::test]
async fn draining_completes_answers_and_takes_no_more() {
    let (engine, gate) = GatedEngine::new(ScriptedEngine::edge(script(), sizes()));
    let edge = start_edge(edge_config(), None, engine).await;
    let under_way = edge.submit(request(1, Mode::Standalone)).await.expect("taken");
    let draining = tokio::spawn({
        let edge = edge.clone();
        async move { edge.drain().await }
    });
    // Commands are handled in order, so this one comes after the drain began or proves nothing yet.
    while edge.submit(request(2, Mode::Standalone)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    drop(gate);
    assert_eq!(collect(under_way, Heard::default()).await.tokens.len(), 60);
    draining.await.expect("drains");
    assert_eq!(edge.submit(request(3, Mode::Standalone)).await.err(), Some(RequestError::Stopped));
    assert!(!edge.is_running());
}

#[tokio::test]
async fn stop_strings_end_an_answer_at_the_edge() {
    let edge = edge_of(None).await;
    let request = request(1, Mode::Standalone);
    let whole = answer(&edge, request.clone()).await.ids();
    let second = Request { session: SessionId(u128::MAX), ..request };
    let stream = edge.submit(second).await.expect("taken");
    let stop = format!("{} {}", whole[4], whole[5]);
    let stop = StopStrings::new(vec![stop]).expect("a stop string");
    let report = AnswerWriter::new(stream, Arc::new(Numbers::new()), stop).complete().await.expect("completes");
    assert_eq!(report.text, whole[..4].iter().map(|token| format!("{token} ")).collect::<String>());
    assert_eq!((report.finish_reason, report.tokens.len()), ("stop", 6));
    let json = serde_json::to_value(&report).expect("serialises");
    assert_eq!(json["tokens"][5]["text"], format!("{} ", whole[5]));
    assert_eq!(json["stats"]["prompt_tokens"], 20);
}

#[tokio::test]
async fn tokens_after_a_stop_string_are_neither_shown_nor_counted() {
    let edge = edge_of(None).await;
    let stream = edge.submit(request(1, Mode::Standalone)).await.expect("taken");
    // All 60 are decided before anyone reads the first.
    edge.drain().await;
    let stop = StopStrings::new(vec![" ".to_owned()]).expect("a stop string");
    let report = AnswerWriter::new(stream, Arc::new(Numbers::new()), stop).complete().await.expect("completes");
    let stats = &report.stats;
    assert_eq!((report.tokens.len(), stats.answer_tokens, stats.exit1_tokens + stats.exit2_tokens), (1, 1, 1));
}

/// Writes every token as its number and a space.
struct Numbers(Vec<String>);

impl Numbers {
    fn new() -> Self {
        Self((0..script().vocabulary).map(|token| format!("{token} ")).collect())
    }
}

impl Vocabulary for Numbers {
    fn token_bytes(&self, token: TokenId) -> &[u8] {
        self.0[token.0 as usize].as_bytes()
    }

    fn is_end(&self, _token: TokenId) -> bool {
        false
    }
}
