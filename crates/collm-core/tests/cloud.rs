//! What one edge may do to a cloud and its other sessions: nothing.

use std::time::Duration;

use collm_core::{
    blocks::Blocks,
    cloud::{Ahead, Batch, BatchInput, BatchOutcome, Cloud, CloudConfig, Output, PeerId},
    frame::{Answer, Ask, Confirmed, Feed, Identity, Open, PROTOCOL, ToCloud, ToEdge},
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
    Cloud::new(config(slots, batch_rows_max))
}

fn config(slots: u32, batch_rows_max: u32) -> CloudConfig {
    CloudConfig {
        identity: identity(),
        holds_whole: true,
        encodings: Encoding::ALL.into(),
        context: 128,
        slots,
        batch_rows_max,
        blocks: Blocks::new(4, 0),
        ahead: Ahead::Nothing,
        contexts_max: 16,
        states_bytes_max: 1 << 20,
        idle_max: Duration::from_secs(30),
        hold: Duration::from_millis(100),
    }
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
    states_from(0, rows)
}

fn states_from(first: u32, rows: usize) -> ToCloud {
    let block = StateBlock::parse(Encoding::F16, 1, vec![0; rows * 2].into()).expect("zeros are finite");
    ToCloud::States { epoch: Epoch(0), first: Position(first), block, tokens: vec![] }
}

fn ask(position: u32) -> ToCloud {
    ToCloud::Ask(Ask { epoch: Epoch(0), position: Position(position), guess: None })
}

fn guess(position: u32, token: u32) -> ToCloud {
    ToCloud::Ask(Ask { epoch: Epoch(0), position: Position(position), guess: Some(TokenId(token)) })
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
    done_in(1, batch)
}

fn done_in(ms: u64, batch: &Batch) -> BatchOutcome {
    let choice = Choice { token: TokenId(1), confidence: 0.5 };
    let scored = Scored { choice, log_probs: None };
    let scored = batch.parts.iter().map(|part| Ok(vec![scored.clone(); part.scores.len()])).collect();
    BatchOutcome::Done { scored, compute: Duration::from_millis(ms) }
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
    assert_eq!(answered(&mut cloud, 3), [(peer, 5), (peer, 9)]);
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

/// First position and rows of the batch that a cloud wants of one session, if it wants any.
fn wanted(cloud: &mut Cloud) -> Option<(u32, usize)> {
    let batch = drain(cloud).1?;
    let [part] = batch.parts.as_slice() else { panic!("one session") };
    let BatchInput::States(blocks) = &part.input else { panic!("states were sent") };
    Some((part.first.0, blocks.iter().map(|block| block.rows() as usize).sum()))
}

/// The outcome of a batch that nothing was asked about.
fn computed(ms: u64) -> BatchOutcome {
    BatchOutcome::Done { scored: vec![Ok(vec![])], compute: Duration::from_millis(ms) }
}

#[test]
fn prompts_are_computed_ahead_in_whole_blocks_and_answers_are_not() {
    let (mut cloud, peer) = (Cloud::new(CloudConfig { ahead: Ahead::Prompts, ..config(1, 64) }), PeerId(1));
    // A prompt of ten, and two positions of the answer.
    for frame in [open(1, Feed::States(Encoding::F16)), states(12)] {
        cloud.handle_frame(at(0), peer, frame);
    }
    assert_eq!(wanted(&mut cloud), Some((0, 4)));
    cloud.handle_compute(at(3), computed(3));
    assert_eq!(wanted(&mut cloud), Some((4, 4)));
    cloud.handle_compute(at(8), computed(5));
    assert_eq!(wanted(&mut cloud), None, "two positions of the prompt are no block");
    cloud.handle_frame(at(10), peer, ask(11));
    // Of the answer no block is computed whole, so it takes two batches of a millisecond each.
    let mut firsts = Vec::new();
    let answer = loop {
        let (outputs, batch) = drain(&mut cloud);
        let answer = outputs.into_iter().find_map(|output| match output {
            Output::Transmit(_, ToEdge::Answer(answer)) => Some(answer),
            _ => None,
        });
        let Some(batch) = batch else { break answer };
        firsts.push(batch.parts[0].first.0);
        cloud.handle_compute(at(11), done(&batch));
    };
    assert_eq!(firsts, [8, 11]);
    let answer = answer.expect("the ask is answered");
    assert_eq!((answer.compute, answer.unasked), (Duration::from_millis(2), Duration::from_millis(8)));
}

#[test]
fn before_the_first_block_a_prompt_is_computed_ahead_as_it_comes() {
    let blocks = Blocks::new(4, 8);
    for (ahead, rest) in [(Ahead::Prompts, None), (Ahead::Answers, Some((8, 1))), (Ahead::Everything, Some((8, 2)))] {
        let (mut cloud, peer) = (Cloud::new(CloudConfig { ahead, blocks, ..config(1, 64) }), PeerId(1));
        cloud.handle_frame(at(0), peer, open(1, Feed::States(Encoding::F16)));
        for (first, rows, piece) in [(0, 3, (0, 3)), (3, 1, (3, 1)), (4, 6, (4, 4))] {
            cloud.handle_frame(at(0), peer, states_from(first, rows));
            assert_eq!(wanted(&mut cloud), Some(piece), "{ahead:?}");
            cloud.handle_compute(at(1), computed(1));
        }
        assert_eq!(wanted(&mut cloud), rest, "{ahead:?}: what comes after the first block's border");
    }
}

#[test]
fn the_token_after_a_prompt_that_ends_before_the_first_block_is_foreseen_with_everything_alone() {
    for (ahead, pieces) in
        [(Ahead::Answers, vec![(0, 4), (4, 4), (8, 1)]), (Ahead::Everything, vec![(0, 4), (4, 4), (8, 2)])]
    {
        let blocks = Blocks::new(4, 16);
        let (mut cloud, peer) = (Cloud::new(CloudConfig { ahead, blocks, ..config(1, 64) }), PeerId(1));
        cloud.handle_frame(at(0), peer, open(1, Feed::States(Encoding::F16)));
        cloud.handle_frame(at(0), peer, states(10));
        for piece in pieces {
            assert_eq!(wanted(&mut cloud), Some(piece), "{ahead:?}");
            cloud.handle_compute(at(1), computed(1));
        }
        assert_eq!(wanted(&mut cloud), None, "{ahead:?}");
    }
}

#[test]
fn before_the_first_block_no_position_is_computed_again_for_another() {
    let (mut cloud, peer) = (Cloud::new(CloudConfig { blocks: Blocks::new(4, 8), ..config(1, 64) }), PeerId(1));
    for frame in [open(1, Feed::States(Encoding::F16)), states(10), ask(9)] {
        cloud.handle_frame(at(0), peer, frame);
    }
    let batch = drain(&mut cloud).1.expect("all of the prompt");
    cloud.handle_compute(at(1), done(&batch));
    drain(&mut cloud);
    cloud.handle_frame(at(2), peer, ask(6));
    assert_eq!(wanted(&mut cloud), Some((6, 1)), "from the position itself on, not from the border before it");
}

#[test]
fn answers_are_computed_ahead_but_for_their_newest_position() {
    let (mut cloud, peer) = (Cloud::new(CloudConfig { ahead: Ahead::Answers, ..config(1, 64) }), PeerId(1));
    cloud.handle_frame(at(0), peer, open(1, Feed::States(Encoding::F16)));
    cloud.handle_frame(at(0), peer, states(9));
    let whole_blocks = [(0, 4), (4, 4)];
    for expected in whole_blocks {
        assert_eq!(wanted(&mut cloud), Some(expected));
        cloud.handle_compute(at(1), computed(1));
    }
    assert_eq!(wanted(&mut cloud), None, "the prompt of ten is not here yet");
    cloud.handle_frame(at(2), peer, states_from(9, 7));
    // What has a part in the answer is never a whole block.
    for expected in [(8, 3), (11, 4)] {
        assert_eq!(wanted(&mut cloud), Some(expected));
        cloud.handle_compute(at(3), computed(1));
    }
    assert_eq!(wanted(&mut cloud), None, "the newest may be asked about");
    cloud.handle_frame(at(4), peer, ask(15));
    let (_, batch) = drain(&mut cloud);
    let batch = batch.expect("the ask is served");
    assert_eq!((batch.parts[0].first.0, batch.parts[0].scores.len()), (15, 1), "nothing is computed twice");
}

/// A cloud that foresees what comes after so many positions, which were uploaded.
fn foreseeing(rows: usize) -> (Cloud, PeerId) {
    let (mut cloud, peer) = (Cloud::new(CloudConfig { ahead: Ahead::Everything, ..config(1, 64) }), PeerId(1));
    cloud.handle_frame(at(0), peer, open(1, Feed::States(Encoding::F16)));
    cloud.handle_frame(at(0), peer, states(rows));
    (cloud, peer)
}

/// The answers among outputs.
fn answers(outputs: Vec<Output>) -> Vec<Answer> {
    let answer = |output| match output {
        Output::Transmit(_, ToEdge::Answer(answer)) => Some(answer),
        _ => None,
    };
    outputs.into_iter().filter_map(answer).collect()
}

#[test]
fn an_ask_that_was_foreseen_is_answered_at_once_and_one_that_comes_meanwhile_when_it_is_done() {
    let (mut cloud, peer) = foreseeing(10);
    let ms = Duration::from_millis;
    for (first, foreseen) in [(0, 0), (4, 0), (8, 1)] {
        let batch = drain(&mut cloud).1.expect("there is something to compute");
        assert_eq!((batch.parts[0].first.0, batch.parts[0].scores.len()), (first, foreseen));
        cloud.handle_compute(at(4), done(&batch));
    }
    assert_eq!(wanted(&mut cloud), None);
    cloud.handle_frame(at(7), peer, ask(9));
    let (outputs, batch) = drain(&mut cloud);
    let [answer] = &answers(outputs)[..] else { panic!("one answer") };
    assert_eq!((answer.position, batch), (Position(9), None), "nothing is left to compute");
    assert_eq!((answer.compute, answer.queued, answer.unasked), (ms(0), ms(0), ms(3)));
    assert_eq!((answer.rows, answer.unasked_rows), (0, 10));

    // The ask comes while its position is computed, and waits for the end of that alone.
    cloud.handle_frame(at(10), peer, states_from(10, 1));
    let batch = drain(&mut cloud).1.expect("the newest position");
    cloud.handle_frame(at(13), peer, ask(10));
    assert_eq!(drain(&mut cloud), (vec![], None));
    cloud.handle_compute(at(14), done_in(4, &batch));
    let [answer] = &answers(drain(&mut cloud).0)[..] else { panic!("one answer") };
    assert_eq!((answer.position, answer.compute, answer.unasked), (Position(10), ms(1), ms(3)));
    assert_eq!(
        (answer.rows, answer.unasked_rows),
        (0, 1),
        "of a position that was waited for in part, its time says nothing"
    );
    assert_eq!(wanted(&mut cloud), None, "nothing is computed twice");
}

#[test]
fn what_comes_after_a_prompt_of_whole_blocks_is_foreseen_by_every_cloud_that_computes_prompts() {
    for ahead in [Ahead::Prompts, Ahead::Answers] {
        let (mut cloud, peer) = (Cloud::new(CloudConfig { ahead, ..config(1, 64) }), PeerId(1));
        let ToCloud::Open(opening) = open(1, Feed::States(Encoding::F16)) else { unreachable!() };
        cloud.handle_frame(at(0), peer, ToCloud::Open(Open { prompt: 8, ..opening }));
        cloud.handle_frame(at(0), peer, states(8));
        while let Some(batch) = drain(&mut cloud).1 {
            cloud.handle_compute(at(1), done(&batch));
        }
        cloud.handle_frame(at(2), peer, ask(7));
        let (outputs, batch) = drain(&mut cloud);
        assert_eq!((answers(outputs).len(), batch), (1, None), "the block is not computed again");
    }
}

#[test]
fn what_was_foreseen_waits_for_what_is_asked_before_it() {
    let (mut cloud, peer) = foreseeing(12);
    for _ in 0..2 {
        let batch = drain(&mut cloud).1.expect("a block of the prompt");
        cloud.handle_compute(at(1), done(&batch));
    }
    let batch = drain(&mut cloud).1.expect("the rest, up to the newest position");
    cloud.handle_frame(at(2), peer, ask(10));
    cloud.handle_frame(at(2), peer, ask(11));
    cloud.handle_compute(at(3), done(&batch));
    assert_eq!(answered(&mut cloud, 4), [(peer, 10), (peer, 11)]);
}

#[test]
fn a_wrong_guess_that_was_foreseen_rolls_back_at_once() {
    let (mut cloud, peer) = foreseeing(11);
    while let Some(batch) = drain(&mut cloud).1 {
        cloud.handle_compute(at(1), done(&batch));
    }
    cloud.handle_frame(at(2), peer, guess(10, 7));
    let [answer] = &answers(drain(&mut cloud).0)[..] else { panic!("one answer") };
    assert_ne!(answer.token, TokenId(7));
    // States of the epoch before are dropped without a word.
    cloud.handle_frame(at(3), peer, states_from(11, 1));
    assert_eq!(drain(&mut cloud), (vec![], None));
}

/// Runs batches of a millisecond until none is wanted; what they answer.
fn all_answers(cloud: &mut Cloud) -> Vec<Answer> {
    let mut told = Vec::new();
    loop {
        let (outputs, batch) = drain(cloud);
        told.extend(answers(outputs));
        let Some(batch) = batch else { return told };
        cloud.handle_compute(at(4), done(&batch));
    }
}

#[test]
fn right_guesses_are_confirmed_in_the_frame_of_the_answer_that_follows_them() {
    let (mut cloud, peer) = (cloud(1, 64), PeerId(1));
    // The first begins a batch, for which the others wait.
    for frame in
        [open(1, Feed::States(Encoding::F16)), states(13), guess(8, 1), guess(10, 1), guess(11, 7), guess(12, 1)]
    {
        cloud.handle_frame(at(1), peer, frame);
    }
    let told = all_answers(&mut cloud);
    let positions: Vec<_> = told.iter().map(|answer| (answer.confirmed.len(), answer.position.0)).collect();
    assert_eq!(positions, [(0, 8), (1, 11)], "and what was guessed behind a wrong guess is void");
    assert_eq!(told[1].confirmed, [Confirmed { confidence: 0.5, log_probs: None }]);
    let compute = Duration::from_millis(1) * 3 / 4;
    assert_eq!((told[1].rows, told[1].compute), (3, compute), "of both, out of a batch of four");
    assert_eq!(told[1].queued, Duration::from_millis(3) - compute, "since the first of them came");
}

#[test]
fn nothing_is_confirmed_that_was_not_guessed() {
    let (mut cloud, peer) = (cloud(1, 64), PeerId(1));
    for frame in [open(1, Feed::States(Encoding::F16)), states(11), ask(8), ask(9), guess(10, 1)] {
        cloud.handle_frame(at(1), peer, frame);
    }
    let told = all_answers(&mut cloud);
    let positions: Vec<_> = told.iter().map(|answer| (answer.confirmed.len(), answer.position.0)).collect();
    assert_eq!(positions, [(0, 8), (0, 9), (0, 10)]);
}

#[test]
fn no_session_loses_its_slot_to_a_prompt_that_nobody_asks_about() {
    let mut cloud = Cloud::new(CloudConfig { ahead: Ahead::Prompts, ..config(1, 64) });
    let (first, second) = (PeerId(1), PeerId(2));
    cloud.handle_frame(at(0), first, open(1, Feed::States(Encoding::F16)));
    cloud.handle_frame(at(0), first, states(4));
    assert!(wanted(&mut cloud).is_some());
    cloud.handle_compute(at(1), computed(1));
    // Long after the first session had its slot for as long as it may hold it.
    cloud.handle_frame(at(1_000), second, open(2, Feed::States(Encoding::F16)));
    cloud.handle_frame(at(1_000), second, states(4));
    assert_eq!(wanted(&mut cloud), None);
    cloud.handle_frame(at(1_001), second, ask(3));
    assert_eq!(wanted(&mut cloud), Some((0, 4)), "who asks is served");
}

/// Whether the cloud wants its engine interrupted.
fn interrupts(cloud: &mut Cloud) -> bool {
    drain(cloud).0.contains(&Output::Interrupt)
}

#[test]
fn what_a_wrong_guess_made_void_is_interrupted_once_and_computed_anew() {
    let (mut cloud, peer) = foreseeing(10);
    for _ in 0..3 {
        let batch = drain(&mut cloud).1.expect("the prompt");
        cloud.handle_compute(at(4), done(&batch));
    }
    cloud.handle_frame(at(5), peer, states_from(10, 1));
    assert_eq!(drain(&mut cloud).1.map(|batch| batch.parts[0].first), Some(Position(10)));
    cloud.handle_frame(at(6), peer, guess(9, 2));
    assert!(interrupts(&mut cloud));
    assert!(!interrupts(&mut cloud), "it is said once");
    cloud.handle_compute(at(7), BatchOutcome::Interrupted { compute: Duration::from_millis(2) });
    assert_eq!(wanted(&mut cloud), None);

    let ToCloud::States { first, block, tokens, .. } = states_from(10, 1) else { unreachable!() };
    cloud.handle_frame(at(8), peer, ToCloud::States { epoch: Epoch(1), first, block, tokens });
    let batch = drain(&mut cloud).1.expect("the right one");
    assert_eq!(batch.parts[0].first, Position(10));
    cloud.handle_compute(at(9), done_in(3, &batch));
    cloud.handle_frame(at(10), peer, ToCloud::Ask(Ask { epoch: Epoch(1), position: Position(10), guess: None }));
    let [answer] = &answers(drain(&mut cloud).0)[..] else { panic!("one answer") };
    let told = (answer.unasked, answer.unasked_rows);
    assert_eq!(told, (Duration::from_millis(2 + 3), 2), "what was computed in vain is told, too");
}

#[test]
fn a_batch_is_interrupted_when_the_last_session_in_it_has_left() {
    let mut cloud = cloud(3, 64);
    for session in 1..=3 {
        for frame in [open(session, Feed::States(Encoding::F16)), states(3), ask(2)] {
            cloud.handle_frame(at(0), PeerId(session), frame);
        }
    }
    let batch = drain(&mut cloud).1.expect("the first's");
    cloud.handle_frame(at(1), PeerId(1), ToCloud::Close);
    assert!(interrupts(&mut cloud), "its only session has left");
    // It was done before it was interrupted.
    cloud.handle_compute(at(2), done(&batch));

    let batch = drain(&mut cloud).1.expect("the others'");
    assert_eq!(batch.parts.len(), 2);
    cloud.handle_frame(at(3), PeerId(2), ToCloud::Close);
    assert!(!interrupts(&mut cloud), "the third waits for it");
    cloud.handle_frame(at(3), PeerId(3), ToCloud::Close);
    assert!(interrupts(&mut cloud));
    cloud.handle_compute(at(4), BatchOutcome::Interrupted { compute: Duration::from_millis(1) });
    assert_eq!((cloud.occupancy().contexts, drain(&mut cloud)), (0, (vec![], None)));
}
