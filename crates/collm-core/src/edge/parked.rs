//! A session between two answers: what both sides keep of it for a follow-up.
//!
//! Kept is all that comes before the first block, and of what follows whole blocks of the prompt and nothing of the answer. A prompt is
//! computed in blocks there and an answer one by one (invariant 16), so a follow-up whose prompt contains both gets the same bits as if
//! nothing were kept only if it computes the answer anew.

use std::{collections::VecDeque, time::Duration};

use super::{
    Ablation, Arrival, Edge, Output, Request, StreamId,
    session::{Session, Surroundings},
    uplink::Uplink,
};
use crate::{
    blocks::Blocks,
    frame::ToEdge,
    ids::{Epoch, SessionId, SlotId, TokenId},
    policy::Mode,
    time::Time,
};

/// What a session starts from: an empty slot, or what its last answer left in it.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) slot: SlotId,
    /// Positions that have run through `[0, e1)`.
    pub(super) first_filled: u32,
    /// Positions that have run through the second stage.
    pub(super) second_filled: u32,
    pub(super) epoch: Epoch,
    pub(super) uplink: Uplink,
}

/// A session that waits for its next request.
#[derive(Debug)]
pub(super) struct Parked {
    /// What was computed for another mode is of no use: others upload something else, or nothing.
    pub(super) mode: Mode,
    /// Whether the cloud was told the tokens of uploaded states.
    pub(super) tells_tokens: bool,
    /// Of the last request.
    pub(super) prompt_tokens: u32,
    /// Those whose positions are kept: of the prompt, and maybe of the answer.
    pub(super) tokens: Vec<TokenId>,
    pub(super) ground: Ground,
    pub(super) since: Time,
}

impl Ground {
    /// An empty slot and a cloud that knows nothing.
    pub(super) fn fresh(request: &Request, slot: SlotId, around: &Surroundings<'_>) -> Self {
        let uplink = Uplink::new(request, around.choose_feed(request), around.config);
        Self { slot, first_filled: 0, second_filled: 0, epoch: Epoch(0), uplink }
    }

    /// Positions in the slot, and bytes of states kept for the cloud.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.first_filled as usize, self.uplink.states_bytes())
    }

    /// Forgets positions from `length` on.
    fn truncate(&mut self, length: u32, out: &mut VecDeque<Output>) {
        if self.first_filled > length {
            out.push_back(Output::Truncate(self.slot, length));
        }
        self.first_filled = self.first_filled.min(length);
        self.second_filled = self.second_filled.min(length);
        self.uplink.truncate(length);
    }
}

impl Parked {
    /// Positions that a request can go on from: up to where a prompt may be cut, and not its last position, whose result is what is
    /// wanted. None if more would be lost than is shared, since another conversation may begin alike; but a prompt may be asked again.
    fn shared_with(&self, request: &Request, blocks: Blocks) -> Option<u32> {
        let before_last = &request.prompt[..request.prompt.len() - 1];
        let same = self.tokens.iter().zip(before_last).take_while(|(ours, theirs)| ours == theirs).count();
        let shared = blocks.cut_before(same as u32);
        let kept = self.tokens.len() as u32;
        let is_asked_again = shared >= blocks.cut_before(self.prompt_tokens - 1).min(kept);
        // Who asks how likely the prompt was needs all of it to be computed.
        let alike = self.mode == request.mode
            && request.without == Ablation::Nothing
            && self.tells_tokens == request.tells_tokens()
            && !request.score_prompt;
        (alike && shared > 0 && (is_asked_again || shared * 2 >= kept)).then_some(shared)
    }

    /// Returns whether there is still something to keep.
    fn handle_frame(&mut self, now: Time, frame: &ToEdge, out: &mut VecDeque<Output>) -> bool {
        match frame {
            ToEdge::Opened { held, .. } => self.ground.uplink.opened(*held).is_some(),
            ToEdge::Refused(refusal) => {
                self.ground.uplink.disconnect(out);
                self.lose_cloud(now) && refusal.code.retryable()
            }
            // To the last request, and of an older epoch.
            ToEdge::Answer(_) | ToEdge::Scores(_) | ToEdge::Missing { .. } => true,
        }
    }

    /// The stream is gone. Returns whether there is still something to keep: what the edge computed, but in cloud mode that was the
    /// cloud.
    fn lose_cloud(&mut self, now: Time) -> bool {
        self.ground.uplink.lose(Some(now));
        self.mode != Mode::Cloud
    }
}

impl Edge {
    /// Keeps nothing for follow-ups from now on, and forgets what is kept, here and in the cloud.
    pub fn keep_nothing(&mut self, now: Time) {
        self.common.config.keep = Duration::ZERO;
        self.forget_parked(now);
    }

    /// The parked session that shares most with a request, and how many positions.
    pub(super) fn resumable(&self, request: &Request) -> Option<(u32, SessionId)> {
        let blocks = self.common.config.blocks;
        let shared = |(id, parked): (&SessionId, &Parked)| Some((parked.shared_with(request, blocks)?, *id));
        self.parked.iter().filter_map(shared).max()
    }

    /// Lets a parked session answer, from its first `length` positions on.
    pub(super) fn resume(&mut self, mut arrival: Arrival, id: SessionId, length: u32) {
        let now = arrival.at;
        let mut ground = self.parked.remove(&id).expect("it is parked").ground;
        ground.truncate(length, &mut self.common.outputs);
        ground.epoch.0 += 1;
        ground.uplink.resume(now, ground.epoch, &arrival.request, &mut self.common.outputs);
        arrival.request.session = id;
        let session = Session::start(arrival, ground, &mut self.common.around(now));
        self.sessions.insert(id, session);
    }

    /// Keeps a session whose answer is complete, or lets it go.
    pub(super) fn clear_up(&mut self, now: Time, session: Session) {
        let wanted = self.waiting.is_empty() && session.can_park(&self.common.config);
        let mut around = self.common.around(now);
        if wanted {
            let parked = session.park(&mut around);
            self.parked.insert(parked.ground.uplink.session(), parked);
        } else {
            self.free_slots.push(session.leave(&mut around));
        }
    }

    /// Makes room for one more session at the expense of the one that was parked longest ago.
    pub(super) fn evict_parked(&mut self) {
        let oldest = self.parked.iter().min_by_key(|(_, parked)| parked.since).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.forget(id);
        }
    }

    /// Forgets those that nobody came back to in time.
    pub(super) fn forget_parked(&mut self, now: Time) {
        let keep = self.common.config.keep;
        let over = self.parked.iter().filter(|(_, parked)| now >= parked.since + keep).map(|(id, _)| *id);
        for id in over.collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    /// When the next parked session is forgotten.
    pub(super) fn parked_until(&self) -> Option<Time> {
        self.parked.values().map(|parked| parked.since + self.common.config.keep).min()
    }

    pub(super) fn parked_frame(&mut self, now: Time, stream: StreamId, frame: &ToEdge) {
        let Some(parked) = self.parked.get_mut(&stream.session) else { return };
        if parked.ground.uplink.is(stream) && !parked.handle_frame(now, frame, &mut self.common.outputs) {
            self.forget(stream.session);
        }
    }

    pub(super) fn parked_link_down(&mut self, now: Time, stream: StreamId) {
        let Some(parked) = self.parked.get_mut(&stream.session) else { return };
        if parked.ground.uplink.is(stream) && !parked.lose_cloud(now) {
            self.forget(stream.session);
        }
    }

    /// Forgets a parked session, on both sides.
    pub(super) fn forget(&mut self, id: SessionId) {
        if let Some(mut parked) = self.parked.remove(&id) {
            parked.ground.uplink.close(&mut self.common.outputs);
            self.common.outputs.push_back(Output::Free(parked.ground.slot));
            self.free_slots.push(parked.ground.slot);
        }
    }
}
