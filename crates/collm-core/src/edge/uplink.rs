//! A session's way to the cloud: the state of its stream, what was uploaded on it, and what can be replayed.
//!
//! Each position goes up once a stream. A later stream starts where the cloud says it stands.

use std::{collections::VecDeque, time::Duration};

use super::{EdgeConfig, Output, Request, Stats, StreamId};
use crate::{
    frame::{Open, ToCloud, Turn},
    ids::{Epoch, Position, SessionId, TokenId},
    policy::Mode,
    states::{StateBlock, StateLog},
    time::Time,
    upload::{ChosenFeed, UploadStart},
};

#[derive(Debug)]
pub(super) struct Uplink {
    stream: StreamId,
    state: State,
    /// What goes up; `None` if nothing ever does.
    chosen: Option<ChosenFeed>,
    /// States of every position computed so far, as they are on the wire.
    log: StateLog,
    /// Positions that this stream's cloud has or was sent.
    sent: u32,
    /// Positions that were sent on any stream.
    sent_ever: u32,
    rows_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not wanted, or refused for good.
    Off,
    /// Wanted from the first ask on.
    Idle,
    /// Wanted from this moment on, and not there.
    Down(Time),
    /// Opened by us, not yet confirmed.
    Opening {
        since: Time,
        /// A session's first stream: the cloud can hold nothing of it, so uploading need not wait for the confirmation.
        fresh: bool,
    },
    Up,
}

impl Uplink {
    pub(super) fn new(request: &Request, chosen: Option<ChosenFeed>, config: &EdgeConfig) -> Self {
        // The other modes that use a cloud ask for everything.
        let may_wait = matches!(request.mode, Mode::Collaborative | Mode::Exact);
        let state = match config.upload.start {
            _ if chosen.is_none() => State::Off,
            UploadStart::Lazy if may_wait => State::Idle,
            UploadStart::Lazy | UploadStart::Eager => State::Down(Time::default()),
        };
        Self {
            stream: StreamId { session: request.session, attempt: 0 },
            state,
            chosen,
            log: StateLog::default(),
            sent: 0,
            sent_ever: 0,
            rows_max: config.upload_rows_max,
        }
    }

    /// What goes up, and why.
    pub(super) fn chosen(&self) -> Option<ChosenFeed> {
        self.chosen
    }

    /// The first ask has come. Whether a stream was not wanted until now.
    pub(super) fn begin(&mut self, now: Time) -> bool {
        let begins = self.state == State::Idle;
        if begins {
            self.state = State::Down(now);
        }
        begins
    }

    /// The cloud does not take what went up: something else does, from the first position on.
    pub(super) fn begin_again(&mut self, now: Time, chosen: ChosenFeed) {
        self.state = State::Down(now);
        self.chosen = Some(chosen);
        self.log = StateLog::default();
        (self.sent, self.sent_ever) = (0, 0);
    }

    /// Whose.
    pub(super) fn session(&self) -> SessionId {
        self.stream.session
    }

    /// Positions that this stream's cloud has or was sent.
    pub(super) fn sent(&self) -> u32 {
        self.sent
    }

    /// Memory of the states that are kept for a replay.
    pub(super) fn states_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// From when on a stream should be opened, if the breaker allows it.
    pub(super) fn wanted_from(&self) -> Option<Time> {
        match self.state {
            State::Down(from) => Some(from),
            _ => None,
        }
    }

    /// Whether there is no cloud for this session, now or ever.
    pub(super) fn is_off(&self) -> bool {
        self.state == State::Off
    }

    /// Whether `stream` is the one in use.
    pub(super) fn is(&self, stream: StreamId) -> bool {
        self.stream == stream && self.is_open()
    }

    /// Whether frames may be transmitted.
    pub(super) fn can_send(&self) -> bool {
        matches!(self.state, State::Up | State::Opening { fresh: true, .. })
    }

    /// Whether the cloud has confirmed the stream in use.
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether an ask that is made now could be answered.
    pub(super) fn can_ask(&self) -> bool {
        self.is_open() || self.state == State::Idle
    }

    /// Whether an ask may still be answered on the stream in use.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Up | State::Opening { .. })
    }

    /// When an unconfirmed stream counts as failed.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Time> {
        match self.state {
            State::Opening { since, .. } => Some(since + patience),
            _ => None,
        }
    }

    /// The attempt that [`Self::open`] makes.
    pub(super) fn next_attempt(&self) -> u32 {
        self.stream.attempt + 1
    }

    pub(super) fn open(&mut self, now: Time, open: Open, out: &mut VecDeque<Output>) {
        self.state = State::Opening { since: now, fresh: self.stream.attempt == 0 };
        self.stream.attempt += 1;
        self.sent = 0;
        out.push_back(Output::Connect(self.stream, open));
    }

    /// The cloud confirmed the stream and holds `held` positions. Returns whether sending had to wait for this; `None` if the
    /// cloud cannot hold that many.
    pub(super) fn opened(&mut self, held: u32) -> Option<bool> {
        let waited = self.state != State::Up && !self.can_send();
        self.state = State::Up;
        if waited {
            self.sent = held;
        }
        (self.sent <= self.sent_ever).then_some(waited)
    }

    /// The stream is gone; try again from a moment on, or never. States that nobody will have are not kept.
    pub(super) fn lose(&mut self, again: Option<Time>) {
        self.state = again.map_or(State::Off, State::Down);
        if self.is_off() {
            self.log = StateLog::default();
        }
    }

    /// Says goodbye on a stream that is open.
    pub(super) fn close(&mut self, out: &mut VecDeque<Output>) {
        if self.is_open() {
            out.push_back(Output::Transmit(self.stream, ToCloud::Close));
            self.disconnect(out);
        }
        self.state = State::Off;
    }

    /// The answer is complete. Has the cloud keep the first `length` positions, if it can be told so.
    pub(super) fn park(&mut self, now: Time, epoch: Epoch, length: u32, out: &mut VecDeque<Output>) {
        self.truncate(length);
        if self.can_send() {
            out.push_back(Output::Transmit(self.stream, ToCloud::Park { epoch, length }));
        } else if self.is_open() {
            self.disconnect(out);
            self.lose(Some(now));
        }
    }

    /// The session goes on with what was kept, as far as the cloud has it.
    pub(super) fn resume(&mut self, now: Time, epoch: Epoch, request: &Request, out: &mut VecDeque<Output>) {
        if let State::Opening { since, .. } = &mut self.state {
            // Nobody waited for it meanwhile.
            *since = now;
        }
        if self.can_send() {
            let prompt = request.prompt.len() as u32;
            let turn = Turn { epoch, length: self.sent, prompt, sampling: request.sampling.clone() };
            out.push_back(Output::Transmit(self.stream, ToCloud::Turn(turn)));
        }
    }

    /// Ends the stream without goodbye, so that the cloud keeps the context for a while.
    pub(super) fn disconnect(&self, out: &mut VecDeque<Output>) {
        out.push_back(Output::Disconnect(self.stream));
    }

    /// The cloud holds only `held` positions: what comes after is sent again. `false` if it cannot hold that many.
    pub(super) fn rewind(&mut self, held: u32) -> bool {
        let possible = held <= self.sent;
        if possible {
            self.sent = held;
        }
        possible
    }

    /// Positions from `length` on were a wrong guess; the cloud forgets them too.
    pub(super) fn truncate(&mut self, length: u32) {
        self.log.truncate(length);
        self.sent = self.sent.min(length);
        self.sent_ever = self.sent_ever.min(length);
    }

    /// Keeps states for upload and replay.
    pub(super) fn keep(&mut self, block: StateBlock) {
        self.log.push(block);
    }

    /// Uploads the states that this stream's cloud does not have, with their tokens where those are `told`.
    pub(super) fn send_states(
        &mut self,
        epoch: Epoch,
        told: &[TokenId],
        stats: &mut Stats,
        out: &mut VecDeque<Output>,
    ) {
        let to = self.log.rows();
        for (first, block) in self.log.pieces(self.sent, to, self.rows_max) {
            let rows = first as usize..(first + block.rows()) as usize;
            let tokens = told.get(rows).unwrap_or_default().to_vec();
            out.push_back(Output::Transmit(
                self.stream,
                ToCloud::States { epoch, first: Position(first), block, tokens },
            ));
        }
        self.count_sent(to, stats);
    }

    /// Uploads the tokens that this stream's cloud does not have.
    pub(super) fn send_tokens(
        &mut self,
        epoch: Epoch,
        tokens: &[TokenId],
        stats: &mut Stats,
        out: &mut VecDeque<Output>,
    ) {
        let new = tokens.get(self.sent as usize..).unwrap_or_default();
        let mut first = self.sent;
        for piece in new.chunks(self.rows_max as usize) {
            let frame = ToCloud::Tokens { epoch, first: Position(first), tokens: piece.to_vec() };
            out.push_back(Output::Transmit(self.stream, frame));
            first += piece.len() as u32;
        }
        self.count_sent(first, stats);
    }

    /// The cloud made the next token itself and so holds it.
    pub(super) fn grown_there(&mut self) {
        self.sent += 1;
        self.sent_ever = self.sent_ever.max(self.sent);
    }

    /// Transmits any other frame.
    pub(super) fn transmit(&self, frame: ToCloud, out: &mut VecDeque<Output>) {
        out.push_back(Output::Transmit(self.stream, frame));
    }

    fn count_sent(&mut self, to: u32, stats: &mut Stats) {
        let again = to.min(self.sent_ever).saturating_sub(self.sent);
        stats.positions_uploaded += to.saturating_sub(self.sent);
        stats.positions_replayed += again;
        self.sent = self.sent.max(to);
        self.sent_ever = self.sent_ever.max(self.sent);
    }
}
