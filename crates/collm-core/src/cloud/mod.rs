//! The cloud: keeps each session's context and finishes only what its edge is unsure of.
//!
//! [`Cloud`] is the paper's context manager (section IV-C) for many sessions: contexts with a fixed memory budget, admission,
//! eviction, and a plan that puts rows of several sessions into one batch. After every input, drain
//! [`Cloud::poll_output`] before the next input. Absent on purpose: sockets, threads, tensors, text.

mod admission;
mod batch;
mod bill;
mod context;
mod output;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

pub use output::{Batch, BatchInput, BatchOutcome, BatchPart, Output, PeerId};

use self::{batch::Running, context::Context};
use crate::{
    blocks::Blocks,
    frame::{Feed, Identity, Open, Refusal, RefusalCode, ToCloud, ToEdge, Turn},
    ids::{Epoch, Position, SessionId, SlotId, TokenId},
    limits::Limits,
    sampling::Scoring,
    states::Encoding,
    time::Time,
};

/// Everything a cloud is told at start.
#[derive(Debug, Clone)]
pub struct CloudConfig {
    /// The half it holds. A cloud with the whole model takes the identity of the pair it serves.
    pub identity: Identity,
    /// Whether it holds `[0, e1)` too, and so serves sessions fed with tokens.
    pub holds_whole: bool,
    /// How states may be written that are uploaded to it.
    pub encodings: Vec<Encoding>,
    /// Positions of a context.
    pub context: u32,
    /// Contexts with key-value memory at once (slots of the engine).
    pub slots: u32,
    /// Rows of one batch; at least a block.
    pub batch_rows_max: u32,
    /// How the engine wants prompts cut. A prompt is computed in whole blocks wherever it has them, what follows
    /// never is (invariant 16).
    pub blocks: Blocks,
    /// What is computed while nobody asks.
    pub ahead: Ahead,
    /// Sessions held at once, with key-value memory or not. More are refused as busy.
    pub contexts_max: u32,
    /// Bytes of hidden states held for all sessions together.
    pub states_bytes_max: usize,
    /// A context that nobody used for so long is dropped.
    pub idle_max: Duration,
    /// However many wait, a session that is being answered keeps its slot for so long, and its context for so long after each use: if
    /// those in the middle of an answer took from each other, all would be computed anew for every token.
    pub hold: Duration,
}

/// What a cloud computes while nobody asks, so that an ask waits for its own position and not for all that came up since the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ahead {
    /// A session that never asks costs nothing.
    Nothing,
    /// Prompts, block by block. The positions of an answer wait for an ask and are computed together, which is cheaper where an engine
    /// computes several rows in little more time than one.
    Prompts,
    /// Prompts and answers, all but a session's newest position, unless that ends a block of the prompt: it may be asked about next.
    Answers,
    /// The newest position, too, and the token after it, so that who asks about it hears at once. What is never asked about is computed
    /// in smaller batches, and its LM head in vain; logits that are of no use end the session there, too.
    #[default]
    Everything,
}

impl CloudConfig {
    /// What it can be fed with.
    fn takes(&self) -> BTreeSet<Feed> {
        let tokens = self.holds_whole.then_some(Feed::Tokens);
        self.encodings.iter().copied().map(Feed::States).chain(tokens).collect()
    }
}

/// What a cloud holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Open streams.
    pub peers: usize,
    /// Sessions held.
    pub contexts: usize,
    /// Sessions with key-value memory.
    pub slots: usize,
    /// Positions whose keys and values are in a slot.
    pub positions: usize,
    /// Bytes of uploads held.
    pub states_bytes: usize,
    /// Sessions with an open question.
    pub waiting: usize,
}

/// The cloud of many sessions.
#[derive(Debug)]
pub struct Cloud {
    config: CloudConfig,
    contexts: BTreeMap<SessionId, Context>,
    peers: BTreeMap<PeerId, Peer>,
    free_slots: Vec<SlotId>,
    running: Option<Running>,
    contexts_made: u64,
    draining: bool,
    outputs: VecDeque<Output>,
}

/// A stream and its session.
#[derive(Debug)]
struct Peer {
    /// How it introduced itself, with the epoch it is in now.
    open: Open,
    /// It was told what is missing. Until that comes, its questions are not answered: it will ask them again.
    replaying: bool,
    /// Its answer is complete. What is held of it is for a follow-up, and gives way to everybody else.
    parked: bool,
}

impl Cloud {
    /// A cloud without contexts.
    pub fn new(config: CloudConfig) -> Self {
        Self {
            contexts: BTreeMap::new(),
            peers: BTreeMap::new(),
            // Popped from the end: the lowest slot first.
            free_slots: (0..config.slots).rev().map(SlotId).collect(),
            running: None,
            contexts_made: 0,
            draining: false,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// A frame came in. The first of a stream must be [`ToCloud::Open`].
    pub fn handle_frame(&mut self, now: Time, peer: PeerId, frame: ToCloud) {
        let result = match frame {
            ToCloud::Open(open) => self.open(now, peer, open),
            frame => self.session_frame(now, peer, frame),
        };
        if let Err(refusal) = result {
            self.refuse(now, peer, refusal);
        }
        self.plan(now);
    }

    /// Ends a stream, this one only, with a reason: its frames broke a rule, or its bytes were no frames.
    pub fn refuse(&mut self, now: Time, peer: PeerId, refusal: Refusal) {
        self.detach(now, peer);
        self.end_stream(peer, refusal);
        self.plan(now);
    }

    /// A stream failed or was ended by the edge. Its context is kept for a while.
    pub fn handle_link_down(&mut self, now: Time, peer: PeerId) {
        self.detach(now, peer);
        self.plan(now);
    }

    /// The batch is done.
    pub fn handle_compute(&mut self, now: Time, outcome: BatchOutcome) {
        self.batch_done(now, outcome);
        self.plan(now);
    }

    /// The moment of [`Cloud::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        let idle_max = self.config.idle_max;
        let stale = self.contexts.values().filter(|context| context.work.is_idle() && now >= context.used + idle_max);
        for session in stale.map(|context| context.session).collect::<Vec<_>>() {
            self.forget(session);
        }
        self.plan(now);
    }

    /// From now on new sessions are refused, and follow-ups are new; answers under way go on.
    pub fn drain(&mut self) {
        self.draining = true;
        let parked = self.peers.iter().filter(|(_, peer)| peer.parked).map(|(&id, peer)| (id, peer.open.session));
        for (peer, session) in parked.collect::<Vec<_>>() {
            self.forget(session);
            self.end_stream(peer, admission::draining());
        }
    }

    /// The next thing to do, in order. Whether anybody still wants the batch under way is said last.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.interrupt().then_some(Output::Interrupt))
    }

    /// When to call [`Cloud::handle_timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Time> {
        let idle = self.contexts.values().filter(|context| context.work.is_idle());
        let stale = idle.map(|context| context.used + self.config.idle_max);
        stale.chain(self.next_slot_at()).min()
    }

    /// What is held now.
    pub fn occupancy(&self) -> Occupancy {
        let contexts = self.contexts.values();
        let computed = contexts.clone().filter(|context| context.slot.is_some());
        Occupancy {
            peers: self.peers.len(),
            contexts: self.contexts.len(),
            slots: computed.clone().count(),
            positions: computed.map(|context| context.computed as usize).sum(),
            states_bytes: self.states_bytes(),
            waiting: contexts.filter(|context| !context.work.is_idle()).count(),
        }
    }

    fn open(&mut self, now: Time, peer: PeerId, open: Open) -> Result<(), Refusal> {
        if self.peers.contains_key(&peer) {
            return Err(malformed("a stream opens once"));
        }
        admission::check(&open, &self.config)?;
        if self.draining {
            return Err(admission::draining());
        }
        self.supersede(now, &open)?;
        if self.contexts.get(&open.session).is_some_and(|context| !context.continues(&open)) {
            self.forget(open.session);
        }
        self.peers.insert(peer, Peer { open, replaying: false, parked: false });
        let context = self.context(now, peer)?;
        context.peer = Some(peer);
        let held = context.held.rows();
        self.outputs.push_back(Output::Transmit(peer, ToEdge::Opened { held, takes: self.config.takes() }));
        Ok(())
    }

    /// Ends the stream that a session had before, if it is still there; or refuses the new one, if that was the earlier and only
    /// took longer to get here.
    fn supersede(&mut self, now: Time, open: &Open) -> Result<(), Refusal> {
        let there = self.peers.iter().find(|(_, peer)| peer.open.session == open.session);
        let Some((there, attempt)) = there.map(|(&id, peer)| (id, peer.open.attempt)) else {
            return Ok(());
        };
        if attempt > open.attempt {
            return Err(admission::superseded());
        }
        self.detach(now, there);
        self.end_stream(there, admission::superseded());
        Ok(())
    }

    fn session_frame(&mut self, now: Time, peer: PeerId, frame: ToCloud) -> Result<(), Refusal> {
        let Some(Peer { open, .. }) = self.peers.get_mut(&peer) else {
            return Err(malformed("the first frame of a stream must open a session"));
        };
        let current = open.epoch;
        match frame {
            ToCloud::Close => {
                let session = open.session;
                self.forget(session);
                self.peers.remove(&peer);
                self.outputs.push_back(Output::Disconnect(peer));
                Ok(())
            }
            ToCloud::Truncate { epoch, length } if epoch > current => {
                open.epoch = epoch;
                self.peer(peer).replaying = false;
                let context = self.context(now, peer)?;
                context.epoch = epoch;
                context.truncate(length);
                Ok(())
            }
            // The edge begins an epoch with it; after a wrong guess this side may have begun that one by itself.
            ToCloud::Park { epoch, length } if epoch >= current => {
                open.epoch = epoch;
                self.park(peer, length)
            }
            ToCloud::Turn(turn) if turn.epoch > current => self.turn(now, peer, turn),
            frame => match epoch_of(&frame) {
                Some(epoch) if epoch > current => Err(malformed("a frame of an epoch that has not begun")),
                Some(epoch) if epoch < current => Ok(()),
                _ => self.current_frame(now, peer, frame),
            },
        }
    }

    /// The session's answer is complete. What it holds stays, if there is any: none is made for it.
    fn park(&mut self, peer: PeerId, length: u32) -> Result<(), Refusal> {
        if self.draining {
            return Err(admission::draining());
        }
        let Peer { open, parked, .. } = self.peer(peer);
        *parked = true;
        let (session, epoch) = (open.session, open.epoch);
        if let Some(context) = self.contexts.get_mut(&session) {
            context.epoch = epoch;
            context.truncate(length);
            context.work = context::Work::none();
        }
        Ok(())
    }

    /// The session goes on with a new prompt. What gave way meanwhile is missed at once, before more comes that would not fit.
    fn turn(&mut self, now: Time, peer: PeerId, turn: Turn) -> Result<(), Refusal> {
        let Turn { epoch, length, prompt, sampling } = turn;
        let open = Open { epoch, prompt, sampling, ..self.peers[&peer].open.clone() };
        admission::check(&open, &self.config)?;
        *self.peer(peer) = Peer { open: open.clone(), replaying: false, parked: false };
        let context = self.context(now, peer)?;
        context.turn(&open, length);
        let held = context.held.rows();
        if held < length {
            self.peer(peer).replaying = true;
            self.outputs.push_back(Output::Transmit(peer, ToEdge::Missing { epoch, held }));
        }
        Ok(())
    }

    /// A frame of the session's present epoch.
    fn current_frame(&mut self, now: Time, peer: PeerId, frame: ToCloud) -> Result<(), Refusal> {
        match frame {
            ToCloud::States { first, block, tokens, .. } => {
                // Of another width it would fail the batch, and so the sessions beside it.
                let has_width = block.has_width(self.config.identity.width);
                let told = if self.peers[&peer].open.tells_tokens { block.rows() as usize } else { 0 };
                self.known(&tokens)?;
                let open = &self.peers[&peer].open;
                let fits = has_width && tokens.len() == told && Feed::States(block.encoding()) == open.feed;
                let bytes = block.bytes().len() + size_of_val(tokens.as_slice());
                self.upload(now, peer, first, block.rows(), bytes, |held| fits && held.push_states(block, &tokens))
            }
            ToCloud::Tokens { first, tokens, .. } => {
                self.known(&tokens)?;
                if tokens.is_empty() {
                    return Err(malformed("an upload of no tokens"));
                }
                let bytes = size_of_val(tokens.as_slice());
                self.upload(now, peer, first, tokens.len() as u32, bytes, |held| held.push_tokens(&tokens))
            }
            ToCloud::Ask(ask) => {
                let position = ask.position;
                let mut foreseen = None;
                self.question(now, peer, position, |context| {
                    foreseen = context.ask(&ask, now);
                    context.work.ask_count() <= Limits::DEFAULT.open_asks_max as usize
                })?;
                if let Some(answer) = foreseen {
                    let context = &self.contexts[&self.peers[&peer].open.session];
                    Self::tell(&mut self.peers, &mut self.outputs, context, [ToEdge::Answer(answer)]);
                }
                Ok(())
            }
            ToCloud::Score { first, end, .. } => {
                let last = Position(end.0.saturating_sub(1));
                self.question(now, peer, last, |context| context.score(first, end, now))
            }
            ToCloud::Generate { position, tokens_max, stop, .. } => {
                let left = tokens_max.min(self.config.context);
                self.admit_bytes(now, self.peers[&peer].open.session, left as usize * size_of::<TokenId>())?;
                self.question(now, peer, position, |context| {
                    let possible = context.feed == Feed::Tokens && position.0 + 1 == context.held.rows() && left > 0;
                    context.generate(position, left, stop, now);
                    possible
                })
            }
            // Answered above.
            ToCloud::Open(_) | ToCloud::Truncate { .. } | ToCloud::Park { .. } | ToCloud::Turn(_) | ToCloud::Close => {
                Ok(())
            }
        }
    }

    /// Adds `rows` positions from `first` on. What follows a hole cannot be used: it is dropped, and the next question says what is missing.
    fn upload(
        &mut self,
        now: Time,
        peer: PeerId,
        first: Position,
        rows: u32,
        bytes: usize,
        push: impl FnOnce(&mut context::Held) -> bool,
    ) -> Result<(), Refusal> {
        let context_max = self.config.context;
        let session = self.peers[&peer].open.session;
        // No context is made, and no other gives way, for what would be dropped.
        let held = self.contexts.get(&session).map_or(0, |context| context.held.rows());
        if first.0 > held {
            return Ok(());
        }
        if first.0 < held {
            return Err(malformed("positions that were uploaded before"));
        }
        if held.saturating_add(rows) > context_max {
            return Err(admission::outgrown(context_max));
        }
        self.admit_bytes(now, session, bytes)?;
        self.peer(peer).replaying = false;
        if push(&mut self.context(now, peer)?.held) {
            Ok(())
        } else {
            Err(malformed("an upload that is not what the session announced"))
        }
    }

    /// Puts a question to a context that holds its position; says what is missing otherwise.
    fn question(
        &mut self,
        now: Time,
        peer: PeerId,
        position: Position,
        put: impl FnOnce(&mut Context) -> bool,
    ) -> Result<(), Refusal> {
        let context = self.context(now, peer)?;
        let held = context.held.rows();
        let epoch = context.epoch;
        if position.0 >= held {
            if !std::mem::replace(&mut self.peer(peer).replaying, true) {
                self.outputs.push_back(Output::Transmit(peer, ToEdge::Missing { epoch, held }));
            }
            return Ok(());
        }
        let context = self.context(now, peer)?;
        if put(context) { Ok(()) } else { Err(malformed("a question that this session cannot ask")) }
    }

    /// Refuses tokens that the model does not have.
    fn known(&self, tokens: &[TokenId]) -> Result<(), Refusal> {
        let vocabulary = self.config.identity.vocabulary;
        if tokens.iter().all(|token| token.0 < vocabulary) { Ok(()) } else { Err(malformed("unknown tokens")) }
    }

    fn peer(&mut self, peer: PeerId) -> &mut Peer {
        self.peers.get_mut(&peer).expect("callers have looked it up")
    }

    /// The context of an open stream, made anew if it had to give way.
    fn context(&mut self, now: Time, peer: PeerId) -> Result<&mut Context, Refusal> {
        let session = self.peers[&peer].open.session;
        if !self.contexts.contains_key(&session) {
            self.admit_context(now)?;
            self.contexts_made += 1;
            let open = &self.peers[&peer].open;
            let context = Context::new(open, self.config.blocks, self.contexts_made, peer, now);
            self.contexts.insert(session, context);
        }
        let context = self.contexts.get_mut(&session).expect("inserted above");
        context.used = now;
        Ok(context)
    }

    /// Whether what a context holds is for a follow-up that may never come.
    fn is_parked(peers: &BTreeMap<PeerId, Peer>, context: &Context) -> bool {
        context.peer.and_then(|peer| peers.get(&peer)).is_some_and(|peer| peer.parked)
    }

    /// Drops a context and frees its slot. A batch that works on it goes on for others alone, or is interrupted.
    fn forget(&mut self, session: SessionId) {
        if let Some(context) = self.contexts.remove(&session) {
            self.free_slots.extend(context.slot);
        }
    }

    /// Takes a stream off its context. What it asked is no longer of use to anyone.
    fn detach(&mut self, now: Time, peer: PeerId) {
        let Some(Peer { open, .. }) = self.peers.remove(&peer) else {
            return;
        };
        if let Some(context) = self.contexts.get_mut(&open.session).filter(|context| context.peer == Some(peer)) {
            context.peer = None;
            context.work = context::Work::none();
            context.used = now;
        }
    }

    fn end_stream(&mut self, peer: PeerId, refusal: Refusal) {
        self.peers.remove(&peer);
        self.outputs.push_back(Output::Transmit(peer, ToEdge::Refused(refusal)));
        self.outputs.push_back(Output::Disconnect(peer));
    }
}

fn malformed(what: &str) -> Refusal {
    Refusal {
        code: RefusalCode::Malformed,
        message: format!("the edge sent {what}; it has a fault or another version"),
    }
}

fn epoch_of(frame: &ToCloud) -> Option<Epoch> {
    match frame {
        ToCloud::States { epoch, .. }
        | ToCloud::Tokens { epoch, .. }
        | ToCloud::Generate { epoch, .. }
        | ToCloud::Score { epoch, .. }
        | ToCloud::Truncate { epoch, .. }
        | ToCloud::Park { epoch, .. }
        | ToCloud::Turn(Turn { epoch, .. }) => Some(*epoch),
        ToCloud::Ask(ask) => Some(ask.epoch),
        ToCloud::Open(_) | ToCloud::Close => None,
    }
}
