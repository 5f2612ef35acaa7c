//! Core frames to messages. Cannot fail: a frame that exists is within its limits.

use std::time::Duration;

use bytes::Bytes;
use collm_core::{
    frame::{Answer, Ask, Confirmed, Feed, Identity, Open, Refusal, Scores, ToCloud, ToEdge, Turn},
    ids::TokenId,
    sampling::{LogProbs, Sampling},
    states::Encoding,
};

use crate::{
    grammar::emit_grammar,
    proto::{self, cloud_frame, edge_frame},
    refusal::emit_code,
};

impl From<ToCloud> for proto::EdgeFrame {
    fn from(frame: ToCloud) -> Self {
        use edge_frame::Frame;
        let frame = match frame {
            ToCloud::Open(open) => Frame::Open(open.into()),
            ToCloud::States { epoch, first, block, tokens } => Frame::States(proto::States {
                epoch: epoch.0,
                first_position: first.0,
                rows: block.bytes().clone(),
                tokens: numbers(&tokens),
            }),
            ToCloud::Tokens { epoch, first, tokens } => {
                Frame::Tokens(proto::Tokens { epoch: epoch.0, first_position: first.0, tokens: numbers(&tokens) })
            }
            ToCloud::Ask(ask) => Frame::Ask(ask.into()),
            ToCloud::Generate { epoch, position, tokens_max, stop } => Frame::Generate(proto::Generate {
                epoch: epoch.0,
                position: position.0,
                tokens_max,
                stop_tokens: numbers(&stop),
            }),
            ToCloud::Truncate { epoch, length } => {
                Frame::Truncate(proto::Truncate { epoch: epoch.0, length_positions: length })
            }
            ToCloud::Score { epoch, first, end } => {
                Frame::Score(proto::Score { epoch: epoch.0, first_position: first.0, end_position: end.0 })
            }
            ToCloud::Park { epoch, length } => Frame::Park(proto::Park { epoch: epoch.0, length_positions: length }),
            ToCloud::Turn(turn) => Frame::Turn(turn.into()),
            ToCloud::Close => Frame::Close(proto::Close {}),
        };
        Self { frame: Some(frame) }
    }
}

impl From<ToEdge> for proto::CloudFrame {
    fn from(frame: ToEdge) -> Self {
        use cloud_frame::Frame;
        let frame = match frame {
            ToEdge::Opened { held, takes } => {
                let takes = takes.into_iter().map(|feed| proto::Feed::from(feed).into()).collect();
                Frame::Opened(proto::Opened { held_positions: held, takes })
            }
            ToEdge::Answer(answer) => Frame::Answer(answer.into()),
            ToEdge::Scores(scores) => Frame::Scores(scores.into()),
            ToEdge::Missing { epoch, held } => Frame::Missing(proto::Missing { epoch: epoch.0, held_positions: held }),
            ToEdge::Refused(refusal) => Frame::Refused(refusal.into()),
        };
        Self { frame: Some(frame) }
    }
}

impl From<Open> for proto::Open {
    fn from(open: Open) -> Self {
        Self {
            protocol: open.protocol,
            identity: Some(open.identity.into()),
            session_id: Bytes::copy_from_slice(&open.session.0.to_be_bytes()),
            epoch: open.epoch.0,
            prompt_positions: open.prompt,
            feed: proto::Feed::from(open.feed).into(),
            sampling: Some(open.sampling.into()),
            tells_tokens: open.tells_tokens,
            attempt: open.attempt,
        }
    }
}

impl From<Turn> for proto::Turn {
    fn from(turn: Turn) -> Self {
        Self {
            epoch: turn.epoch.0,
            length_positions: turn.length,
            prompt_positions: turn.prompt,
            sampling: Some(turn.sampling.into()),
        }
    }
}

impl From<Identity> for proto::Identity {
    fn from(identity: Identity) -> Self {
        Self {
            pair: identity.pair,
            source: identity.source,
            upload_at_layer: identity.upload_at,
            width_floats: identity.width,
            vocabulary_tokens: identity.vocabulary,
        }
    }
}

impl From<Feed> for proto::Feed {
    fn from(feed: Feed) -> Self {
        match feed {
            Feed::States(Encoding::F16) => Self::StatesF16,
            Feed::States(Encoding::F32) => Self::StatesF32,
            Feed::States(Encoding::Int8) => Self::StatesInt8,
            Feed::States(Encoding::Rotated32) => Self::StatesRotated32,
            Feed::States(Encoding::Rotated22) => Self::StatesRotated22,
            Feed::Tokens => Self::Tokens,
        }
    }
}

impl From<Sampling> for proto::Sampling {
    fn from(sampling: Sampling) -> Self {
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            repeat_last_n_tokens: sampling.repeat_last_n,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            bias: sampling.bias.into_iter().map(|(token, bias)| proto::Bias { token: token.0, bias }).collect(),
            grammar: sampling.grammar.map(|grammar| emit_grammar(&grammar)),
            log_probs: sampling.log_probs,
            seed: sampling.seed,
        }
    }
}

impl From<Ask> for proto::Ask {
    fn from(ask: Ask) -> Self {
        Self { epoch: ask.epoch.0, position: ask.position.0, guess_token: ask.guess.map(|token| token.0) }
    }
}

impl From<Answer> for proto::Answer {
    fn from(answer: Answer) -> Self {
        Self {
            epoch: answer.epoch.0,
            position: answer.position.0,
            token: answer.token.0,
            confidence: answer.confidence,
            log_probs: answer.log_probs.map(Into::into),
            confirmed: answer.confirmed.into_iter().map(Into::into).collect(),
            compute_ns: nanoseconds(answer.compute),
            queued_ns: nanoseconds(answer.queued),
            unasked_ns: nanoseconds(answer.unasked),
            unasked_rows: answer.unasked_rows,
            rows: answer.rows,
        }
    }
}

impl From<Confirmed> for proto::Confirmed {
    fn from(confirmed: Confirmed) -> Self {
        Self { confidence: confirmed.confidence, log_probs: confirmed.log_probs.map(Into::into) }
    }
}

impl From<Scores> for proto::Scores {
    fn from(scores: Scores) -> Self {
        Self {
            epoch: scores.epoch.0,
            first_position: scores.first.0,
            log_probs: scores.log_probs.into_iter().map(Into::into).collect(),
            compute_ns: nanoseconds(scores.compute),
            queued_ns: nanoseconds(scores.queued),
        }
    }
}

impl From<LogProbs> for proto::LogProbs {
    fn from(told: LogProbs) -> Self {
        let (top_tokens, top_log_probs) = told.top.iter().map(|entry| (entry.token.0, entry.log_prob)).unzip();
        Self { own: told.own, top_tokens, top_log_probs }
    }
}

impl From<Refusal> for proto::Refused {
    fn from(refusal: Refusal) -> Self {
        Self { code: emit_code(refusal.code).into(), message: refusal.message }
    }
}

fn numbers(tokens: &[TokenId]) -> Vec<u32> {
    tokens.iter().map(|token| token.0).collect()
}

/// 64 bits of nanoseconds are 584 years.
fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
