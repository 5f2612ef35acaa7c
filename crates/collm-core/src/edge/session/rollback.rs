//! A session whose guess was wrong: everything after it is forgotten, and the cloud's token takes its place.

use std::time::Duration;

use super::{Again, Draft, Session, Surroundings};
use crate::{
    edge::{Loss, Output},
    frame::{Refusal, ToCloud},
    ids::Position,
    upload::ChosenFeed,
};

impl Session {
    /// Sets the token after `position` to the cloud's. The cloud has rolled back by itself if the ask carried the guess.
    pub(super) fn roll_back(&mut self, position: Position, answered: Draft, around: &mut Surroundings<'_>) {
        self.epoch.0 += 1;
        self.stats.rollbacks += 1;
        self.forget_from(position.next(), around);
        if around.config.upload.private {
            let truncate = ToCloud::Truncate { epoch: self.epoch, length: position.next().0 };
            self.uplink.transmit(truncate, around.out);
        }
        self.go_on_with(answered, around);
    }

    /// The cloud does not take what this session uploads. It goes on with what the cloud does take, as long as that can be told
    /// nobody: states that were computed exist in the refused encoding alone, so the prompt is computed again.
    pub(super) fn feed_refused(&mut self, refusal: Refusal, around: &mut Surroundings<'_>) {
        self.uplink.disconnect(around.out);
        around.known.refuse(self.feed());
        let chosen = around.choose_feed(&self.request).filter(|chosen| chosen.feed != self.feed());
        match chosen {
            Some(chosen) if self.next_to_commit() == self.stats.prompt_tokens => self.begin_again(chosen, around),
            _ => self.lose(Loss::Refused(refusal), Again::Never, around),
        }
    }

    fn begin_again(&mut self, chosen: ChosenFeed, around: &mut Surroundings<'_>) {
        around.breaker.release(around.now, self.id());
        self.stop_waiting(around.now, Duration::ZERO);
        self.forget_from(Position(self.stats.prompt_tokens), around);
        around.out.push_back(Output::Truncate(self.slot, 0));
        (self.first_filled, self.second_filled) = (0, 0);
        self.stats.feed = Some(chosen);
        self.uplink.begin_again(around.now, chosen);
        self.connect_or_say(around);
        self.advance(around);
    }

    /// What was computed and drafted from `position` on is void.
    pub(super) fn forget_from(&mut self, position: Position, around: &mut Surroundings<'_>) {
        let length = position.0;
        let computing = around.jobs.withdraw(self.id(), around.now);
        if computing || self.first_filled > length {
            around.out.push_back(Output::Truncate(self.slot, length));
        }
        self.stats.tokens_discarded += self.drafts.len() as u32;
        self.tokens.truncate(position.index());
        self.drafts.clear();
        self.asks.clear();
        self.first_filled = self.first_filled.min(length);
        self.second_filled = self.second_filled.min(length);
        self.asked_to = self.asked_to.min(length);
        self.uplink.truncate(length);
    }
}
