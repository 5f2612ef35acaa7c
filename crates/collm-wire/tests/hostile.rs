//! What a peer may get wrong, one rule at a time, and the exact error that names it.

use collm_core::{
    frame::{Feed, Identity, Open, PROTOCOL, Refusal, RefusalCode, ToEdge},
    ids::{Epoch, SessionId},
    limits::Limits,
    sampling::Sampling,
    states::{Encoding, StatesError},
};
use collm_wire::{
    SessionParser, WireError, parse_open,
    proto::{self, CloudFrame, EdgeFrame, cloud_frame, edge_frame::Frame},
};

const LIMITS: Limits =
    Limits { upload_rows_max: 4, recent_tokens_max: 3, stop_tokens_max: 2, text_chars_max: 8, ..Limits::DEFAULT };
const VOCABULARY: u32 = 100;
const BEYOND: u32 = (1 << 30) + 1;

fn open(feed: Feed) -> Open {
    let identity = Identity { pair: "aa".into(), source: "bb".into(), upload_at: 10, width: 2, vocabulary: VOCABULARY };
    let sampling = Sampling { repeat_last_n: 3, ..Sampling::GREEDY };
    Open {
        protocol: PROTOCOL,
        identity,
        session: SessionId(7),
        epoch: Epoch(0),
        prompt: 1,
        feed,
        sampling,
        tells_tokens: false,
        attempt: 1,
    }
}

fn edge(frame: Frame) -> EdgeFrame {
    EdgeFrame { frame: Some(frame) }
}

/// What the cloud makes of an `Open` after `damage`.
fn opened(damage: impl FnOnce(&mut proto::Open)) -> Result<Open, WireError> {
    let mut message = proto::Open::from(open(Feed::Tokens));
    damage(&mut message);
    parse_open(edge(Frame::Open(message)), &LIMITS)
}

#[track_caller]
fn refuses_open(error: WireError, damage: impl FnOnce(&mut proto::Open)) {
    assert_eq!(opened(damage), Err(error));
}

#[track_caller]
fn refuses(feed: Feed, frame: Frame, error: WireError) {
    let parser = SessionParser::new(&open(feed), LIMITS);
    assert_eq!(parser.to_cloud(edge(frame)), Err(error));
}

#[track_caller]
fn edge_refuses(frame: cloud_frame::Frame, error: WireError) {
    let parser = SessionParser::new(&open(Feed::Tokens), LIMITS);
    assert_eq!(parser.to_edge(CloudFrame { frame: Some(frame) }), Err(error));
}

fn too_large(field: &'static str) -> WireError {
    WireError::TooLarge { field, value: BEYOND, max: 1 << 30 }
}

fn f16_rows(bits: &[u16]) -> bytes::Bytes {
    bits.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<_>>().into()
}

const F16: Feed = Feed::States(Encoding::F16);
const ONE: u16 = 0x3c00;
const INFINITY: u16 = 0x7c00;

#[test]
fn an_undamaged_open_passes() {
    assert_eq!(opened(|_| {}), Ok(open(Feed::Tokens)));
}

#[test]
fn open_breaks_one_rule() {
    refuses_open(WireError::Missing { field: "identity" }, |open| open.identity = None);
    refuses_open(WireError::Missing { field: "sampling" }, |open| open.sampling = None);
    refuses_open(WireError::SessionId { bytes: 15 }, |open| open.session_id = vec![0; 15].into());
    refuses_open(WireError::SessionId { bytes: 0 }, |open| open.session_id.clear());
    refuses_open(WireError::UnknownFeed { value: 0 }, |open| open.feed = 0);
    refuses_open(WireError::UnknownFeed { value: 77 }, |open| open.feed = 77);
    refuses_open(too_large("epoch"), |open| open.epoch = BEYOND);
    refuses_open(WireError::TextTooLong { field: "pair id", chars: 9, max: 8 }, |open| {
        open.identity.as_mut().unwrap().pair = "é".repeat(9);
    });
    refuses_open(WireError::TextTooLong { field: "source digest", chars: 9, max: 8 }, |open| {
        open.identity.as_mut().unwrap().source = "a".repeat(9);
    });
    let tokens = "tokens under the repetition penalty";
    refuses_open(WireError::TooMany { what: tokens, count: 4, max: 3 }, |open| {
        open.sampling.as_mut().unwrap().repeat_last_n_tokens = 4;
    });
}

#[test]
fn sampling_must_be_drawable() {
    type Set = fn(&mut proto::Sampling, f32);
    let settings: [(&str, Set); 7] = [
        ("temperature", |sampling, value| sampling.temperature = value),
        ("top_p", |sampling, value| sampling.top_p = value),
        ("min_p", |sampling, value| sampling.min_p = value),
        ("repeat_penalty", |sampling, value| sampling.repeat_penalty = value),
        ("presence_penalty", |sampling, value| sampling.presence_penalty = value * 3.0),
        ("frequency_penalty", |sampling, value| sampling.frequency_penalty = value * 3.0),
        ("logit_bias", |sampling, value| sampling.bias = vec![proto::Bias { token: 1, bias: value * 101.0 }]),
    ];
    for (name, set) in settings {
        for value in [f32::NAN, f32::INFINITY, -1.0] {
            let result = opened(|open| set(open.sampling.as_mut().unwrap(), value));
            assert!(
                matches!(&result, Err(WireError::Sampling(error)) if error.name == name),
                "{name} {value}: {result:?}"
            );
        }
    }
}

#[test]
fn lists_of_sampling_are_short() {
    let refused = |name, damage: fn(&mut proto::Sampling)| {
        let result = opened(|open| damage(open.sampling.as_mut().unwrap()));
        assert!(matches!(&result, Err(WireError::Sampling(error)) if error.name == name), "{name}: {result:?}");
    };
    refused("logit_bias", |sampling| sampling.bias = vec![proto::Bias::default(); 1025]);
    refused("top_logprobs", |sampling| sampling.log_probs = Some(21));
}

#[test]
fn another_version_is_named_before_anything_else() {
    refuses_open(WireError::Protocol { theirs: 2, ours: 1 }, |open| {
        *open = proto::Open { protocol: 2, feed: 99, ..proto::Open::default() };
    });
}

#[test]
fn a_stream_opens_once_and_first() {
    let result = parse_open(edge(Frame::Close(proto::Close {})), &LIMITS);
    assert_eq!(result, Err(WireError::NotOpen { frame: "close" }));
    refuses(Feed::Tokens, Frame::Open(open(Feed::Tokens).into()), WireError::OpenedAgain);
    assert_eq!(parse_open(EdgeFrame { frame: None }, &LIMITS), Err(WireError::NoFrame));
    let parser = SessionParser::new(&open(Feed::Tokens), LIMITS);
    assert_eq!(parser.to_cloud(EdgeFrame { frame: None }), Err(WireError::NoFrame));
    assert_eq!(parser.to_edge(CloudFrame { frame: None }), Err(WireError::NoFrame));
}

#[test]
fn states_break_one_rule() {
    let states =
        |epoch, first_position, rows| Frame::States(proto::States { epoch, first_position, rows, tokens: vec![] });
    let good = f16_rows(&[ONE, ONE]);
    refuses(Feed::Tokens, states(0, 0, good.clone()), WireError::WrongFeed { frame: "states" });
    refuses(F16, states(BEYOND, 0, good.clone()), too_large("epoch"));
    refuses(F16, states(0, BEYOND, good), too_large("position"));
    let length = |bytes| WireError::States(StatesError::Length { bytes, row_bytes: 4 });
    refuses(F16, states(0, 0, vec![].into()), length(0));
    refuses(F16, states(0, 0, vec![0; 6].into()), length(6));
    let rows = f16_rows(&[ONE, ONE, ONE, INFINITY]);
    refuses(F16, states(0, 0, rows), WireError::States(StatesError::NotFinite { row: 1 }));
    let rows = f16_rows(&[ONE; 10]);
    refuses(F16, states(0, 0, rows), WireError::TooMany { what: "rows", count: 5, max: 4 });
}

#[test]
fn states_come_with_one_token_a_row_or_none_as_announced() {
    let states = |tokens| Frame::States(proto::States { rows: f16_rows(&[ONE; 4]), tokens, ..Default::default() });
    let count = |count, wanted| WireError::Count { field: "tokens of states", count, wanted };
    refuses(F16, states(vec![1, 2]), count(2, 0));
    let telling = SessionParser::new(&Open { tells_tokens: true, ..open(F16) }, LIMITS);
    let told = |tokens| telling.to_cloud(edge(states(tokens)));
    assert!(told(vec![1, 2]).is_ok());
    assert_eq!(told(vec![]), Err(count(0, 2)));
    assert_eq!(told(vec![1, 2, 3]), Err(count(3, 2)));
    let stranger = WireError::Token { field: "tokens of states", token: 100, vocabulary: VOCABULARY };
    assert_eq!(told(vec![1, 100]), Err(stranger));
}

#[test]
fn a_width_of_zero_divides_nothing() {
    let mut open = open(F16);
    open.identity.width = 0;
    let states = proto::States { rows: vec![0; 8].into(), ..proto::States::default() };
    let result = SessionParser::new(&open, LIMITS).to_cloud(edge(Frame::States(states)));
    assert_eq!(result, Err(WireError::States(StatesError::Length { bytes: 8, row_bytes: 0 })));
}

#[test]
fn tokens_break_one_rule() {
    let tokens = |tokens: Vec<u32>| Frame::Tokens(proto::Tokens { epoch: 0, first_position: 0, tokens });
    refuses(F16, tokens(vec![1]), WireError::WrongFeed { frame: "tokens" });
    refuses(Feed::Tokens, tokens(vec![]), WireError::Empty { field: "tokens" });
    refuses(Feed::Tokens, tokens(vec![1; 5]), WireError::TooMany { what: "tokens", count: 5, max: 4 });
    let stranger = WireError::Token { field: "tokens", token: 100, vocabulary: VOCABULARY };
    refuses(Feed::Tokens, tokens(vec![99, 100]), stranger);
}

#[test]
fn ask_breaks_one_rule() {
    let ask = proto::Ask::default;
    refuses(F16, Frame::Ask(proto::Ask { epoch: BEYOND, ..ask() }), too_large("epoch"));
    refuses(F16, Frame::Ask(proto::Ask { position: BEYOND, ..ask() }), too_large("position"));
    let guess = WireError::Token { field: "guess", token: 100, vocabulary: VOCABULARY };
    refuses(F16, Frame::Ask(proto::Ask { guess_token: Some(100), ..ask() }), guess);
}

#[test]
fn generate_and_truncate_break_one_rule() {
    let generate = proto::Generate::default;
    refuses(F16, Frame::Generate(generate()), WireError::WrongFeed { frame: "generate" });
    let frame = Frame::Generate(proto::Generate { tokens_max: BEYOND, ..generate() });
    refuses(Feed::Tokens, frame, too_large("tokens_max"));
    let frame = Frame::Generate(proto::Generate { stop_tokens: vec![0; 3], ..generate() });
    refuses(Feed::Tokens, frame, WireError::TooMany { what: "stop tokens", count: 3, max: 2 });
    refuses(F16, Frame::Truncate(proto::Truncate { epoch: BEYOND, length_positions: 0 }), too_large("epoch"));
    refuses(F16, Frame::Truncate(proto::Truncate { epoch: 0, length_positions: BEYOND }), too_large("length"));
    refuses(F16, Frame::Park(proto::Park { epoch: BEYOND, length_positions: 0 }), too_large("epoch"));
    refuses(F16, Frame::Park(proto::Park { epoch: 0, length_positions: BEYOND }), too_large("length"));
    let turn = proto::Turn::default;
    refuses(F16, Frame::Turn(proto::Turn { epoch: BEYOND, ..turn() }), too_large("epoch"));
    refuses(F16, Frame::Turn(proto::Turn { length_positions: BEYOND, ..turn() }), too_large("length"));
    refuses(F16, Frame::Turn(proto::Turn { prompt_positions: BEYOND, ..turn() }), too_large("prompt positions"));
    refuses(F16, Frame::Turn(turn()), WireError::Missing { field: "sampling" });
}

#[test]
fn questions_and_answers_about_the_prompt_break_one_rule() {
    let score = proto::Score::default;
    refuses(F16, Frame::Score(proto::Score { epoch: BEYOND, ..score() }), too_large("epoch"));
    refuses(F16, Frame::Score(proto::Score { first_position: BEYOND, ..score() }), too_large("position"));
    refuses(F16, Frame::Score(proto::Score { end_position: BEYOND, ..score() }), too_large("position"));
    let scores = |log_probs| cloud_frame::Frame::Scores(proto::Scores { log_probs, ..Default::default() });
    edge_refuses(scores(vec![]), WireError::Empty { field: "scores" });
    let many = WireError::TooMany { what: "scores", count: 257, max: 256 };
    edge_refuses(scores(vec![proto::LogProbs::default(); 257]), many);
    let likely = proto::LogProbs { own: 1.0, ..Default::default() };
    edge_refuses(scores(vec![proto::LogProbs::default(), likely]), WireError::LogProb { value: 1.0 });
    let far = proto::Scores { first_position: BEYOND, log_probs: vec![Default::default()], ..Default::default() };
    edge_refuses(cloud_frame::Frame::Scores(far), too_large("position"));
}

#[test]
fn the_cloud_breaks_one_rule() {
    use cloud_frame::Frame;
    edge_refuses(Frame::Opened(proto::Opened { held_positions: BEYOND, takes: vec![] }), too_large("held"));
    edge_refuses(Frame::Missing(proto::Missing { epoch: 0, held_positions: BEYOND }), too_large("held"));
    let stranger = WireError::Token { field: "answer", token: 100, vocabulary: VOCABULARY };
    edge_refuses(Frame::Answer(proto::Answer { token: 100, ..proto::Answer::default() }), stranger);
    for value in [-0.1, 1.1, f32::INFINITY] {
        let answer = proto::Answer { confidence: value, ..proto::Answer::default() };
        edge_refuses(Frame::Answer(answer), WireError::Confidence { value });
        let confirmed = vec![proto::Confirmed { confidence: value, log_probs: None }];
        edge_refuses(Frame::Answer(proto::Answer { confirmed, ..Default::default() }), WireError::Confidence { value });
    }
    let confirmed = vec![proto::Confirmed::default(); 64];
    let many = WireError::TooMany { what: "asks answered at once", count: 65, max: 64 };
    edge_refuses(Frame::Answer(proto::Answer { confirmed, ..Default::default() }), many);
    let told = |own, top_tokens, top_log_probs| {
        let log_probs = Some(proto::LogProbs { own, top_tokens, top_log_probs });
        Frame::Answer(proto::Answer { log_probs, ..proto::Answer::default() })
    };
    for value in [0.1, f32::INFINITY, f32::NEG_INFINITY] {
        edge_refuses(told(value, vec![], vec![]), WireError::LogProb { value });
        edge_refuses(told(0.0, vec![1], vec![value]), WireError::LogProb { value });
    }
    let count = WireError::Count { field: "log-probabilities", count: 1, wanted: 2 };
    edge_refuses(told(0.0, vec![1, 2], vec![0.0]), count);
    let many = WireError::TooMany { what: "most likely tokens", count: 21, max: 20 };
    edge_refuses(told(0.0, vec![1; 21], vec![0.0; 21]), many);
    let stranger = WireError::Token { field: "most likely tokens", token: 100, vocabulary: VOCABULARY };
    edge_refuses(told(0.0, vec![100], vec![0.0]), stranger);
    let message = "a".repeat(9);
    let long = WireError::TextTooLong { field: "a refusal's message", chars: 9, max: 8 };
    edge_refuses(Frame::Refused(proto::Refused { code: 1, message }), long);
}

#[test]
fn a_confidence_that_is_no_number_is_refused() {
    let answer = proto::Answer { confidence: f32::NAN, ..proto::Answer::default() };
    let frame = CloudFrame { frame: Some(cloud_frame::Frame::Answer(answer)) };
    let result = SessionParser::new(&open(F16), LIMITS).to_edge(frame);
    assert!(matches!(result, Err(WireError::Confidence { .. })), "{result:?}");
}

#[test]
fn a_refusal_of_a_newer_cloud_is_still_a_refusal() {
    let refused = proto::Refused { code: 1000, message: "quota".into() };
    let frame = CloudFrame { frame: Some(cloud_frame::Frame::Refused(refused)) };
    let expected = Refusal { code: RefusalCode::Internal, message: "quota".into() };
    assert_eq!(SessionParser::new(&open(F16), LIMITS).to_edge(frame), Ok(ToEdge::Refused(expected)));
}

#[test]
fn the_cloud_says_which_side_is_at_fault() {
    let version = Refusal::from(WireError::Protocol { theirs: 2, ours: 1 });
    assert_eq!(version.code, RefusalCode::Protocol);
    let empty = Refusal::from(WireError::Empty { field: "tokens" });
    assert_eq!((empty.code, empty.message.as_str()), (RefusalCode::Malformed, "tokens is empty; send nothing instead"));
}
