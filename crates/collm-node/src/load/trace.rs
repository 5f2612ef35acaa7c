//! What an edge did for one answer, as a sequence of steps that each follow from what it did or heard before.

use std::time::Duration;

use collm_wire::proto::{CloudFrame, EdgeFrame, cloud_frame::Frame};

/// Something that a recorder saw.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// The edge sent a frame.
    Said(Box<EdgeFrame>),
    /// The cloud said so many things in a frame.
    Heard(usize),
    /// The edge told its requester a token.
    Told,
}

/// One step of an edge.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// Things that it had heard of the cloud.
    pub(super) heard: usize,
    /// Time between this step and what it follows from: the step before, or the last of those things, if that came later.
    pub(super) after: Duration,
    pub(super) does: Does,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Does {
    Say(Box<EdgeFrame>),
    /// Tell the requester a token.
    Tell,
}

/// Things that a frame of the cloud says. Every ask that is answered is one, since a busier cloud answers others together.
pub(super) fn things_said(frame: &CloudFrame) -> usize {
    match &frame.frame {
        Some(Frame::Answer(answer)) => answer.confirmed.len() + 1,
        _ => 1,
    }
}

/// One answer of an edge, to be replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    pub(super) steps: Vec<Step>,
}

impl Trace {
    /// From what was seen at which time since the answer was asked for. What was told after `tokens` tokens is the rest of their text.
    pub(super) fn of(seen: Vec<(Duration, Seen)>, tokens: usize) -> Self {
        let mut steps = Vec::new();
        let (mut heard, mut told, mut last) = (0, 0, Duration::ZERO);
        for (at, seen) in seen {
            let does = match seen {
                Seen::Heard(things) => {
                    heard += things;
                    last = last.max(at);
                    continue;
                }
                Seen::Said(frame) => Does::Say(frame),
                Seen::Told if told == tokens => continue,
                Seen::Told => {
                    told += 1;
                    Does::Tell
                }
            };
            steps.push(Step { heard, after: at.saturating_sub(last), does });
            last = last.max(at);
        }
        Self { steps }
    }

    /// Tokens of the answer.
    pub fn tokens(&self) -> usize {
        self.steps.iter().filter(|step| step.does == Does::Tell).count()
    }

    /// Frames that the edge sent.
    pub fn frames(&self) -> usize {
        self.steps.len() - self.tokens()
    }

    /// Time that the edge spent before its steps, all together: what it takes if the cloud answers at once.
    pub fn edge_time(&self) -> Duration {
        self.steps.iter().map(|step| step.after).sum()
    }
}

#[cfg(test)]
mod tests {
    use collm_core::frame::ToCloud;
    use collm_wire::proto;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_step_follows_from_what_was_done_or_heard_last() {
        let said = || Seen::Said(Box::new(ToCloud::Close.into()));
        let confirmed = vec![proto::Confirmed::default(); 2];
        let answer = proto::Answer { confirmed, ..Default::default() };
        let confirming = CloudFrame { frame: Some(Frame::Answer(answer)) };
        // Computes 5 ms, sends, hears three answers after 20 ms, tells 1 ms later, computes 9 ms more, sends.
        let seen = vec![
            (5 * MS, said()),
            (25 * MS, Seen::Heard(things_said(&confirming))),
            (26 * MS, Seen::Told),
            (27 * MS, Seen::Told),
            (35 * MS, said()),
        ];
        let trace = Trace::of(seen, 1);
        let steps: Vec<(usize, Duration, bool)> =
            trace.steps.iter().map(|step| (step.heard, step.after, step.does == Does::Tell)).collect();
        assert_eq!(steps, [(0, 5 * MS, false), (3, MS, true), (3, 9 * MS, false)]);
        assert_eq!((trace.tokens(), trace.frames(), trace.edge_time()), (1, 2, 15 * MS));
    }
}
