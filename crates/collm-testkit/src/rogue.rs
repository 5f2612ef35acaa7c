//! Frames that parse and make no sense: from a stranger to a cloud, or from a broken cloud to an edge.

use bytes::Bytes;
use collm_core::{
    frame::{Answer, Ask, Confirmed, Feed, Open, PROTOCOL, Refusal, RefusalCode, ToCloud, ToEdge, Turn},
    ids::{Epoch, Position, SessionId, TokenId},
    sampling::Sampling,
    states::{Encoding, StateBlock},
};
use collm_engine::scripted::{Script, WIDTH};

use crate::{plan::identity, random::Random};

/// What a stranger sends on one stream. Its session id is its own: it cannot guess those of others.
pub(crate) fn frames_to_cloud(random: &mut Random, script: &Script) -> Vec<ToCloud> {
    let count = random.within(0..=6);
    let mut frames: Vec<ToCloud> = (0..count).map(|_| frame_to_cloud(random)).collect();
    if random.chance(0.8) {
        frames.insert(0, ToCloud::Open(open(random, script)));
    }
    frames
}

fn open(random: &mut Random, script: &Script) -> Open {
    let mut identity = identity(script);
    if random.chance(0.2) {
        identity.pair = "another pair".into();
    }
    Open {
        protocol: PROTOCOL + u32::from(random.chance(0.1)),
        identity,
        session: SessionId(u128::from(random.bits()) << 64),
        attempt: random.count(0..=3),
        epoch: epoch(random),
        prompt: random.count(0..=u32::MAX),
        feed: feed(random),
        sampling: Sampling::GREEDY,
        tells_tokens: random.chance(0.3),
    }
}

fn frame_to_cloud(random: &mut Random) -> ToCloud {
    let (epoch, position) = (epoch(random), position(random));
    match random.within(0..=8) {
        0 => {
            let block = block(random);
            let told = random.pick(&[0, block.rows() as usize]);
            ToCloud::States { epoch, first: position, block, tokens: vec![token(random); told] }
        }
        1 => ToCloud::Tokens { epoch, first: position, tokens: vec![token(random); random.within(1..=9) as usize] },
        2 => ToCloud::Ask(Ask { epoch, position, guess: Some(token(random)) }),
        3 => ToCloud::Generate { epoch, position, tokens_max: random.count(0..=u32::MAX), stop: vec![] },
        4 => ToCloud::Score { epoch, first: position, end: self::position(random) },
        5 => ToCloud::Truncate { epoch, length: position.0 },
        6 => ToCloud::Park { epoch, length: position.0 },
        7 => ToCloud::Turn(Turn { epoch, length: position.0, prompt: random.count(0..=9), sampling: Sampling::GREEDY }),
        _ => ToCloud::Close,
    }
}

/// Finite states, of a width that may be wrong.
fn block(random: &mut Random) -> StateBlock {
    let encoding = random.pick(&Encoding::ALL);
    let width = random.pick(&[1, WIDTH as u32]);
    let rows = random.within(1..=9) as usize;
    let bytes = Bytes::from(vec![0; rows * encoding.row_bytes(width)]);
    StateBlock::parse(encoding, width, bytes).expect("zeros are finite")
}

/// Guesses that nobody made.
fn confirmed(random: &mut Random) -> Vec<Confirmed> {
    vec![Confirmed { confidence: 0.5, log_probs: None }; random.within(1..=63) as usize]
}

/// Never what an honest cloud would send at this moment, so nothing that the answer could be blamed for.
pub(crate) fn frame_to_edge(random: &mut Random, script: &Script) -> ToEdge {
    let answer = |position, token| {
        let nothing = std::time::Duration::ZERO;
        Answer {
            epoch: Epoch(0),
            position,
            token,
            confidence: 0.5,
            log_probs: None,
            confirmed: vec![],
            compute: nothing,
            queued: nothing,
            unasked: nothing,
            unasked_rows: 0,
            rows: 0,
        }
    };
    match random.within(0..=6) {
        0 => ToEdge::Answer(answer(Position(u32::MAX), TokenId(1))),
        1 => ToEdge::Answer(answer(Position(0), TokenId(script.vocabulary as u32))),
        2 => ToEdge::Answer(Answer { confirmed: confirmed(random), ..answer(Position(u32::MAX), TokenId(1)) }),
        3 => ToEdge::Missing { epoch: Epoch(0), held: u32::MAX },
        4 => ToEdge::Missing { epoch: Epoch(u32::MAX), held: 0 },
        5 => ToEdge::Opened { held: u32::MAX, takes: [feed(random)].into() },
        _ => ToEdge::Refused(Refusal { code: RefusalCode::Internal, message: "for no reason".into() }),
    }
}

fn feed(random: &mut Random) -> Feed {
    let states = Feed::States(random.pick(&Encoding::ALL));
    random.pick(&[Feed::Tokens, states, states])
}

fn epoch(random: &mut Random) -> Epoch {
    Epoch(random.pick(&[0, 0, 1, u32::MAX]))
}

fn position(random: &mut Random) -> Position {
    Position(random.pick(&[0, 0, 1, 5, 1000, u32::MAX]))
}

fn token(random: &mut Random) -> TokenId {
    TokenId(random.pick(&[0, 1, 63, 64, u32::MAX]))
}
