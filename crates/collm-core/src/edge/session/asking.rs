//! A session and its cloud: uploads, asks, answers, replay.

use super::{Pending, Phase, Session, Surroundings};
use crate::{
    edge::Source,
    frame::{Answer, Ask, ToCloud},
    policy::Mode,
    sampling::Choice,
    states::StateBlock,
};

/// A cloud that says "missing" more often than this for one ask cannot hold the session at all.
const REPLAYS_PER_ASK_MAX: u32 = 3;

impl Session {
    /// Keeps new states and, where the stream is ready, sends them while the second stage computes.
    pub(super) fn upload(&mut self, block: StateBlock, around: &mut Surroundings<'_>) {
        self.uplink.keep(block);
        self.upload_rest(around);
    }

    /// Sends the states that this stream's cloud does not have, if it is to have them by itself and the stream is ready.
    pub(super) fn upload_rest(&mut self, around: &mut Surroundings<'_>) {
        if self.request.mode == Mode::Collaborative && self.uplink.can_send() {
            self.uplink.send_states(self.epoch, &mut self.stats, around.out);
        }
    }

    pub(super) fn ask(&mut self, guess: Option<Choice>, around: &mut Surroundings<'_>) {
        if !self.uplink.is_open() {
            return self.go_alone(guess, around);
        }
        let pending = Pending { position: self.last_position(), guess, since: around.now, replays: 0 };
        self.phase = Phase::Asking(pending);
        self.stats.round_trips_waited += 1;
        if self.uplink.can_send() {
            self.send_ask(pending, around);
        }
    }

    pub(super) fn send_ask(&mut self, pending: Pending, around: &mut Surroundings<'_>) {
        if self.request.mode == Mode::Naive {
            self.forget_there(around);
            self.uplink.send_states(self.epoch, &mut self.stats, around.out);
        }
        self.stats.asks += 1;
        let ask = Ask {
            epoch: self.epoch,
            position: pending.position,
            guess: pending.guess.map(|guess| guess.token),
            recent: self.recent(),
        };
        self.uplink.transmit(ToCloud::Ask(ask), around.out);
    }

    /// The naive split has no context manager: the cloud starts from nothing for every token.
    pub(super) fn forget_there(&mut self, around: &mut Surroundings<'_>) {
        self.epoch.0 += 1;
        self.uplink.transmit(ToCloud::Truncate { epoch: self.epoch, length: 0 }, around.out);
        self.uplink.rewind(0);
    }

    pub(super) fn follow(&mut self, around: &mut Surroundings<'_>) {
        self.phase = Phase::Following(around.now);
        self.uplink.send_tokens(self.epoch, &self.tokens, &mut self.stats, around.out);
        self.stats.asks += 1;
        self.stats.round_trips_waited += 1;
        let generate = ToCloud::Generate {
            epoch: self.epoch,
            position: self.last_position(),
            tokens_max: self.tokens_left(around.config),
            stop: self.request.stop.clone(),
        };
        self.uplink.transmit(generate, around.out);
    }

    pub(super) fn opened(&mut self, held: u32, around: &mut Surroundings<'_>) {
        let Some(waited) = self.uplink.opened(held) else {
            return self.break_off("it holds positions that it was never sent", around);
        };
        around.breaker.succeed();
        self.alone = false;
        if !waited {
            return;
        }
        self.upload_rest(around);
        if let Phase::Asking(pending) = self.phase {
            self.send_ask(pending, around);
        }
    }

    pub(super) fn answered(&mut self, answer: &Answer, around: &mut Surroundings<'_>) {
        if answer.epoch < self.epoch {
            return;
        }
        if answer.position != self.last_position() || matches!(self.phase, Phase::Computing(_)) {
            return self.break_off("an answer to a question that was not asked", around);
        }
        if answer.token.0 >= around.config.identity.vocabulary {
            return self.break_off("a token outside the vocabulary", around);
        }
        self.stats.count_answer(answer);
        self.stop_waiting(around.now);
        let choice = Choice { token: answer.token, confidence: answer.confidence };
        let following = matches!(self.phase, Phase::Following(_));
        if !self.commit(choice, Source::Cloud, false, around) {
            return;
        }
        if following {
            self.uplink.grown_there();
            self.phase = Phase::Following(around.now);
        } else {
            self.advance(around);
        }
    }

    pub(super) fn missing(&mut self, held: u32, around: &mut Surroundings<'_>) {
        if !self.uplink.rewind(held) {
            return self.break_off("it misses positions that it was never sent", around);
        }
        match self.phase {
            Phase::Computing(_) => {}
            Phase::Following(since) => {
                self.follow(around);
                // Patience does not begin anew, or a cloud that forgets again and again would be waited for without end.
                self.phase = Phase::Following(since);
            }
            Phase::Asking(pending) if pending.replays >= REPLAYS_PER_ASK_MAX => {
                self.break_off("it forgets the session as fast as it is replayed", around);
            }
            Phase::Asking(pending) => {
                let pending = Pending { replays: pending.replays + 1, ..pending };
                self.phase = Phase::Asking(pending);
                self.upload_rest(around);
                self.send_ask(pending, around);
            }
        }
    }
}
