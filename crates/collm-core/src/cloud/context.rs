//! What the cloud holds of one session: the states it was sent, how far they are computed, and what is asked.

use std::{collections::VecDeque, time::Duration};

use super::{
    Ahead, BatchInput, PeerId, Scoring,
    bill::{Spent, Unbilled, Wait},
};
use crate::{
    blocks::Blocks,
    frame::{Answer, Ask, Feed, Open},
    ids::{Epoch, Position, SessionId, SlotId, TokenId},
    sampling::{Sampling, Scored},
    states::{StateBlock, StateLog},
    time::Time,
};

#[derive(Debug)]
pub(super) struct Context {
    pub(super) session: SessionId,
    /// Tells contexts of the same session apart when one replaces another while a batch runs.
    pub(super) serial: u64,
    /// The stream in use; `None` while the edge is away.
    pub(super) peer: Option<PeerId>,
    pub(super) epoch: Epoch,
    /// Positions of the prompt.
    prompt: u32,
    pub(super) feed: Feed,
    sampling: Sampling,
    /// Whether states come with their tokens.
    tells_tokens: bool,
    blocks: Blocks,
    pub(super) slot: Option<SlotId>,
    /// Positions whose keys and values are in the slot.
    pub(super) computed: u32,
    pub(super) held: Held,
    pub(super) work: Work,
    /// What was computed before anybody asked: the token after this position.
    foreseen: Option<(Position, Scored)>,
    pub(super) unbilled: Unbilled,
    pub(super) used: Time,
    /// When it was first asked with its slot: one that it has for what is computed ahead gives way at once.
    pub(super) held_since: Option<Time>,
}

/// What was uploaded.
#[derive(Debug)]
pub(super) enum Held {
    /// States, and their tokens if the session tells them.
    States(StateLog, Vec<TokenId>),
    Tokens(Vec<TokenId>),
}

/// What is asked of the context.
#[derive(Debug)]
pub(super) enum Work {
    /// Open asks by rising position.
    Asks(VecDeque<Question>),
    /// The cloud generates by itself (cloud mode).
    Generate { next: Question, left: u32, stop: Vec<TokenId> },
}

/// One token to compute.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) position: Position,
    pub(super) wanted: Wanted,
    pub(super) since: Time,
}

/// What is asked about a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The token after it, to compare with what the edge goes on with meanwhile.
    Next(Option<TokenId>),
    /// How likely the token after it was, which is given.
    Likelihood,
}

impl Context {
    pub(super) fn new(open: &Open, blocks: Blocks, serial: u64, peer: PeerId, now: Time) -> Self {
        Self {
            session: open.session,
            serial,
            peer: Some(peer),
            epoch: open.epoch,
            prompt: open.prompt,
            feed: open.feed,
            sampling: open.sampling.clone(),
            tells_tokens: open.tells_tokens,
            blocks,
            slot: None,
            computed: 0,
            held: match open.feed {
                Feed::States(_) => Held::States(StateLog::default(), Vec::new()),
                Feed::Tokens => Held::Tokens(Vec::new()),
            },
            work: Work::none(),
            foreseen: None,
            unbilled: Unbilled::default(),
            used: now,
            held_since: None,
        }
    }

    /// Whether a reconnecting edge can go on with this context.
    pub(super) fn continues(&self, open: &Open) -> bool {
        (self.epoch, self.prompt, self.feed, self.tells_tokens)
            == (open.epoch, open.prompt, open.feed, open.tells_tokens)
            && self.sampling == open.sampling
    }

    /// Memory held, and spoken for by tokens that are still to be generated.
    pub(super) fn bytes(&self) -> usize {
        let to_come = match &self.work {
            Work::Asks(_) => 0,
            Work::Generate { left, .. } => *left as usize * size_of::<TokenId>(),
        };
        to_come
            + match &self.held {
                Held::States(log, told) => log.bytes() + size_of_val(told.as_slice()),
                Held::Tokens(tokens) => size_of_val(tokens.as_slice()),
            }
    }

    /// Forgets positions from `length` on, and the questions about them.
    pub(super) fn truncate(&mut self, length: u32) {
        match &mut self.held {
            Held::States(log, told) => {
                log.truncate(length);
                told.truncate(length as usize);
            }
            Held::Tokens(tokens) => tokens.truncate(length as usize),
        }
        self.computed = self.computed.min(length);
        self.work.truncate(length);
        self.foreseen.take_if(|(position, _)| position.0 >= length);
    }

    /// Goes on with the first `length` positions under a new prompt.
    pub(super) fn turn(&mut self, open: &Open, length: u32) {
        self.truncate(length);
        (self.epoch, self.prompt) = (open.epoch, open.prompt);
        self.sampling = open.sampling.clone();
        self.foreseen = None;
    }

    /// The edge's guess at the token after `position` is wrong: what it uploaded after it is void. The edge draws the same conclusion
    /// from the answer, so both are in the next epoch without another frame.
    pub(super) fn roll_back(&mut self, position: Position) {
        self.epoch.0 += 1;
        self.truncate(position.0 + 1);
    }

    /// The answer, if it was foreseen and nothing has to be answered before. Otherwise adds the question; the keys and values from its
    /// position on are computed anew if they were computed already.
    pub(super) fn ask(&mut self, ask: &Ask, now: Time) -> Option<Answer> {
        let question = Question { position: ask.position, wanted: Wanted::Next(ask.guess), since: now };
        let known = self.foreseen.as_ref().filter(|(position, _)| *position == ask.position && self.work.is_idle());
        if let Some((_, scored)) = known.cloned() {
            self.used = now;
            if self.slot.is_some() {
                self.held_since.get_or_insert(now);
            }
            return Some(self.answer(&question, scored, Spent::default(), now));
        }
        self.step_back(ask.position.0);
        self.work.add(question);
        None
    }

    /// Answers a question. The answer tells what was spent on it and was not told before; a wrong guess is followed by nothing.
    pub(super) fn answer(&mut self, question: &Question, scored: Scored, spent: Spent, now: Time) -> Answer {
        let wait = Wait { since: question.since, until: now };
        self.unbilled.on_the_way(spent, Some(now - question.since));
        let unbilled = std::mem::take(&mut self.unbilled);
        let answer = Answer::billed(self.epoch, question.position, scored, wait, unbilled);
        if matches!(question.wanted, Wanted::Next(Some(guess)) if guess != answer.token) {
            self.roll_back(question.position);
        }
        answer
    }

    /// Keeps what comes after a position, for the ask that may come. Within the prompt nobody asks for the next token.
    pub(super) fn foresee(&mut self, position: Position, scored: Scored) {
        if position.0 + 1 >= self.prompt {
            self.foreseen = Some((position, scored));
        }
    }

    /// Adds questions about tokens of the prompt. `false` if this session cannot ask them.
    pub(super) fn score(&mut self, first: Position, end: Position, now: Time) -> bool {
        let known = self.held.tokens().len().min(self.prompt as usize);
        if first.0 == 0 || first >= end || end.index() > known {
            return false;
        }
        self.step_back(first.0 - 1);
        for position in first.0 - 1..end.0 - 1 {
            self.work.add(Question { position: Position(position), wanted: Wanted::Likelihood, since: now });
        }
        true
    }

    /// Computes again from `position` on, if it was computed: from the start of its block, if that was computed whole.
    pub(super) fn step_back(&mut self, position: u32) {
        if position < self.computed {
            let block = self.blocks.whole_at(position, self.prompt);
            self.computed = block.map_or(position, |block| block.start);
        }
    }

    /// Starts generating after `position`.
    pub(super) fn generate(&mut self, position: Position, left: u32, stop: Vec<TokenId>, now: Time) {
        self.step_back(position.0);
        let next = Question { position, wanted: Wanted::Next(None), since: now };
        self.work = Work::Generate { next, left, stop };
    }

    /// Until when nobody else may have its slot.
    pub(super) fn held_until(&self, hold: Duration) -> Time {
        self.held_since.map_or(Time::default(), |since| since + hold)
    }

    /// Whether others may have what this context holds: nobody waits for it, and its edge is away or has had it until `held_until`.
    pub(super) fn gives_way(&self, now: Time, held_until: Time) -> bool {
        self.work.is_idle() && (self.peer.is_none() || now >= held_until)
    }

    /// Takes the generated token as the next input, and asks for its successor unless the text ends here. `false` if there is no room
    /// for it.
    pub(super) fn feed_back(&mut self, token: TokenId, context_max: u32, now: Time) -> bool {
        let (Work::Generate { left, stop, .. }, Held::Tokens(tokens)) = (&mut self.work, &mut self.held) else {
            return true;
        };
        let (left, stop) = (*left, std::mem::take(stop));
        let length = tokens.len() as u32;
        let goes_on = left > 1 && !stop.contains(&token);
        if goes_on && length < context_max {
            tokens.push(token);
            self.generate(Position(length), left - 1, stop, now);
            return true;
        }
        self.work = Work::none();
        !goes_on
    }

    /// Rows to compute next for the questions that are open.
    pub(super) fn rows_wanted(&self) -> u32 {
        self.rows_to(self.work.last_position().map_or(self.computed, |position| self.end_of_block(position)))
    }

    /// Rows of the next batch on the way to `end`, but never the whole of a block that the answer has a part in.
    fn rows_to(&self, end: u32) -> u32 {
        end.min(self.blocks.reach(self.computed, self.prompt)) - self.computed
    }

    /// Rows to compute next while nothing is asked: what there is of the prompt before its first block, a whole block of it, or what
    /// there is of the answer and of the block that it begins in. The newest position would be computed again if it were asked about,
    /// unless its answer is foreseen.
    pub(super) fn rows_ahead(&self, ahead: Ahead) -> u32 {
        if !self.work.is_idle() || ahead == Ahead::Nothing {
            return 0;
        }
        let held = self.held.rows();
        // What comes after a prompt is foreseen with everything, and where a block ends with it.
        let of_prompt = if ahead == Ahead::Everything { self.prompt } else { self.prompt.saturating_sub(1) };
        let free = of_prompt.min(self.blocks.first()).saturating_sub(self.computed);
        if free > 0 {
            return free.min(held - self.computed).min(self.blocks.rows());
        }
        if let Some(block) = self.blocks.whole_at(self.computed, self.prompt) {
            let is_here = self.computed == block.start && block.end <= held;
            return if is_here { self.blocks.rows() } else { 0 };
        }
        let end = match ahead {
            Ahead::Everything => held,
            Ahead::Answers => held.saturating_sub(1),
            Ahead::Nothing | Ahead::Prompts => 0,
        };
        let rows = if self.prompt <= held && self.computed < end { self.rows_to(end) } else { 0 };
        rows.min(self.blocks.rows())
    }

    /// Where to stop after a question: behind it, but a prompt's block is computed whole.
    fn end_of_block(&self, position: Position) -> u32 {
        let block = self.blocks.whole_at(position.0, self.prompt);
        block.map_or(position.0 + 1, |block| block.end.min(self.held.rows()))
    }

    /// The next `rows` rows and the questions among them; where nothing is asked, the one about the newest position that may come.
    pub(super) fn next_rows(&self, rows: u32) -> (BatchInput, Vec<Scoring>) {
        let (from, to) = (self.computed, self.computed + rows);
        let input = match &self.held {
            Held::States(log, _) => {
                BatchInput::States(log.pieces(from, to, u32::MAX).map(|(_, block)| block).collect())
            }
            Held::Tokens(tokens) => BatchInput::Tokens(tokens[from as usize..to as usize].to_vec()),
        };
        let scores = self.work.questions().filter(|question| question.position.0 < to);
        let mut scores: Vec<Scoring> = scores.map(|question| self.scoring(question)).collect();
        if self.work.is_idle() && to == self.held.rows() && self.prompt <= to {
            scores.push(self.next_token(Position(to - 1)));
        }
        (input, scores)
    }

    fn next_token(&self, position: Position) -> Scoring {
        Scoring::after(position, &self.sampling, self.held.tokens(), self.prompt)
    }

    fn scoring(&self, question: &Question) -> Scoring {
        let tokens = self.held.tokens();
        match question.wanted {
            Wanted::Next(_) => self.next_token(question.position),
            Wanted::Likelihood => {
                Scoring::of_given(question.position, tokens[question.position.index() + 1], &self.sampling)
            }
        }
    }
}

impl Held {
    pub(super) fn rows(&self) -> u32 {
        match self {
            Self::States(log, _) => log.rows(),
            Self::Tokens(tokens) => tokens.len() as u32,
        }
    }

    /// The tokens of the positions held, as far as they were told.
    fn tokens(&self) -> &[TokenId] {
        match self {
            Self::States(_, tokens) | Self::Tokens(tokens) => tokens,
        }
    }

    /// `false` if the context is fed with tokens.
    pub(super) fn push_states(&mut self, block: StateBlock, tokens: &[TokenId]) -> bool {
        match self {
            Self::States(log, told) => {
                log.push(block);
                told.extend_from_slice(tokens);
                true
            }
            Self::Tokens(_) => false,
        }
    }

    /// `false` if the context is fed with states.
    pub(super) fn push_tokens(&mut self, new: &[TokenId]) -> bool {
        match self {
            Self::Tokens(tokens) => {
                tokens.extend_from_slice(new);
                true
            }
            Self::States(..) => false,
        }
    }
}

impl Question {
    /// The last position without which it has no answer.
    fn last_needed(&self) -> u32 {
        self.position.0 + u32::from(self.wanted == Wanted::Likelihood)
    }
}

impl Work {
    pub(super) fn none() -> Self {
        Self::Asks(VecDeque::new())
    }

    /// Adds a question, in place of an older one about its position.
    fn add(&mut self, question: Question) {
        let mut asks = match std::mem::replace(self, Self::none()) {
            Self::Asks(asks) => asks,
            Self::Generate { .. } => VecDeque::new(),
        };
        let index = asks.partition_point(|open| open.position < question.position);
        if asks.get(index).is_some_and(|open| open.position == question.position) {
            asks[index] = question;
        } else {
            asks.insert(index, question);
        }
        *self = Self::Asks(asks);
    }

    /// Asks for tokens that are open.
    pub(super) fn ask_count(&self) -> usize {
        self.questions().filter(|question| question.wanted != Wanted::Likelihood).count()
    }

    /// Open questions by rising position.
    pub(super) fn questions(&self) -> impl Iterator<Item = &Question> {
        let (asks, next) = match self {
            Self::Asks(asks) => (Some(asks), None),
            Self::Generate { next, .. } => (None, Some(next)),
        };
        asks.into_iter().flatten().chain(next)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.questions().next().is_none()
    }

    /// When the longest waiting question came.
    pub(super) fn since(&self) -> Option<Time> {
        self.questions().map(|question| question.since).min()
    }

    pub(super) fn first_position(&self) -> Option<Position> {
        self.questions().map(|question| question.position).min()
    }

    fn last_position(&self) -> Option<Position> {
        self.questions().map(|question| question.position).max()
    }

    /// Takes the question about `position`, if it is still open. A generating context keeps its own.
    pub(super) fn take(&mut self, position: Position) -> Option<Question> {
        match self {
            Self::Asks(asks) => {
                let index = asks.iter().position(|question| question.position == position)?;
                asks.remove(index)
            }
            Self::Generate { next, .. } => (next.position == position).then(|| next.clone()),
        }
    }

    fn truncate(&mut self, length: u32) {
        match self {
            // A question about a given token needs the token, too.
            Self::Asks(asks) => asks.retain(|question| question.last_needed() < length),
            Self::Generate { next, .. } if next.position.0 < length => {}
            Self::Generate { .. } => *self = Self::none(),
        }
    }
}
