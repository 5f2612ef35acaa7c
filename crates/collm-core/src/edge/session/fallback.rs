//! A session that has lost its cloud: nothing is lost with it, the edge's own guess becomes the token.

use std::time::Duration;

use super::{Phase, Session, Surroundings, second_source};
use crate::{
    edge::{Event, Loss, Output},
    sampling::Choice,
};

impl Session {
    pub(super) fn break_off(&mut self, what: &'static str, around: &mut Surroundings<'_>) {
        self.uplink.disconnect(around.out);
        self.lose(Loss::Protocol(what), true, around);
    }

    /// The stream is gone: what waited for it goes on at the edge.
    pub(super) fn lose(&mut self, loss: Loss, retry: bool, around: &mut Surroundings<'_>) {
        self.uplink.lose(retry);
        if retry {
            around.breaker.fail(around.now, self.id());
        } else {
            around.breaker.release(around.now, self.id());
        }
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
            Phase::Standing(_) => self.advance(around),
            Phase::Following(_) => {
                // The cloud may have gone on beyond what arrived here; under a new epoch it will not count.
                self.epoch.0 += 1;
                self.advance(around);
            }
        }
    }

    /// Goes on without asking, with the guess if there is one.
    pub(super) fn go_alone(&mut self, guess: Option<Choice>, around: &mut Surroundings<'_>) {
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
