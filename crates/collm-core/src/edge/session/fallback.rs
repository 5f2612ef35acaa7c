//! A session that has lost its cloud: nothing is lost with it, the edge's own guess becomes the token.

use std::time::Duration;

use super::{Again, Phase, Session, Surroundings, second_source};
use crate::{
    edge::{Event, Loss, Output},
    sampling::Scored,
};

impl Session {
    pub(super) fn break_off(&mut self, what: &'static str, around: &mut Surroundings<'_>) {
        self.uplink.disconnect(around.out);
        self.lose(Loss::Protocol(what), Again::WithOthers, around);
    }

    /// The stream is gone: what waited for it goes on at the edge.
    pub(super) fn lose(&mut self, loss: Loss, again: Again, around: &mut Surroundings<'_>) {
        let id = self.id();
        let from = match again {
            Again::WithOthers => {
                around.breaker.fail(around.now, id);
                Some(around.now)
            }
            Again::After(pause) => {
                around.breaker.release(around.now, id);
                Some(around.now + pause)
            }
            Again::Never => {
                around.breaker.release(around.now, id);
                None
            }
        };
        self.uplink.lose(from);
        self.say_alone(loss, around);
        self.stop_waiting(around.now, Duration::ZERO);
        let unguessed = self.asks.iter().any(|ask| ask.guess.is_none());
        self.asks.clear();
        // The edge's guesses become tokens, in order, and what followed them with them.
        if !self.settle(around) {
            return;
        }
        match self.phase {
            Phase::Computing(_) => {}
            Phase::Standing(_) if unguessed => self.run_second(around),
            Phase::Standing(_) | Phase::Scoring(_) => self.advance(around),
            Phase::Following(_) => {
                // The cloud may have gone on beyond what arrived here; under a new epoch it will not count.
                self.epoch.0 += 1;
                self.advance(around);
            }
        }
    }

    /// The states of this session cannot be uploaded, now or ever.
    pub(super) fn give_up_cloud(&mut self, why: String, around: &mut Surroundings<'_>) {
        self.uplink.close(around.out);
        self.lose(Loss::Unsendable(why), Again::Never, around);
    }

    /// Goes on without asking, with the guess if there is one.
    pub(super) fn go_alone(&mut self, guess: Option<Scored>, around: &mut Surroundings<'_>) {
        match guess {
            Some(guess) => self.emit(guess, second_source(around.config), true, around),
            None => self.run_second(around),
        }
    }

    pub(super) fn say_alone(&mut self, loss: Loss, around: &mut Surroundings<'_>) {
        if !self.alone {
            self.alone = true;
            around.out.push_back(Output::Event(self.id(), Event::Degraded(loss)));
        }
    }
}
