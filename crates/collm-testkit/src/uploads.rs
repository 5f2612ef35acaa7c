//! The law of uploads: on one stream a position goes up once, in order, unless the cloud says that it does not hold it.

use std::collections::BTreeMap;

use collm_core::{
    frame::{Answer, ToCloud, ToEdge, Turn},
    ids::{Position, TokenId},
};

/// What one stream has carried, as its edge sees it.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    /// The next position to go up; `None` until the cloud says what it holds.
    next: Option<u32>,
    epoch: u32,
    /// The cloud goes on by itself, and so holds the tokens that it answers with.
    cloud_generates: bool,
    /// What the edge goes on with meanwhile, by the position of the ask.
    guesses: BTreeMap<u32, TokenId>,
}

impl Uploads {
    /// A session's first stream starts from nothing; a later one, where the cloud says.
    pub(crate) fn new(attempt: u32, epoch: u32) -> Self {
        Self { next: (attempt == 1).then_some(0), epoch, cloud_generates: false, guesses: BTreeMap::new() }
    }

    /// The edge transmits a frame. Panics if that breaks the law.
    pub(crate) fn transmitted(&mut self, frame: &ToCloud) {
        match frame {
            ToCloud::States { epoch, first, block, .. } => self.uploaded(epoch.0, *first, block.rows()),
            ToCloud::Tokens { epoch, first, tokens } => self.uploaded(epoch.0, *first, tokens.len() as u32),
            ToCloud::Truncate { epoch, length }
            | ToCloud::Park { epoch, length }
            | ToCloud::Turn(Turn { epoch, length, .. }) => self.truncated(epoch.0, *length),
            ToCloud::Ask(ask) => {
                self.asked(ask.epoch.0, ask.position);
                self.guesses.extend(ask.guess.map(|guess| (ask.position.0, guess)));
            }
            ToCloud::Generate { epoch, position, .. } => {
                self.asked(epoch.0, *position);
                self.cloud_generates = true;
            }
            ToCloud::Score { epoch, end, .. } => self.asked(epoch.0, Position(end.0 - 1)),
            ToCloud::Open(_) | ToCloud::Close => {}
        }
    }

    /// The edge hears a frame.
    pub(crate) fn heard(&mut self, frame: &ToEdge) {
        match frame {
            ToEdge::Opened { held, .. } if self.next.is_none() => self.next = Some(*held),
            ToEdge::Missing { held, epoch } if epoch.0 == self.epoch => {
                self.next = self.next.map(|next| next.min(*held));
            }
            ToEdge::Answer(answer) if self.is_wrong_guess(answer) => {
                self.truncated(self.epoch + 1, answer.position.0 + 1);
            }
            ToEdge::Answer(answer) if self.cloud_generates && answer.epoch.0 == self.epoch => {
                self.next = Some(answer.position.0 + 2);
            }
            _ => {}
        }
    }

    /// Both sides roll back after such an answer.
    fn is_wrong_guess(&self, answer: &Answer) -> bool {
        let guess = self.guesses.get(&answer.position.0);
        answer.epoch.0 == self.epoch && guess.is_some_and(|guess| *guess != answer.token)
    }

    fn uploaded(&mut self, epoch: u32, first: Position, rows: u32) {
        let next = self.next.expect("uploaded before the cloud said what it holds of a resumed session");
        assert_eq!(epoch, self.epoch, "uploaded under another epoch");
        assert!(first.0 >= next, "positions {first} to {next} went up twice on one stream");
        assert_eq!(first.0, next, "positions {next} to {first} were left out");
        self.next = Some(next + rows);
    }

    fn asked(&mut self, epoch: u32, position: Position) {
        let next = self.next.expect("asked before the cloud said what it holds of a resumed session");
        assert_eq!(epoch, self.epoch, "asked under another epoch");
        assert!(position.0 < next, "asked about position {position} when {next} positions had gone up");
    }

    fn truncated(&mut self, epoch: u32, length: u32) {
        assert!(epoch > self.epoch, "an epoch must rise");
        self.epoch = epoch;
        self.guesses.clear();
        self.next = self.next.map(|next| next.min(length));
    }
}

#[cfg(test)]
mod tests {
    use collm_core::ids::{Epoch, TokenId};

    use super::*;

    fn tokens(first: u32, count: usize) -> ToCloud {
        ToCloud::Tokens { epoch: Epoch(0), first: Position(first), tokens: vec![TokenId(1); count] }
    }

    #[test]
    fn what_the_cloud_misses_may_go_up_again() {
        let mut uploads = Uploads::new(1, 0);
        uploads.transmitted(&tokens(0, 4));
        uploads.heard(&ToEdge::Missing { epoch: Epoch(0), held: 2 });
        uploads.transmitted(&tokens(2, 3));
    }

    #[test]
    #[should_panic(expected = "went up twice")]
    fn nothing_goes_up_twice() {
        let mut uploads = Uploads::new(1, 0);
        uploads.transmitted(&tokens(0, 4));
        uploads.transmitted(&tokens(3, 1));
    }

    #[test]
    #[should_panic(expected = "left out")]
    fn nothing_is_left_out() {
        Uploads::new(1, 0).transmitted(&tokens(1, 1));
    }

    #[test]
    #[should_panic(expected = "before the cloud said")]
    fn a_resumed_stream_waits_for_the_cloud() {
        Uploads::new(2, 0).transmitted(&tokens(0, 1));
    }
}
