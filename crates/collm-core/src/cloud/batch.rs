//! What the engine computes next: rows of every session with an open question, in one batch.
//!
//! One batch runs at a time. Sessions are served by the age of their questions; when several wait, each first gets an equal share
//! of the rows, so that one long prompt does not hold up many short questions. While nobody asks, what came up is computed ahead, a
//! block at most at a time, so that a question that comes meanwhile waits for no more than that.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    time::Duration,
};

use super::{
    Batch, BatchOutcome, BatchPart, Cloud, Output, Peer, PeerId, admission,
    bill::{Bill, Spent, Wait},
    context::{Context, Wanted},
};
use crate::{
    frame::{Answer, Refusal, RefusalCode, Scores, ToEdge},
    ids::{Epoch, Position, SessionId, SlotId},
    limits::Limits,
    sampling::Scored,
    time::Time,
};

/// The batch that the engine works on.
#[derive(Debug)]
pub(super) struct Running {
    rows: u32,
    parts: Vec<RunningPart>,
    /// Whether the engine was told that nobody wants any of it.
    interrupted: bool,
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

impl RunningPart {
    /// Its context, if that is still there.
    fn context<'a>(&self, contexts: &'a mut BTreeMap<SessionId, Context>) -> Option<&'a mut Context> {
        contexts.get_mut(&self.session).filter(|context| context.serial == self.serial)
    }

    /// Whether its context is there, and in the same epoch.
    fn is_wanted(&self, contexts: &BTreeMap<SessionId, Context>) -> bool {
        let of = contexts.get(&self.session);
        of.is_some_and(|context| (context.serial, context.epoch) == (self.serial, self.epoch))
    }
}

impl Cloud {
    /// Starts a batch if there is something to compute and none is under way.
    pub(super) fn plan(&mut self, now: Time) {
        if self.running.is_some() {
            return;
        }
        let waiting = self.waiting_with_slots(now);
        let wanted: Vec<Range<u32>> = waiting.iter().map(|(_, wanted)| wanted.clone()).collect();
        let shares = shares(&wanted, self.config.batch_rows_max, self.config.blocks.rows());
        let asked = waiting.into_iter().zip(shares).map(|((session, _), rows)| (session, rows));
        let mut work: Vec<(SessionId, u32)> = asked.filter(|(_, rows)| *rows > 0).collect();
        if work.is_empty() {
            work.extend(self.rows_ahead(now));
        }
        if !work.is_empty() {
            self.compute(&work);
        }
    }

    /// Starts a batch of the next rows of these sessions.
    fn compute(&mut self, work: &[(SessionId, u32)]) {
        let mut running = Running { rows: 0, parts: Vec::new(), interrupted: false };
        let mut batch = Batch { parts: Vec::new() };
        for (session, rows) in work {
            let (part, running_part) = part_of(&self.contexts[session], *rows);
            batch.parts.push(part);
            running.rows += rows;
            running.parts.push(running_part);
        }
        self.running = Some(running);
        self.outputs.push_back(Output::Compute(batch));
    }

    /// Rows that nothing is asked about yet, of the session that was served longest ago. Nobody loses a slot over them but those who are
    /// parked.
    fn rows_ahead(&mut self, now: Time) -> Option<(SessionId, u32)> {
        let (peers, ahead) = (&self.peers, self.config.ahead);
        let gives_way = |context: &Context| context.slot.is_some() && Self::is_parked(peers, context);
        let can_have_slot = !self.free_slots.is_empty() || self.contexts.values().any(gives_way);
        let wants = |context: &&Context| {
            let in_use = context.peer.is_some() && !Self::is_parked(peers, context);
            in_use && context.rows_ahead(ahead) > 0 && (context.slot.is_some() || can_have_slot)
        };
        let session = self.contexts.values().filter(wants).min_by_key(|context| context.used)?.session;
        let taken = self.give_slot(now, session, Claim::Ahead);
        taken.then(|| (session, self.contexts[&session].rows_ahead(ahead).min(self.config.batch_rows_max)))
    }

    /// Whether to interrupt the engine now, which is said once: it works on what nobody wants, since guesses were wrong or edges left.
    pub(super) fn interrupt(&mut self) -> bool {
        let Some(running) = &mut self.running else { return false };
        let useless = !running.parts.iter().any(|part| part.is_wanted(&self.contexts));
        !std::mem::replace(&mut running.interrupted, useless) && useless
    }

    /// Books a finished batch: answers what was asked, and lets generating sessions go on.
    pub(super) fn batch_done(&mut self, now: Time, outcome: BatchOutcome) {
        let Some(running) = self.running.take() else {
            return;
        };
        let spent = |part: &RunningPart, compute: Duration| Spent {
            rows: part.rows,
            compute: compute * part.rows / running.rows.max(1),
        };
        match outcome {
            BatchOutcome::Done { scored, compute } => {
                for (part, scored) in running.parts.iter().zip(scored) {
                    match scored {
                        Ok(scored) => self.part_done(now, part, scored, spent(part, compute)),
                        Err(why) => self.part_failed(part, &why),
                    }
                }
            }
            BatchOutcome::Interrupted { compute } => {
                running.parts.iter().for_each(|part| self.part_in_vain(part, spent(part, compute)));
            }
            BatchOutcome::Failed(why) => running.parts.iter().for_each(|part| self.part_failed(part, &why)),
        }
    }

    fn part_in_vain(&mut self, part: &RunningPart, spent: Spent) {
        if let Some(context) = part.context(&mut self.contexts) {
            context.unbilled.in_vain(spent);
        }
    }

    fn part_done(&mut self, now: Time, part: &RunningPart, scored: Vec<Scored>, whole: Spent) {
        let context_max = self.config.context;
        let Some(context) = part.context(&mut self.contexts) else { return };
        if part.epoch != context.epoch {
            return context.unbilled.in_vain(whole);
        }
        if context.computed == part.first {
            // A parked context may have lost some of them meanwhile.
            context.computed = (context.computed + part.rows).min(context.held.rows());
        }
        context.used = now;
        let mut bill = Bill::new(part.first, whole);
        let mut told = Vec::new();
        let mut was_right = false;
        let mut outgrown = false;
        for (&position, scored) in part.positions.iter().zip(scored) {
            // Answers come in the order of their positions: what was asked before this one meanwhile is answered before it.
            let is_next = context.work.first_position() == Some(position);
            let Some(question) = is_next.then(|| context.work.take(position)).flatten() else {
                context.foresee(position, scored);
                continue;
            };
            let spent = bill.take(position, Some(&position) == part.positions.last());
            let token = scored.choice.token;
            if question.wanted == Wanted::Likelihood {
                let wait = Wait { since: question.since, until: now };
                tell_likelihood(&mut told, context.epoch, position, scored, spent, wait);
                continue;
            }
            tell_answer(&mut told, context.answer(&question, scored, spent, now), was_right);
            was_right = question.wanted == Wanted::Next(Some(token));
            if context.epoch != part.epoch {
                break;
            }
            outgrown |= !context.feed_back(token, context_max, now);
        }
        if told.is_empty() {
            context.unbilled.on_the_way(bill.rest(), context.work.since().map(|since| now - since));
        } else {
            // Behind a wrong guess.
            context.unbilled.in_vain(bill.rest());
        }
        // A question about an earlier position may have come meanwhile: its rows must be computed again.
        if let Some(first) = context.work.first_position() {
            context.step_back(first.0);
        }
        Self::tell(&mut self.peers, &mut self.outputs, context, told);
        let peer = context.peer.filter(|_| outgrown);
        if let Some(peer) = peer {
            self.detach(now, peer);
            self.end_stream(peer, admission::outgrown(context_max));
        }
    }

    /// Sends what a context has to say to its edge, which draws from it which epoch they are in.
    pub(super) fn tell(
        peers: &mut BTreeMap<PeerId, Peer>,
        outputs: &mut VecDeque<Output>,
        context: &Context,
        told: impl IntoIterator<Item = ToEdge>,
    ) {
        let Some(id) = context.peer else { return };
        if let Some(peer) = peers.get_mut(&id) {
            peer.open.epoch = context.epoch;
        }
        outputs.extend(told.into_iter().map(|frame| Output::Transmit(id, frame)));
    }

    fn part_failed(&mut self, part: &RunningPart, why: &str) {
        let Some(context) = part.context(&mut self.contexts) else { return };
        let peer = context.peer;
        self.forget(part.session);
        if let Some(peer) = peer {
            self.end_stream(peer, Refusal { code: RefusalCode::Internal, message: why.to_owned() });
        }
    }

    /// Sessions with open questions that have, or can be given, a slot, oldest question first, with the positions each wants.
    fn waiting_with_slots(&mut self, now: Time) -> Vec<(SessionId, Range<u32>)> {
        let mut waiting: Vec<(Time, SessionId)> =
            self.contexts.values().filter_map(|context| Some((context.work.since()?, context.session))).collect();
        waiting.sort_unstable();
        let mut served = Vec::new();
        for (_, session) in waiting {
            if served.len() < self.config.batch_rows_max as usize && self.give_slot(now, session, Claim::Asked) {
                let context = self.contexts.get_mut(&session).expect("listed above; giving slots removes no context");
                context.used = now;
                let rows = context.rows_wanted();
                served.push((session, context.computed..context.computed + rows));
            }
        }
        served
    }

    /// Makes sure that a context has a slot, at the expense of an idle one if need be.
    fn give_slot(&mut self, now: Time, session: SessionId, claim: Claim) -> bool {
        if let Some(context) = self.contexts.get_mut(&session).filter(|context| context.slot.is_some()) {
            if claim == Claim::Asked {
                context.held_since.get_or_insert(now);
            }
            return true;
        }
        let Some(slot) = self.free_slots.pop().or_else(|| self.take_idle_slot(now, claim)) else {
            return false;
        };
        let context = self.contexts.get_mut(&session).expect("looked up above");
        context.slot = Some(slot);
        context.held_since = (claim == Claim::Asked).then_some(now);
        context.computed = 0;
        true
    }

    /// When a slot may change hands for a session that waits for one.
    pub(super) fn next_slot_at(&self) -> Option<Time> {
        let waits = |context: &Context| context.slot.is_none() && !context.work.is_idle();
        let idle = |context: &&Context| context.slot.is_some() && context.work.is_idle();
        let some_wait = self.running.is_none() && self.contexts.values().any(waits);
        let free = self.contexts.values().filter(idle).map(|context| context.held_until(self.config.hold)).min();
        free.filter(|_| some_wait)
    }

    /// Takes the slot of the idle context that was not used for longest; of parked ones first. Its states stay: it can be computed
    /// again.
    fn take_idle_slot(&mut self, now: Time, claim: Claim) -> Option<SlotId> {
        let hold = self.config.hold;
        let parked = |context: &Context| Self::is_parked(&self.peers, context);
        let held_until = |context: &Context| if parked(context) { now } else { context.held_until(hold) };
        let idle = |context: &&mut Context| {
            let may = claim == Claim::Asked || parked(context);
            may && context.slot.is_some() && context.gives_way(now, held_until(context))
        };
        let idle = self.contexts.values_mut().filter(idle);
        let context = idle.min_by_key(|context| (!parked(context), context.used))?;
        context.computed = 0;
        context.slot.take()
    }
}

/// What a slot is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// A question waits.
    Asked,
    /// Something may be asked later.
    Ahead,
}

/// In one frame with what the last says, if that confirms a guess: there is nothing else to say of it.
fn tell_answer(told: &mut Vec<ToEdge>, answer: Answer, last_confirms: bool) {
    let last = told.pop_if(|frame| last_confirms && matches!(frame, ToEdge::Answer(_)));
    told.push(ToEdge::Answer(match last {
        Some(ToEdge::Answer(last)) => answer.after_confirming(last),
        _ => answer,
    }));
}

/// Adds to the last frame if that tells of the token before, and has room.
fn tell_likelihood(told: &mut Vec<ToEdge>, epoch: Epoch, position: Position, scored: Scored, spent: Spent, wait: Wait) {
    let Some(log_probs) = scored.log_probs else { return };
    let token_at = position.next();
    if !matches!(told.last(), Some(ToEdge::Scores(scores)) if scores.goes_on_at(token_at)) {
        let nothing = Duration::ZERO;
        told.push(ToEdge::Scores(Scores {
            epoch,
            first: token_at,
            log_probs: Vec::new(),
            compute: nothing,
            queued: nothing,
        }));
    }
    if let Some(ToEdge::Scores(scores)) = told.last_mut() {
        scores.log_probs.push(log_probs);
        scores.tell(spent, wait);
    }
}

impl Scores {
    /// Whether the score of this position may be the next in the frame.
    fn goes_on_at(&self, position: Position) -> bool {
        let count = self.log_probs.len() as u32;
        self.first.0 + count == position.0 && count < Limits::DEFAULT.scores_max
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

/// Divides `rows_max` among those who want positions: a block or what there is of one for each in turn, again and again. Pieces
/// end at block borders, so that a prompt that must be divided keeps its blocks whole.
fn shares(wanted: &[Range<u32>], rows_max: u32, block_rows: u32) -> Vec<u32> {
    let block_rows = block_rows.clamp(1, rows_max.max(1));
    let mut given = vec![0; wanted.len()];
    let mut left = rows_max;
    loop {
        let before = left;
        for (given, wanted) in given.iter_mut().zip(wanted) {
            let at = wanted.start + *given;
            let piece = (block_rows - at % block_rows).min(wanted.end - at);
            if piece <= left {
                *given += piece;
                left -= piece;
            }
        }
        if left == before {
            return given;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &[(u32, u32)], rows_max: u32, block_rows: u32, expected: &[u32]) {
        let ranges: Vec<Range<u32>> = wanted.iter().map(|&(start, end)| start..end).collect();
        assert_eq!(shares(&ranges, rows_max, block_rows), expected, "{wanted:?}");
    }

    #[test]
    fn short_questions_do_not_wait_for_a_long_prompt() {
        check(&[(0, 1000), (50, 51), (7, 8)], 64, 16, &[48, 1, 1]);
        check(&[(9, 10), (0, 1000), (0, 1000)], 64, 16, &[1, 32, 16]);
        check(&[(0, 5), (0, 6)], 64, 16, &[5, 6]);
        check(&[(0, 1000)], 64, 16, &[64]);
        check(&[], 64, 16, &[]);
    }

    #[test]
    fn a_divided_prompt_keeps_its_blocks() {
        check(&[(0, 100)], 70, 64, &[64]);
        check(&[(64, 100)], 70, 64, &[36]);
        // To the border at 64, then one block.
        check(&[(40, 200)], 100, 64, &[88]);
        // Batches smaller than blocks still get on.
        check(&[(0, 100)], 10, 64, &[10]);
    }
}
