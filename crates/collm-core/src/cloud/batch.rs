//! What the engine computes next: rows of every session with an open question, in one batch.
//!
//! One batch runs at a time. Sessions are served by the age of their questions; when several wait, each first gets an equal share
//! of the rows, so that one long prompt does not hold up many short questions.

use std::time::Duration;

use super::{Batch, BatchOutcome, BatchPart, Cloud, Output, context::Context};
use crate::{
    frame::{Answer, Refusal, RefusalCode, ToEdge},
    ids::{Epoch, Position, SessionId, SlotId},
    sampling::Choice,
    time::Time,
};

/// The batch that the engine works on.
#[derive(Debug)]
pub(super) struct Running {
    since: Time,
    rows: u32,
    parts: Vec<RunningPart>,
}

#[derive(Debug)]
struct RunningPart {
    session: SessionId,
    serial: u64,
    epoch: Epoch,
    first: u32,
    rows: u32,
    positions: Vec<Position>,
}

impl Cloud {
    /// Starts a batch if there is something to compute and none is under way.
    pub(super) fn plan(&mut self, now: Time) {
        if self.running.is_some() {
            return;
        }
        let waiting = self.waiting_with_slots(now);
        let shares = shares(&waiting.iter().map(|(_, wanted)| *wanted).collect::<Vec<_>>(), self.config.batch_rows_max);
        let mut running = Running { since: now, rows: 0, parts: Vec::new() };
        let mut batch = Batch { parts: Vec::new() };
        for ((session, _), rows) in waiting.into_iter().zip(shares).filter(|(_, rows)| *rows > 0) {
            let context = &self.contexts[&session];
            let (part, running_part) = part_of(context, rows);
            batch.parts.push(part);
            running.rows += rows;
            running.parts.push(running_part);
        }
        if !batch.parts.is_empty() {
            self.running = Some(running);
            self.outputs.push_back(Output::Compute(batch));
        }
    }

    /// Books a finished batch: answers what was asked, and lets generating sessions go on.
    pub(super) fn batch_done(&mut self, now: Time, outcome: BatchOutcome) {
        let Some(running) = self.running.take() else {
            return;
        };
        let (choices, compute) = match outcome {
            BatchOutcome::Done { choices, compute } => (choices, compute),
            BatchOutcome::Failed(why) => (running.parts.iter().map(|_| Err(why.clone())).collect(), Duration::ZERO),
        };
        for (part, choices) in running.parts.iter().zip(choices) {
            let share = compute * part.rows / running.rows.max(1);
            match choices {
                Ok(choices) => self.part_done(now, running.since, part, &choices, share),
                Err(why) => self.part_failed(part, why),
            }
        }
    }

    fn part_done(&mut self, now: Time, began: Time, part: &RunningPart, choices: &[Choice], compute: Duration) {
        let context_max = self.config.context;
        let Some(context) = self.contexts.get_mut(&part.session).filter(|context| part.is_of(context)) else {
            return;
        };
        // A question about an earlier position may have come meanwhile; then these rows must be computed again.
        if context.computed == part.first {
            context.computed += part.rows;
        }
        context.used = now;
        for (&position, choice) in part.positions.iter().zip(choices) {
            let Some(question) = context.work.take(position) else {
                continue;
            };
            let answer = Answer {
                epoch: context.epoch,
                position,
                token: choice.token,
                confidence: choice.confidence,
                compute: compute / part.positions.len() as u32,
                queued: began - question.since,
            };
            if let Some(peer) = context.peer {
                self.outputs.push_back(Output::Transmit(peer, ToEdge::Answer(answer)));
            }
            if question.guess.is_some_and(|guess| guess != choice.token) {
                context.roll_back(position);
                if let Some(peer) = context.peer.and_then(|peer| self.peers.get_mut(&peer)) {
                    peer.open.epoch = context.epoch;
                }
                return;
            }
            context.feed_back(choice.token, context_max, now);
        }
    }

    fn part_failed(&mut self, part: &RunningPart, why: String) {
        let Some(context) = self.contexts.get(&part.session).filter(|context| context.serial == part.serial) else {
            return;
        };
        let peer = context.peer;
        self.forget(part.session);
        if let Some(peer) = peer {
            self.end_stream(peer, Refusal { code: RefusalCode::Internal, message: why });
        }
    }

    /// Sessions with open questions that have, or can be given, a slot, oldest question first, with the rows each wants.
    fn waiting_with_slots(&mut self, now: Time) -> Vec<(SessionId, u32)> {
        let mut waiting: Vec<(Time, SessionId)> =
            self.contexts.values().filter_map(|context| Some((context.work.since()?, context.session))).collect();
        waiting.sort_unstable();
        waiting.truncate(self.config.batch_rows_max as usize);
        let mut served = Vec::new();
        for (_, session) in waiting {
            if self.give_slot(session) {
                let context = self.contexts.get_mut(&session).expect("listed above; giving slots removes no context");
                context.used = now;
                served.push((session, context.rows_wanted()));
            }
        }
        served
    }

    /// Makes sure that a context has a slot, at the expense of an idle one if need be.
    fn give_slot(&mut self, session: SessionId) -> bool {
        if self.contexts[&session].slot.is_some() {
            return true;
        }
        let Some(slot) = self.free_slots.pop().or_else(|| self.take_idle_slot()) else {
            return false;
        };
        let context = self.contexts.get_mut(&session).expect("looked up above");
        context.slot = Some(slot);
        context.computed = 0;
        true
    }

    /// Takes the slot of the idle context that was not used for longest. Its states stay: it can be computed again.
    fn take_idle_slot(&mut self) -> Option<SlotId> {
        let idle = |context: &&mut Context| context.work.is_idle() && context.slot.is_some();
        let context = self.contexts.values_mut().filter(idle).min_by_key(|context| context.used)?;
        context.computed = 0;
        context.slot.take()
    }
}

impl RunningPart {
    /// Whether `context` is still what it was when the batch began.
    fn is_of(&self, context: &Context) -> bool {
        (context.serial, context.epoch) == (self.serial, self.epoch)
    }
}

fn part_of(context: &Context, rows: u32) -> (BatchPart, RunningPart) {
    let (input, scores) = context.next_rows(rows);
    let running = RunningPart {
        session: context.session,
        serial: context.serial,
        epoch: context.epoch,
        first: context.computed,
        rows,
        positions: scores.iter().map(|score| score.position).collect(),
    };
    let slot = context.slot.expect("only contexts with a slot are planned");
    (BatchPart { slot, first: Position(context.computed), input, scores }, running)
}

/// Divides `rows_max` among those who want rows: an equal share each first, then what is left in order.
fn shares(wanted: &[u32], rows_max: u32) -> Vec<u32> {
    let share = rows_max / (wanted.len() as u32).max(1);
    let mut given: Vec<u32> = wanted.iter().map(|&wanted| wanted.min(share)).collect();
    let mut left = rows_max - given.iter().sum::<u32>();
    for (given, wanted) in given.iter_mut().zip(wanted) {
        let more = left.min(wanted - *given);
        *given += more;
        left -= more;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn short_questions_do_not_wait_for_a_long_prompt() {
        assert_eq!(shares(&[1000, 1, 1], 64), [62, 1, 1]);
        assert_eq!(shares(&[1, 1000, 1000], 64), [1, 42, 21]);
        assert_eq!(shares(&[5, 6], 64), [5, 6]);
        assert_eq!(shares(&[1000], 64), [64]);
        assert_eq!(shares(&[], 64), []);
    }
}
