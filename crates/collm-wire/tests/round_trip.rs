//! Every frame survives the way through messages and bytes, and no bytes do more harm than an error.

use std::time::Duration;

use bytes::Bytes;
use collm_core::{
    frame::{
        Answer, Ask, Confirmed, Feed, Identity, Open, PROTOCOL, Refusal, RefusalCode, Scores, ToCloud, ToEdge, Turn,
    },
    grammar::{Grammar, Step},
    ids::{Epoch, Position, SessionId, TokenId},
    limits::Limits,
    sampling::{LogProb, LogProbs, Sampling},
    states::{Encoding, StateBlock},
};
use collm_wire::{
    SessionParser, frame_bytes, parse_open,
    proto::{CloudFrame, EdgeFrame},
};
use proptest::{collection::vec, prelude::*};
use prost::Message;

const VOCABULARY: u32 = 49_152;
const WIDTH: u32 = 6;
const LIMITS: Limits = Limits::DEFAULT;

fn count() -> impl Strategy<Value = u32> {
    0..=1u32 << 30
}

fn epoch() -> impl Strategy<Value = Epoch> {
    count().prop_map(Epoch)
}

fn position() -> impl Strategy<Value = Position> {
    count().prop_map(Position)
}

fn token() -> impl Strategy<Value = TokenId> {
    (0..VOCABULARY).prop_map(TokenId)
}

fn feed() -> impl Strategy<Value = Feed> {
    let feeds = Encoding::ALL.into_iter().map(Feed::States).chain([Feed::Tokens]);
    prop::sample::select(feeds.collect::<Vec<_>>())
}

prop_compose! {
    fn sampling()(
        (temperature, top_k, top_p, min_p) in (0.0f32..=100.0, any::<u32>(), 1e-6f32..=1.0, 0.0f32..=1.0),
        (repeat_penalty, repeat_last_n, seed) in (0.1f32..=100.0, 0u32..=1024, any::<u64>()),
        (presence_penalty, frequency_penalty) in (-2.0f32..=2.0, -2.0f32..=2.0),
        (bias, log_probs) in (vec((token(), -100.0f32..=100.0), 0..=9), prop::option::of(0u32..=20)),
        grammar in prop::option::of(grammar()),
    ) -> Sampling {
        Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            repeat_last_n,
            presence_penalty,
            frequency_penalty,
            bias,
            grammar,
            log_probs,
            seed,
        }
    }
}

prop_compose! {
    fn open()(
        (pair, source, upload_at) in ("[0-9a-f]{0,64}", "\\PC{0,64}", any::<u32>()),
        (session, epoch, prompt, feed, sampling) in (any::<u128>(), epoch(), count(), feed(), sampling()),
        (tells_tokens, attempt) in (any::<bool>(), any::<u32>()),
    ) -> Open {
        let identity = Identity { pair, source, upload_at, width: WIDTH, vocabulary: VOCABULARY };
        let session = SessionId(session);
        Open { protocol: PROTOCOL, identity, session, attempt, epoch, prompt, feed, sampling, tells_tokens }
    }
}

/// Rows of zeros but for one byte, which no encoding takes for a part of a value that is not finite.
fn block(encoding: Encoding) -> impl Strategy<Value = StateBlock> {
    (1..=LIMITS.upload_rows_max, 0u8..0x7c).prop_map(move |(rows, byte)| {
        let mut bytes = vec![0; rows as usize * encoding.row_bytes(WIDTH)];
        *bytes.last_mut().expect("at least one row") = byte;
        StateBlock::parse(encoding, WIDTH, bytes.into()).expect("finite rows")
    })
}

fn upload(open: &Open) -> BoxedStrategy<ToCloud> {
    let told = open.tells_tokens;
    match open.feed {
        Feed::States(encoding) => (epoch(), position(), block(encoding), token())
            .prop_map(move |(epoch, first, block, token)| {
                let tokens = vec![token; if told { block.rows() as usize } else { 0 }];
                ToCloud::States { epoch, first, block, tokens }
            })
            .boxed(),
        Feed::Tokens => prop_oneof![
            (epoch(), position(), vec(token(), 1..=64)).prop_map(|(epoch, first, tokens)| ToCloud::Tokens {
                epoch,
                first,
                tokens
            }),
            (epoch(), position(), count(), vec(token(), 0..=64)).prop_map(|(epoch, position, tokens_max, stop)| {
                ToCloud::Generate { epoch, position, tokens_max, stop }
            }),
        ]
        .boxed(),
    }
}

fn to_cloud(open: &Open) -> impl Strategy<Value = ToCloud> + use<> {
    prop_oneof![
        4 => upload(open),
        2 => (epoch(), position(), prop::option::of(token()))
            .prop_map(|(epoch, position, guess)| ToCloud::Ask(Ask { epoch, position, guess })),
        1 => (epoch(), count()).prop_map(|(epoch, length)| ToCloud::Truncate { epoch, length }),
        1 => (epoch(), position(), position()).prop_map(|(epoch, first, end)| ToCloud::Score { epoch, first, end }),
        1 => (epoch(), count()).prop_map(|(epoch, length)| ToCloud::Park { epoch, length }),
        1 => (epoch(), count(), count(), sampling())
            .prop_map(|(epoch, length, prompt, sampling)| ToCloud::Turn(Turn { epoch, length, prompt, sampling })),
        1 => Just(ToCloud::Close),
    ]
}

/// Of steps that lead to steps.
fn grammar() -> impl Strategy<Value = Grammar> {
    let step =
        (0..5, any::<u8>(), any::<u8>(), 0..4u32, 0..4u32).prop_map(|(kind, low, high, one, other)| match kind {
            0 => Step::Byte { low, high },
            1 => Step::Either(one, other),
            2 => Step::Jump(one),
            3 => Step::Call(one),
            _ => Step::Return,
        });
    vec(step, 4..9).prop_map(|mut steps| {
        // What goes on leads somewhere.
        steps.push(Step::Return);
        Grammar::parse(steps).expect("all targets are among the first four")
    })
}

fn refusal_code() -> impl Strategy<Value = RefusalCode> {
    use RefusalCode::{Busy, ContextLength, Draining, Feed, Identity, Internal, Key, Malformed, Protocol, Superseded};
    let codes = [Protocol, Identity, Feed, Malformed, ContextLength, Busy, Draining, Internal, Superseded, Key];
    prop::sample::select(codes.to_vec())
}

fn log_probs() -> impl Strategy<Value = LogProbs> {
    let log_prob = || -1e9f32..=0.0;
    let entry = (token(), log_prob()).prop_map(|(token, log_prob)| LogProb { token, log_prob });
    (log_prob(), vec(entry, 0..=20)).prop_map(|(own, top)| LogProbs { own, top })
}

prop_compose! {
    fn confirmed()(confidence in 0.0f32..=1.0, log_probs in prop::option::of(log_probs())) -> Confirmed {
        Confirmed { confidence, log_probs }
    }
}

prop_compose! {
    fn answer()(
        (epoch, position, token, confidence) in (epoch(), position(), token(), 0.0f32..=1.0),
        (compute, queued, unasked) in (any::<u64>(), any::<u64>(), any::<u64>()),
        (rows, unasked_rows) in (any::<u32>(), any::<u32>()),
        (log_probs, confirmed) in (prop::option::of(log_probs()), vec(confirmed(), 0..=5)),
    ) -> Answer {
        let [compute, queued, unasked] = [compute, queued, unasked].map(Duration::from_nanos);
        Answer { epoch, position, token, confidence, log_probs, confirmed, compute, queued, unasked, rows, unasked_rows }
    }
}

prop_compose! {
    fn scores()(
        (epoch, first, log_probs) in (epoch(), position(), vec(log_probs(), 1..=9)),
        (compute, queued) in (any::<u64>(), any::<u64>()),
    ) -> Scores {
        let (compute, queued) = (Duration::from_nanos(compute), Duration::from_nanos(queued));
        Scores { epoch, first, log_probs, compute, queued }
    }
}

fn to_edge() -> impl Strategy<Value = ToEdge> {
    prop_oneof![
        (count(), vec(feed(), 0..9))
            .prop_map(|(held, takes)| ToEdge::Opened { held, takes: takes.into_iter().collect() }),
        answer().prop_map(ToEdge::Answer),
        scores().prop_map(ToEdge::Scores),
        (epoch(), count()).prop_map(|(epoch, held)| ToEdge::Missing { epoch, held }),
        (refusal_code(), "\\PC{0,200}").prop_map(|(code, message)| ToEdge::Refused(Refusal { code, message })),
    ]
}

/// Through bytes and back.
fn sent<M: Message + Default>(message: &M) -> M {
    let bytes = message.encode_to_vec();
    assert_eq!(frame_bytes(message), 5 + bytes.len());
    M::decode(Bytes::from(bytes)).expect("just encoded")
}

proptest! {
    #[test]
    fn open_survives(open in open()) {
        let frame: EdgeFrame = ToCloud::Open(open.clone()).into();
        prop_assert_eq!(parse_open(sent(&frame), &LIMITS), Ok(open));
    }

    #[test]
    fn frames_survive_the_way_up((open, frame) in open().prop_flat_map(|open| {
        let frame = to_cloud(&open);
        (Just(open), frame)
    })) {
        let message: EdgeFrame = frame.clone().into();
        prop_assert_eq!(SessionParser::new(&open, LIMITS).to_cloud(sent(&message)), Ok(frame));
    }

    #[test]
    fn frames_survive_the_way_down(open in open(), frame in to_edge()) {
        let message: CloudFrame = frame.clone().into();
        prop_assert_eq!(SessionParser::new(&open, LIMITS).to_edge(sent(&message)), Ok(frame));
    }

    #[test]
    fn no_bytes_panic(open in open(), bytes in vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let parser = SessionParser::new(&open, LIMITS);
        if let Ok(frame) = EdgeFrame::decode(bytes.clone()) {
            let _ = parse_open(frame.clone(), &LIMITS);
            let _ = parser.to_cloud(frame);
        }
        if let Ok(frame) = CloudFrame::decode(bytes) {
            let _ = parser.to_edge(frame);
        }
    }

    /// Random bytes are rarely a message. One changed byte of a good one often is.
    #[test]
    fn no_damaged_frame_panics_or_breaks_a_limit(
        (open, frame) in open().prop_flat_map(|open| { let frame = to_cloud(&open); (Just(open), frame) }),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = EdgeFrame::from(frame).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let Ok(message) = EdgeFrame::decode(Bytes::from(bytes)) else { return Ok(()) };
        match SessionParser::new(&open, LIMITS).to_cloud(message) {
            Ok(ToCloud::States { block, .. }) => prop_assert!(block.rows() <= LIMITS.upload_rows_max),
            Ok(ToCloud::Tokens { tokens, .. }) => prop_assert!(tokens.iter().all(|token| token.0 < VOCABULARY)),
            Ok(ToCloud::Ask(ask)) => prop_assert!(ask.guess.is_none_or(|token| token.0 < VOCABULARY)),
            Ok(ToCloud::Truncate { length, .. }) => prop_assert!(length <= 1 << 30),
            Ok(_) | Err(_) => {}
        }
    }
}
