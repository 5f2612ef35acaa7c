//! Messages to core frames: every rule that a single frame can break is checked here, once.

use std::time::Duration;

use bytes::Bytes;
use collm_core::{
    frame::{Answer, Ask, Confirmed, Feed, Identity, Open, PROTOCOL, Refusal, Scores, ToCloud, ToEdge, Turn},
    ids::{Epoch, Position, SessionId, TokenId},
    limits::Limits,
    sampling::{LogProb, LogProbs, Sampling},
    states::{Encoding, StateBlock},
};

use crate::{
    WireError,
    grammar::parse_grammar,
    proto::{self, cloud_frame, edge_frame},
    refusal::parse_code,
};

/// Largest epoch, position, length and count of tokens. The sum of any three fits 32 bits, so nothing that a peer
/// sends can overflow an addition; no context is that long.
const COUNT_MAX: u32 = 1 << 30;

/// Parses the first frame of a stream.
///
/// # Errors
/// When it is not a well-formed `Open` of this protocol version.
pub fn parse_open(frame: proto::EdgeFrame, limits: &Limits) -> Result<Open, WireError> {
    match frame.frame.ok_or(WireError::NoFrame)? {
        edge_frame::Frame::Open(open) => open_frame(open, limits),
        other => Err(WireError::NotOpen { frame: name(&other) }),
    }
}

/// Parses the frames of one stream after its `Open`, in either direction.
#[derive(Debug, Clone, Copy)]
pub struct SessionParser {
    limits: Limits,
    feed: Feed,
    width: u32,
    vocabulary: u32,
    tells_tokens: bool,
}

impl SessionParser {
    /// For the stream that `open` opened: what it says decides what other frames may hold.
    pub fn new(open: &Open, limits: Limits) -> Self {
        Self {
            limits,
            feed: open.feed,
            width: open.identity.width,
            vocabulary: open.identity.vocabulary,
            tells_tokens: open.tells_tokens,
        }
    }

    /// Parses a frame from the edge.
    ///
    /// # Errors
    /// Names the first rule that it breaks.
    pub fn to_cloud(&self, frame: proto::EdgeFrame) -> Result<ToCloud, WireError> {
        use edge_frame::Frame;
        match frame.frame.ok_or(WireError::NoFrame)? {
            Frame::Open(_) => Err(WireError::OpenedAgain),
            Frame::States(states) => self.states(&states),
            Frame::Tokens(tokens) => self.tokens(&tokens),
            Frame::Ask(ask) => self.ask(&ask),
            Frame::Generate(generate) => self.generate(&generate),
            Frame::Truncate(truncate) => Ok(ToCloud::Truncate {
                epoch: epoch(truncate.epoch)?,
                length: count("length", truncate.length_positions)?,
            }),
            Frame::Score(score) => Ok(ToCloud::Score {
                epoch: epoch(score.epoch)?,
                first: position(score.first_position)?,
                end: position(score.end_position)?,
            }),
            Frame::Park(park) => {
                Ok(ToCloud::Park { epoch: epoch(park.epoch)?, length: count("length", park.length_positions)? })
            }
            Frame::Turn(turn) => self.turn(turn),
            Frame::Close(proto::Close {}) => Ok(ToCloud::Close),
        }
    }

    /// Parses a frame from the cloud.
    ///
    /// # Errors
    /// Names the first rule that it breaks.
    pub fn to_edge(&self, frame: proto::CloudFrame) -> Result<ToEdge, WireError> {
        use cloud_frame::Frame;
        match frame.frame.ok_or(WireError::NoFrame)? {
            Frame::Opened(opened) => Ok(ToEdge::Opened {
                held: count("held", opened.held_positions)?,
                // A newer cloud may take what this edge does not have.
                takes: opened.takes.into_iter().filter_map(|value| feed(value).ok()).collect(),
            }),
            Frame::Answer(answer) => self.answer(&answer),
            Frame::Scores(scores) => self.scores(&scores),
            Frame::Missing(missing) => {
                Ok(ToEdge::Missing { epoch: epoch(missing.epoch)?, held: count("held", missing.held_positions)? })
            }
            Frame::Refused(refused) => {
                let message = text("a refusal's message", refused.message, &self.limits)?;
                Ok(ToEdge::Refused(Refusal { code: parse_code(refused.code), message }))
            }
        }
    }

    fn states(&self, states: &proto::States) -> Result<ToCloud, WireError> {
        let Feed::States(encoding) = self.feed else { return Err(WireError::WrongFeed { frame: "states" }) };
        // Before the numbers are looked at: a block over the limit is not worth the work.
        let rows = states.rows.len().checked_div(encoding.row_bytes(self.width)).unwrap_or(0);
        at_most("rows", rows, self.limits.upload_rows_max)?;
        Ok(ToCloud::States {
            epoch: epoch(states.epoch)?,
            first: position(states.first_position)?,
            tokens: self.told_tokens(&states.tokens, rows)?,
            // Copied: what is kept must not keep the frame, which may be much larger, in memory.
            block: StateBlock::parse(encoding, self.width, Bytes::copy_from_slice(&states.rows))?,
        })
    }

    /// One a row where the session tells them, and none where it does not.
    fn told_tokens(&self, tokens: &[u32], rows: usize) -> Result<Vec<TokenId>, WireError> {
        let wanted = if self.tells_tokens { rows } else { 0 };
        if tokens.len() != wanted {
            return Err(WireError::Count { field: "tokens of states", count: tokens.len(), wanted });
        }
        self.token_list("tokens of states", tokens, self.limits.upload_rows_max)
    }

    fn tokens(&self, tokens: &proto::Tokens) -> Result<ToCloud, WireError> {
        self.fed_with_tokens("tokens")?;
        if tokens.tokens.is_empty() {
            return Err(WireError::Empty { field: "tokens" });
        }
        Ok(ToCloud::Tokens {
            epoch: epoch(tokens.epoch)?,
            first: position(tokens.first_position)?,
            tokens: self.token_list("tokens", &tokens.tokens, self.limits.upload_rows_max)?,
        })
    }

    fn ask(&self, ask: &proto::Ask) -> Result<ToCloud, WireError> {
        Ok(ToCloud::Ask(Ask {
            epoch: epoch(ask.epoch)?,
            position: position(ask.position)?,
            guess: ask.guess_token.map(|token| self.token("guess", token)).transpose()?,
        }))
    }

    fn generate(&self, generate: &proto::Generate) -> Result<ToCloud, WireError> {
        self.fed_with_tokens("generate")?;
        Ok(ToCloud::Generate {
            epoch: epoch(generate.epoch)?,
            position: position(generate.position)?,
            tokens_max: count("tokens_max", generate.tokens_max)?,
            stop: self.token_list("stop tokens", &generate.stop_tokens, self.limits.stop_tokens_max)?,
        })
    }

    fn answer(&self, answer: &proto::Answer) -> Result<ToEdge, WireError> {
        at_most("asks answered at once", answer.confirmed.len() + 1, self.limits.open_asks_max)?;
        Ok(ToEdge::Answer(Answer {
            epoch: epoch(answer.epoch)?,
            position: position(answer.position)?,
            token: self.token("answer", answer.token)?,
            confidence: confidence(answer.confidence)?,
            log_probs: answer.log_probs.as_ref().map(|told| self.log_probs(told)).transpose()?,
            confirmed: answer.confirmed.iter().map(|guess| self.confirmed(guess)).collect::<Result<_, _>>()?,
            compute: Duration::from_nanos(answer.compute_ns),
            queued: Duration::from_nanos(answer.queued_ns),
            unasked: Duration::from_nanos(answer.unasked_ns),
            unasked_rows: answer.unasked_rows,
            rows: answer.rows,
        }))
    }

    fn confirmed(&self, confirmed: &proto::Confirmed) -> Result<Confirmed, WireError> {
        Ok(Confirmed {
            confidence: confidence(confirmed.confidence)?,
            log_probs: confirmed.log_probs.as_ref().map(|told| self.log_probs(told)).transpose()?,
        })
    }

    fn scores(&self, scores: &proto::Scores) -> Result<ToEdge, WireError> {
        at_most("scores", scores.log_probs.len(), self.limits.scores_max)?;
        if scores.log_probs.is_empty() {
            return Err(WireError::Empty { field: "scores" });
        }
        Ok(ToEdge::Scores(Scores {
            epoch: epoch(scores.epoch)?,
            first: position(scores.first_position)?,
            log_probs: scores.log_probs.iter().map(|told| self.log_probs(told)).collect::<Result<_, _>>()?,
            compute: Duration::from_nanos(scores.compute_ns),
            queued: Duration::from_nanos(scores.queued_ns),
        }))
    }

    fn log_probs(&self, told: &proto::LogProbs) -> Result<LogProbs, WireError> {
        let (tokens, values) = (&told.top_tokens, &told.top_log_probs);
        if tokens.len() != values.len() {
            return Err(WireError::Count { field: "log-probabilities", count: values.len(), wanted: tokens.len() });
        }
        let tokens = self.token_list("most likely tokens", tokens, self.limits.log_probs_max)?;
        let entry = |(token, &value)| Ok::<_, WireError>(LogProb { token, log_prob: log_prob(value)? });
        let top = tokens.into_iter().zip(values).map(entry).collect::<Result<_, _>>()?;
        Ok(LogProbs { own: log_prob(told.own)?, top })
    }

    fn turn(&self, turn: proto::Turn) -> Result<ToCloud, WireError> {
        Ok(ToCloud::Turn(Turn {
            epoch: epoch(turn.epoch)?,
            length: count("length", turn.length_positions)?,
            prompt: count("prompt positions", turn.prompt_positions)?,
            sampling: sampling(&turn.sampling.ok_or(WireError::Missing { field: "sampling" })?, &self.limits)?,
        }))
    }

    fn fed_with_tokens(&self, frame: &'static str) -> Result<(), WireError> {
        match self.feed {
            Feed::Tokens => Ok(()),
            Feed::States(_) => Err(WireError::WrongFeed { frame }),
        }
    }

    fn token_list(&self, field: &'static str, tokens: &[u32], max: u32) -> Result<Vec<TokenId>, WireError> {
        at_most(field, tokens.len(), max)?;
        tokens.iter().map(|&token| self.token(field, token)).collect()
    }

    fn token(&self, field: &'static str, token: u32) -> Result<TokenId, WireError> {
        if token >= self.vocabulary {
            return Err(WireError::Token { field, token, vocabulary: self.vocabulary });
        }
        Ok(TokenId(token))
    }
}

fn open_frame(open: proto::Open, limits: &Limits) -> Result<Open, WireError> {
    if open.protocol != PROTOCOL {
        return Err(WireError::Protocol { theirs: open.protocol, ours: PROTOCOL });
    }
    Ok(Open {
        protocol: open.protocol,
        identity: identity(open.identity.ok_or(WireError::Missing { field: "identity" })?, limits)?,
        session: session(&open.session_id)?,
        attempt: open.attempt,
        epoch: epoch(open.epoch)?,
        prompt: count("prompt positions", open.prompt_positions)?,
        feed: feed(open.feed)?,
        sampling: sampling(open.sampling.as_ref().ok_or(WireError::Missing { field: "sampling" })?, limits)?,
        tells_tokens: open.tells_tokens,
    })
}

fn identity(identity: proto::Identity, limits: &Limits) -> Result<Identity, WireError> {
    Ok(Identity {
        pair: text("pair id", identity.pair, limits)?,
        source: text("source digest", identity.source, limits)?,
        upload_at: identity.upload_at_layer,
        width: identity.width_floats,
        vocabulary: identity.vocabulary_tokens,
    })
}

fn session(id: &Bytes) -> Result<SessionId, WireError> {
    let bytes: [u8; 16] = id.as_ref().try_into().map_err(|_| WireError::SessionId { bytes: id.len() })?;
    Ok(SessionId(u128::from_be_bytes(bytes)))
}

fn feed(value: i32) -> Result<Feed, WireError> {
    match proto::Feed::try_from(value) {
        Ok(proto::Feed::StatesF16) => Ok(Feed::States(Encoding::F16)),
        Ok(proto::Feed::StatesF32) => Ok(Feed::States(Encoding::F32)),
        Ok(proto::Feed::StatesInt8) => Ok(Feed::States(Encoding::Int8)),
        Ok(proto::Feed::StatesRotated32) => Ok(Feed::States(Encoding::Rotated32)),
        Ok(proto::Feed::StatesRotated22) => Ok(Feed::States(Encoding::Rotated22)),
        Ok(proto::Feed::Tokens) => Ok(Feed::Tokens),
        Ok(proto::Feed::Unspecified) | Err(_) => Err(WireError::UnknownFeed { value }),
    }
}

fn sampling(sampling: &proto::Sampling, limits: &Limits) -> Result<Sampling, WireError> {
    let sampling = Sampling {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        repeat_penalty: sampling.repeat_penalty,
        repeat_last_n: sampling.repeat_last_n_tokens,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        bias: sampling.bias.iter().map(|entry| (TokenId(entry.token), entry.bias)).collect(),
        grammar: sampling.grammar.as_ref().map(parse_grammar).transpose()?,
        log_probs: sampling.log_probs,
        seed: sampling.seed,
    };
    at_most("tokens under the repetition penalty", sampling.repeat_last_n as usize, limits.recent_tokens_max)?;
    Ok(sampling.validated()?)
}

/// Of a probability, so at most 0; a model that is sure of something else may give a token none.
fn log_prob(value: f32) -> Result<f32, WireError> {
    if value <= 0.0 && value.is_finite() { Ok(value) } else { Err(WireError::LogProb { value }) }
}

fn text(field: &'static str, text: String, limits: &Limits) -> Result<String, WireError> {
    let chars = text.chars().count();
    if chars > limits.text_chars_max {
        return Err(WireError::TextTooLong { field, chars, max: limits.text_chars_max });
    }
    Ok(text)
}

fn epoch(value: u32) -> Result<Epoch, WireError> {
    count("epoch", value).map(Epoch)
}

fn position(value: u32) -> Result<Position, WireError> {
    count("position", value).map(Position)
}

fn count(field: &'static str, value: u32) -> Result<u32, WireError> {
    if value > COUNT_MAX {
        return Err(WireError::TooLarge { field, value, max: COUNT_MAX });
    }
    Ok(value)
}

fn confidence(value: f32) -> Result<f32, WireError> {
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(WireError::Confidence { value }) }
}

fn at_most(what: &'static str, count: usize, max: u32) -> Result<(), WireError> {
    if count > max as usize {
        return Err(WireError::TooMany { what, count, max });
    }
    Ok(())
}

fn name(frame: &edge_frame::Frame) -> &'static str {
    use edge_frame::Frame;
    match frame {
        Frame::Open(_) => "open",
        Frame::States(_) => "states",
        Frame::Tokens(_) => "tokens",
        Frame::Ask(_) => "ask",
        Frame::Generate(_) => "generate",
        Frame::Truncate(_) => "truncate",
        Frame::Score(_) => "score",
        Frame::Park(_) => "park",
        Frame::Turn(_) => "turn",
        Frame::Close(_) => "close",
    }
}
