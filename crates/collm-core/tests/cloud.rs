//! What one edge may do to a cloud and its other sessions: nothing.

use std::time::Duration;

use collm_core::{
    cloud::{Batch, BatchOutcome, Cloud, CloudConfig, Output, PeerId},
    frame::{Answer, Ask, Feed, Identity, Open, PROTOCOL, ToCloud, ToEdge},
    ids::{Epoch, Position, SessionId, TokenId},
    sampling::{Choice, Sampling, Scored},
    states::{Encoding, StateBlock},
    time::Time,
};

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn identity() -> Identity {
    Identity { pair: "a pair".into(), source: "a model".into(), upload_at: 1, width: 1, vocabulary: 100 }
}

fn cloud(slots: u32, batch_rows_max: u32) -> Cloud {
    Cloud::new(CloudConfig {
        identity: identity(),
        holds_whole: true,
        context: 128,
        slots,
        batch_rows_max,
        block_rows: 4,
        contexts_max: 16,
        states_bytes_max: 1 << 20,
        idle_max: Duration::from_secs(30),
        hold: Duration::from_millis(100),
    })
}

fn open(session: u64, feed: Feed) -> ToCloud {
    ToCloud::Open(Open {
        protocol: PROTOCOL,
        identity: identity(),
        session: SessionId(session.into()),
        epoch: Epoch(0),
        prompt: 10,
        feed,
        sampling: Sampling::GREEDY,
        tells_tokens: false,
        attempt: 1,
    })
}

fn states(rows: usize) -> ToCloud {
    let block = StateBlock::parse(Encoding::F16, 1, vec![0; rows * 2].into()).expect("zeros are finite");
    ToCloud::States { epoch: Epoch(0), first: Position(0), block, tokens: vec![] }
}

fn ask(position: u32) -> ToCloud {
    ToCloud::Ask(Ask { epoch: Epoch(0), position: Position(position), guess: None })
}

/// Everything the cloud wants, and the batch among it.
fn drain(cloud: &mut Cloud) -> (Vec<Output>, Option<Batch>) {
    let outputs: Vec<Output> = std::iter::from_fn(|| cloud.poll_output()).collect();
    let batch = outputs.iter().find_map(|output| match output {
        Output::Compute(batch) => Some(batch.clone()),
        _ => None,
    });
    (outputs, batch)
}

fn done(batch: &Batch) -> BatchOutcome {
    let choice = Choice { token: TokenId(1), confidence: 0.5 };
    let scored = Scored { choice, log_probs: None };
    let scored = batch.parts.iter().map(|part| Ok(vec![scored.clone(); part.scores.len()])).collect();
    BatchOutcome::Done { scored, compute: Duration::from_millis(1) }
}

/// Runs batches until none is wanted; the positions answered, in order.
fn answered(cloud: &mut Cloud, from_ms: u64) -> Vec<(PeerId, u32)> {
    let mut answers = Vec::new();
    for now in from_ms..from_ms + 1_000 {
        let (outputs, batch) = drain(cloud);
        answers.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Transmit(peer, ToEdge::Answer(Answer { position, .. })) => Some((peer, position.0)),
            _ => None,
        }));
        match batch {
            Some(batch) => cloud.handle_compute(at(now), done(&batch)),
            None => cloud.handle_timeout(at(now)),
        }
    }
    answers
}

#[test]
fn an_ask_behind_the_rows_under_way_is_answered() {
    let (mut cloud, peer) = (cloud(1, 64), PeerId(1));
    for frame in [open(1, Feed::States(Encoding::F16)), states(10), ask(9)] {
        cloud.handle_frame(at(0), peer, frame);
    }
    let (_, batch) = drain(&mut cloud);
    cloud.handle_frame(at(1), peer, ask(5));
    cloud.handle_compute(at(2), done(&batch.expect("the first ask starts a batch")));
    assert_eq!(answered(&mut cloud, 3), [(peer, 9), (peer, 5)]);
}

#[test]
fn more_waiting_sessions_than_rows_in_a_batch_are_all_served() {
    let mut cloud = cloud(2, 4);
    let asking = 1..=9;
    for session in asking.clone() {
        let peer = PeerId(session);
        for frame in [open(session, Feed::States(Encoding::F16)), states(3), ask(2)] {
            cloud.handle_frame(at(0), peer, frame);
        }
    }
    let mut peers: Vec<u64> = answered(&mut cloud, 1).into_iter().map(|(peer, _)| peer.0).collect();
    peers.sort_unstable();
    assert_eq!(peers, asking.collect::<Vec<_>>());
}

#[test]
fn a_text_that_outgrows_the_context_is_refused_by_name() {
    let (mut cloud, peer) = (cloud(1, 64), PeerId(1));
    let tokens = vec![TokenId(1); 120];
    let generate = ToCloud::Generate { epoch: Epoch(0), position: Position(119), tokens_max: 50, stop: vec![] };
    cloud.handle_frame(at(0), peer, open(1, Feed::Tokens));
    cloud.handle_frame(at(0), peer, ToCloud::Tokens { epoch: Epoch(0), first: Position(0), tokens });
    cloud.handle_frame(at(0), peer, generate);
    let mut refusals = 0;
    for now in 1..100 {
        let (outputs, batch) = drain(&mut cloud);
        let refused = |output: &&Output| matches!(output, Output::Transmit(_, ToEdge::Refused(why)) if why.message.contains("128"));
        refusals += outputs.iter().filter(refused).count();
        let Some(batch) = batch else { break };
        cloud.handle_compute(at(now), done(&batch));
    }
    assert_eq!(refusals, 1);
}
