//! A session whose guess was wrong: everything after it is forgotten, and the cloud's token takes its place.

use super::{Draft, Session, Surroundings};
use crate::{edge::Output, ids::Position};

impl Session {
    /// Sets the token after `position` to the cloud's. The cloud has rolled back by itself, since the ask carried the guess.
    pub(super) fn roll_back(&mut self, position: Position, answered: Draft, around: &mut Surroundings<'_>) {
        self.epoch.0 += 1;
        self.stats.rollbacks += 1;
        self.forget_from(position.next(), around);
        self.go_on_with(answered, around);
    }

    /// What was computed and drafted from `position` on is void.
    pub(super) fn forget_from(&mut self, position: Position, around: &mut Surroundings<'_>) {
        let length = position.0;
        let computing = around.jobs.withdraw(self.id());
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
