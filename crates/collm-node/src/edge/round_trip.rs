//! How far away the cloud is: the time from a question to its answer, without what the cloud spent on it.

use std::{collections::VecDeque, time::Duration};

use collm_core::{
    frame::{Ask, ToCloud, ToEdge},
    ids::{Epoch, Position},
    time::Time,
};

/// What was asked on one stream and is not answered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Questions(VecDeque<(Epoch, Position, Time)>);

impl Questions {
    /// A frame goes up.
    pub(super) fn sent(&mut self, frame: &ToCloud, now: Time) {
        if let ToCloud::Ask(Ask { epoch, position, .. }) | ToCloud::Generate { epoch, position, .. } = frame {
            self.0.push_back((*epoch, *position, now));
        }
    }

    /// A frame has come down. The way there and back of the question that it answers, if it is the first to do so: of what the
    /// cloud generates by itself only the first token was asked for.
    pub(super) fn arrived(&mut self, frame: &ToEdge, now: Time) -> Option<Duration> {
        match frame {
            ToEdge::Answer(answer) => {
                let is_it = |(epoch, position, _): &_| (*epoch, *position) == (answer.epoch, answer.position);
                // The times that it tells are those of the oldest question that it answers.
                let oldest = self.0.iter().position(is_it)?.checked_sub(answer.confirmed.len())?;
                let (_, _, since) = self.0.remove(oldest)?;
                // What a rollback took back is never answered.
                self.0.retain(|(epoch, position, _)| *epoch >= answer.epoch && *position > answer.position);
                Some((now - since).saturating_sub(answer.compute + answer.queued))
            }
            // All are asked again.
            ToEdge::Missing { .. } => {
                self.0.clear();
                None
            }
            ToEdge::Opened { .. } | ToEdge::Scores(_) | ToEdge::Refused(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use collm_core::{frame::Answer, ids::TokenId};

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ask(epoch: u32, position: u32) -> ToCloud {
        ToCloud::Ask(Ask { epoch: Epoch(epoch), position: Position(position), guess: None })
    }

    /// After 2 ms of computing and 1 ms in the queue.
    fn answer(epoch: u32, position: u32) -> ToEdge {
        ToEdge::Answer(Answer {
            epoch: Epoch(epoch),
            position: Position(position),
            token: TokenId(1),
            confidence: 0.5,
            log_probs: None,
            confirmed: vec![],
            compute: ms(2),
            queued: ms(1),
            unasked: Duration::ZERO,
            unasked_rows: 0,
            rows: 1,
        })
    }

    #[test]
    fn each_question_is_timed_without_the_clouds_work() {
        let mut questions = Questions::default();
        questions.sent(&ask(0, 5), Time(ms(0)));
        questions.sent(&ask(0, 7), Time(ms(4)));
        questions.sent(&ToCloud::Close, Time(ms(5)));
        assert_eq!(questions.arrived(&answer(0, 5), Time(ms(10))), Some(ms(7)));
        assert_eq!(questions.arrived(&answer(0, 7), Time(ms(6))), Some(ms(0)), "clocks of two machines");
        assert_eq!(questions.arrived(&answer(0, 8), Time(ms(10))), None, "nobody asked");
    }

    #[test]
    fn what_is_asked_again_is_timed_from_then() {
        let mut questions = Questions::default();
        questions.sent(&ask(0, 5), Time(ms(0)));
        let missing = ToEdge::Missing { epoch: Epoch(0), held: 0 };
        assert_eq!(questions.arrived(&missing, Time(ms(8))), None);
        questions.sent(&ask(0, 5), Time(ms(9)));
        assert_eq!(questions.arrived(&answer(0, 5), Time(ms(14))), Some(ms(2)));
    }

    #[test]
    fn what_a_rollback_took_back_does_not_pile_up() {
        let mut questions = Questions::default();
        questions.sent(&ask(0, 5), Time(ms(0)));
        questions.sent(&ask(0, 7), Time(ms(1)));
        questions.arrived(&answer(0, 5), Time(ms(9)));
        questions.sent(&ask(1, 6), Time(ms(10)));
        assert_eq!(questions.arrived(&answer(1, 6), Time(ms(15))), Some(ms(2)));
        assert!(questions.0.is_empty());
    }
}
