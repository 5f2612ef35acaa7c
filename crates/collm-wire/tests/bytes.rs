//! The bytes of version 1. Two builds that disagree about them would not understand one another, so a changed field
//! number or type fails here first. Do not update an expectation: add fields, or raise the protocol version.

use std::{collections::BTreeSet, time::Duration};

use collm_core::{
    frame::{
        Answer, Ask, Confirmed, Feed, Identity, Open, PROTOCOL, Refusal, RefusalCode, Scores, ToCloud, ToEdge, Turn,
    },
    ids::{Epoch, Position, SessionId, TokenId},
    sampling::{LogProb, LogProbs, Sampling},
    states::{Encoding, StateBlock},
};
use collm_wire::{
    frame_bytes,
    proto::{CloudFrame, EdgeFrame},
};
use prost::Message;

fn hex(message: &impl Message) -> String {
    message.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn up(frame: ToCloud) -> String {
    hex(&EdgeFrame::from(frame))
}

fn down(frame: ToEdge) -> String {
    hex(&CloudFrame::from(frame))
}

#[test]
fn open() {
    let identity = Identity { pair: "ab".into(), source: "cd".into(), upload_at: 10, width: 576, vocabulary: 49_152 };
    let sampling = Sampling {
        temperature: 0.5,
        top_k: 40,
        top_p: 0.75,
        min_p: 0.25,
        repeat_penalty: 1.5,
        repeat_last_n: 64,
        seed: 0x0102_0304_0506_0708,
        ..Sampling::GREEDY
    };
    let session = SessionId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    let feed = Feed::States(Encoding::F32);
    let epoch = Epoch(3);
    let frame = Open {
        protocol: PROTOCOL,
        identity,
        session,
        attempt: 2,
        epoch,
        prompt: 5,
        feed,
        sampling,
        tells_tokens: false,
    };
    assert_eq!(
        up(ToCloud::Open(frame.clone())),
        "0a52080112110a02616212026364180a20c004288080031a1000112233445566778899aabbccddeeff2003280232210d0000003f10281d0000403f250000803e2d0000c03f304039080706050403020138054802"
    );
    let sampling = Sampling {
        presence_penalty: 0.5,
        frequency_penalty: -0.5,
        bias: vec![(TokenId(300), 1.0)],
        log_probs: Some(0),
        seed: 0,
        ..frame.sampling
    };
    let telling = up(ToCloud::Open(Open { sampling, tells_tokens: true, ..frame }));
    assert_eq!(&telling[telling.len() - 68..], "0000c03f3040450000003f4d000000bf520808ac02150000803f5800380540014802");
}

#[test]
fn frames_of_the_edge() {
    let (epoch, position, first) = (Epoch(1), Position(2), Position(2));
    let tokens = vec![TokenId(3), TokenId(300)];
    let block = StateBlock::parse(Encoding::F16, 1, vec![0x00, 0x3c].into()).expect("a finite row");
    let ask = Ask { epoch, position, guess: Some(TokenId(0)) };
    assert_eq!(up(ToCloud::States { epoch, first, block: block.clone(), tokens: vec![] }), "1208080110021a02003c");
    let told = ToCloud::States { epoch, first, block, tokens: vec![TokenId(300)] };
    assert_eq!(up(told), "120c080110021a02003c2202ac02");
    assert_eq!(up(ToCloud::Tokens { epoch, first, tokens: tokens.clone() }), "1a09080110021a0303ac02");
    assert_eq!(up(ToCloud::Ask(ask)), "2206080110021800");
    assert_eq!(up(ToCloud::Generate { epoch, position, tokens_max: 9, stop: tokens }), "2a0b080110021809220303ac02");
    assert_eq!(up(ToCloud::Truncate { epoch, length: 5 }), "320408011005");
    assert_eq!(up(ToCloud::Score { epoch, first, end: Position(9) }), "4206080110021809");
    assert_eq!(up(ToCloud::Park { epoch, length: 64 }), "4a0408011040");
    let turn = Turn { epoch, length: 64, prompt: 90, sampling: Sampling { seed: 1, ..Sampling::GREEDY } };
    assert_eq!(up(ToCloud::Turn(turn)), "521d08011040185a22151d0000803f2d0000803f3040390100000000000000");
    assert_eq!(up(ToCloud::Close), "3a00");
}

#[test]
fn frames_of_the_cloud() {
    let epoch = Epoch(1);
    let answer = Answer {
        epoch,
        position: Position(2),
        token: TokenId(300),
        confidence: 0.5,
        log_probs: None,
        confirmed: vec![],
        compute: Duration::from_nanos(4),
        queued: Duration::from_nanos(5),
        unasked: Duration::from_nanos(6),
        rows: 7,
        unasked_rows: 8,
    };
    let refusal = Refusal { code: RefusalCode::Superseded, message: "no".into() };
    assert_eq!(down(ToEdge::Opened { held: 7, takes: BTreeSet::new() }), "0a020807");
    assert_eq!(down(ToEdge::Answer(answer.clone())), "12160801100218ac02250000003f28043005400648075008");
    let top = vec![LogProb { token: TokenId(300), log_prob: -0.5 }];
    let telling = Answer { log_probs: Some(LogProbs { own: -0.5, top }), ..answer.clone() };
    assert_eq!(
        down(ToEdge::Answer(telling)),
        "12270801100218ac02250000003f280430053a0f0d000000bf1202ac021a04000000bf400648075008"
    );
    let confirmed = vec![Confirmed { confidence: 0.5, log_probs: None }; 2];
    assert_eq!(
        down(ToEdge::Answer(Answer { confirmed, ..answer })),
        "12240801100218ac02250000003f280430054006480750085a050d0000003f5a050d0000003f"
    );
    let log_probs = vec![LogProbs { own: -0.5, top: vec![] }];
    let (compute, queued) = (Duration::from_nanos(4), Duration::from_nanos(5));
    let scores = Scores { epoch, first: Position(2), log_probs, compute, queued };
    assert_eq!(down(ToEdge::Scores(scores)), "2a0f080110021a050d000000bf20042805");
    assert_eq!(down(ToEdge::Missing { epoch, held: 7 }), "1a0408011007");
    assert_eq!(down(ToEdge::Refused(refusal)), "2206080912026e6f");
}

#[test]
fn codes_keep_their_numbers() {
    use RefusalCode::{Busy, ContextLength, Draining, Feed, Identity, Internal, Key, Malformed, Protocol, Superseded};
    let codes = [Protocol, Identity, Feed, Malformed, ContextLength, Busy, Draining, Internal, Superseded, Key];
    for (code, number) in codes.into_iter().zip(1..) {
        let refusal = Refusal { code, message: String::new() };
        assert_eq!(down(ToEdge::Refused(refusal)), format!("220208{number:02x}"), "{code:?}");
    }
}

/// The table in docs/protocol.md.
#[test]
fn one_position_takes_what_the_documents_say() {
    let (epoch, first) = (Epoch(1), Position(1_000));
    let states = |encoding: Encoding, width| {
        let zeros = vec![0; encoding.row_bytes(width)];
        let block = StateBlock::parse(encoding, width, zeros.into()).expect("a finite row");
        frame_bytes(&EdgeFrame::from(ToCloud::States { epoch, first, block, tokens: vec![] }))
    };
    let table = [576, 2_048, 4_096].map(|width| (states(Encoding::F16, width), states(Encoding::F32, width)));
    assert_eq!(table, [(1_168, 2_320), (4_112, 8_208), (8_208, 16_402)]);
    let token = ToCloud::Tokens { epoch, first, tokens: vec![TokenId(40_000)] };
    assert_eq!(frame_bytes(&EdgeFrame::from(token)), 17);
    let ask = Ask { epoch, position: first, guess: Some(TokenId(40_000)) };
    assert_eq!(frame_bytes(&EdgeFrame::from(ToCloud::Ask(ask))), 16);
}
