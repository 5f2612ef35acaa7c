//! An engine without weights, for the simulator and for tests of everything above the seam.
//!
//! A [`Script`] is a pure function from a token prefix to what the whole model and the exits would say. The engine carries a
//! rolling hash of the prefix as hidden state and keeps one hash a position as its "key-value memory"; every stack checks
//! that what comes in continues what it holds. Whoever mixes up slots, positions, rollbacks or the order of states gets
//! other logits, as with real weights, and [`Counts::discontinuities`] says so. Deliberately absent: time and cost.

use std::sync::Arc;

use crate::batch::Span;
use crate::{
    Engine, EngineError, Head, Input, Interrupt, Row, Scope, Scores, Shape, SlotId, Stack, TokenId, TokenTexts,
};

/// Floats in a hidden state of the scripted engine: a bit each, which even an encoding of few bits a float does not mistake.
pub const WIDTH: usize = STACK_DIGITS + TOKEN_DIGITS + HASH_DIGITS;

/// Bits of what a hidden state says.
const STACK_DIGITS: usize = 2;
const TOKEN_DIGITS: usize = 14;
const HASH_DIGITS: usize = 42;

/// The token that ends a turn.
pub const END_OF_TURN: TokenId = TokenId(0);

/// What the imaginary model says after every prefix. The same script makes the edge's, the cloud's and the whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Another seed is another model.
    pub seed: u64,
    /// Tokens, 2 to 16384.
    pub vocabulary: usize,
    /// Probability that exit 1 says what the whole model says.
    pub exit1_agrees: f32,
    /// Probability that exit 2 says what the whole model says.
    pub exit2_agrees: f32,
    /// Probability that a turn ends after a prefix.
    pub turn_ends: f32,
}

impl Default for Script {
    fn default() -> Self {
        Self { seed: 1, vocabulary: 64, exit1_agrees: 0.5, exit2_agrees: 0.8, turn_ends: 0.02 }
    }
}

impl Script {
    /// The whole model's most likely token after `prefix`.
    pub fn truth(&self, prefix: &[TokenId]) -> TokenId {
        self.truth_of(self.hash(prefix))
    }

    /// The token that `head` finds most likely after `prefix`, and its confidence.
    pub fn guess(&self, head: Head, prefix: &[TokenId]) -> (TokenId, f32) {
        self.guess_of(head, self.hash(prefix))
    }

    /// The logits of `head` after `prefix`, `vocabulary` of them.
    pub fn logits(&self, head: Head, prefix: &[TokenId]) -> Vec<f32> {
        let mut logits = Vec::with_capacity(self.vocabulary);
        self.push_logits(head, self.hash(prefix), &mut logits);
        logits
    }

    fn hash(&self, prefix: &[TokenId]) -> u64 {
        prefix.iter().fold(self.start(), |hash, token| advance(hash, *token))
    }

    fn start(&self) -> u64 {
        fold_digits(mix(self.seed))
    }

    fn truth_of(&self, hash: u64) -> TokenId {
        if unit(mix(hash ^ self.seed)) < self.turn_ends {
            return END_OF_TURN;
        }
        self.ordinary_token(mix(hash.rotate_left(7) ^ self.seed))
    }

    /// Any token but [`END_OF_TURN`].
    fn ordinary_token(&self, hash: u64) -> TokenId {
        TokenId(1 + (hash % (self.vocabulary as u64 - 1)) as u32)
    }

    fn guess_of(&self, head: Head, hash: u64) -> (TokenId, f32) {
        let truth = self.truth_of(hash);
        let (salt, agrees) = match head {
            Head::Exit1 => (1, self.exit1_agrees),
            Head::Exit2 => (2, self.exit2_agrees),
            Head::Final => (3, 1.0),
        };
        let draw = mix(hash ^ mix(self.seed + salt));
        let certainty = unit(mix(draw));
        if unit(draw) < agrees {
            return (truth, 0.3 + 0.69 * certainty.sqrt());
        }
        let other = self.ordinary_token(mix(draw.rotate_left(11)));
        let other = if other == truth { TokenId((other.0 + 1) % self.vocabulary as u32) } else { other };
        (other, 0.3 + 0.69 * certainty * certainty)
    }

    /// The same low logits for every head, and above them the head's guess, as high as its confidence demands.
    fn push_logits(&self, head: Head, hash: u64, logits: &mut Vec<f32>) {
        let (token, confidence) = self.guess_of(head, hash);
        let first = logits.len();
        let mut state = mix(hash ^ self.seed) | 1;
        let mut others = 0.0;
        for index in 0..self.vocabulary {
            let level = (next(&mut state) >> 61) as usize;
            logits.push(LEVELS[level]);
            if index != token.0 as usize {
                others += LEVEL_WEIGHTS[level];
            }
        }
        let highest = (others * confidence / (1.0 - confidence)).ln();
        logits[first + token.0 as usize] = highest.max(1.0);
    }
}

/// Calls and rows that a scripted engine has run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of [`Engine::run`] and [`Engine::score`] that passed the checks.
    pub calls: u64,
    /// Rows through [`Stack::Lower`].
    pub lower_rows: u64,
    /// Rows through [`Stack::Tail`].
    pub tail_rows: u64,
    /// Rows through [`Stack::Upper`].
    pub upper_rows: u64,
    /// Hidden states scored, by any head.
    pub scored_rows: u64,
    /// Rows whose input did not continue what the stack held. Not zero means a fault in the caller.
    pub discontinuities: u64,
}

/// The engine. See the module.
#[derive(Debug)]
pub struct ScriptedEngine {
    script: Script,
    shape: Shape,
    /// `memory[slot][stack]`: the hash after each filled position.
    memory: Vec<[Vec<u64>; 3]>,
    shortlists: Vec<(Head, Vec<TokenId>)>,
    counts: Counts,
    failing_calls: Vec<u64>,
    interrupt: Arc<Interrupt>,
}

/// Sizes of a scripted engine that a test may want to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Key-value slots.
    pub slots: usize,
    /// Positions a slot holds.
    pub context: usize,
    /// Rows that one call may carry.
    pub batch_rows_max: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { slots: 4, context: 256, batch_rows_max: 64 }
    }
}

impl ScriptedEngine {
    /// What an edge part holds: lower layers and a tail, both exits.
    pub fn edge(script: Script, sizes: Sizes) -> Self {
        Self::new(script, sizes, &[Stack::Lower, Stack::Tail], &[Head::Exit1, Head::Exit2])
    }

    /// What a cloud part holds: upper layers and the final head.
    pub fn cloud(script: Script, sizes: Sizes) -> Self {
        Self::new(script, sizes, &[Stack::Upper], &[Head::Final])
    }

    /// What a whole model holds.
    pub fn whole(script: Script, sizes: Sizes) -> Self {
        Self::new(script, sizes, &[Stack::Lower, Stack::Upper], &[Head::Exit1, Head::Final])
    }

    fn new(script: Script, sizes: Sizes, stacks: &[Stack], heads: &[Head]) -> Self {
        assert!((2..=16384).contains(&script.vocabulary), "a script's vocabulary is 2 to 16384 tokens");
        let shape = Shape {
            width: WIDTH,
            vocabulary: script.vocabulary,
            slots: sizes.slots,
            context: sizes.context,
            batch_rows_max: sizes.batch_rows_max,
            stacks: stacks.to_vec(),
            heads: heads.to_vec(),
        };
        let memory = (0..sizes.slots).map(|_| Default::default()).collect();
        Self {
            script,
            shape,
            memory,
            shortlists: Vec::new(),
            counts: Counts::default(),
            failing_calls: Vec::new(),
            interrupt: Arc::default(),
        }
    }

    /// Gives `head` a shortlist, the same for every state, which is ascending and not empty.
    #[must_use]
    pub fn with_shortlist(mut self, head: Head, tokens: Vec<TokenId>) -> Self {
        assert!(!tokens.is_empty() && tokens.is_sorted(), "a shortlist is ascending and not empty");
        self.shortlists.push((head, tokens));
        self
    }

    /// Makes the call with this number (the first is 0, see [`Counts::calls`]) fail with [`EngineError::Device`].
    #[must_use]
    pub fn failing_at(mut self, call: u64) -> Self {
        self.failing_calls.push(call);
        self
    }

    /// What has been run so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Counts the call and says whether it is interrupted or fails by injection.
    fn begin_call(&mut self) -> Result<(), EngineError> {
        let call = self.counts.calls;
        self.counts.calls += 1;
        if self.interrupt.is_stopped() {
            return Err(EngineError::Interrupted);
        }
        if self.failing_calls.contains(&call) {
            return Err(EngineError::Device(format!("injected fault at call {call}")));
        }
        Ok(())
    }

    /// After a fault the slots of the rows hold rubbish, which a caller that goes on with them will notice.
    fn spoil(&mut self, stack: Stack, spans: &[Span]) {
        for span in spans {
            let held = &mut self.memory[span.slot.0 as usize][stack as usize];
            held.iter_mut().for_each(|hash| *hash = spoiled(*hash));
        }
    }

    fn run_row(&mut self, stack: Stack, row: Row, input: (u64, TokenId)) -> u64 {
        let (claimed, token) = input;
        let held = &mut self.memory[row.slot.0 as usize][stack as usize];
        let continued = advance(held.last().copied().unwrap_or_else(|| self.script.start()), token);
        let hash = if continued == claimed { claimed } else { spoiled(claimed ^ continued) };
        self.counts.discontinuities += u64::from(continued != claimed);
        held.push(hash);
        *match stack {
            Stack::Lower => &mut self.counts.lower_rows,
            Stack::Tail => &mut self.counts.tail_rows,
            Stack::Upper => &mut self.counts.upper_rows,
        } += 1;
        hash
    }

    fn push_logits(&self, head: Head, scope: Scope, hash: u64, scores: &mut Scores) {
        let start = scores.logits.len();
        self.script.push_logits(head, hash, &mut scores.logits);
        let Some(tokens) = self.shortlist_of(head) else { return };
        let listed = tokens.iter().map(|token| scores.logits[start + token.0 as usize]);
        scores.shortlists.logits.extend(listed);
        scores.shortlists.tokens.extend_from_slice(tokens);
        if scope == Scope::Shortlist {
            scores.logits.clear();
        }
    }

    fn shortlist_of(&self, head: Head) -> Option<&[TokenId]> {
        self.shortlists.iter().find(|(name, _)| *name == head).map(|(_, tokens)| tokens.as_slice())
    }

    /// The hash and token that row `index` brings. The lowest stack makes the hash itself, and so is always continuous.
    fn row_input(&self, row: Row, index: usize, input: Input<'_>) -> (u64, TokenId) {
        match input {
            Input::Tokens(tokens) => {
                let held = &self.memory[row.slot.0 as usize][Stack::Lower as usize];
                let before = held.last().copied().unwrap_or_else(|| self.script.start());
                (advance(before, tokens[index]), tokens[index])
            }
            Input::Hidden(hidden) => {
                let state = decode(&hidden[index * WIDTH..][..WIDTH]);
                // Only the lower stack's output is an input; any other is as wrong as a state of another prefix.
                let hash = if state.stack == Stack::Lower as u64 { state.hash } else { spoiled(state.hash) };
                (hash, state.token)
            }
        }
    }
}

impl Engine for ScriptedEngine {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn run(&mut self, stack: Stack, rows: &[Row], input: Input<'_>, hidden: &mut Vec<f32>) -> Result<(), EngineError> {
        let spans = self.shape.parse_run(stack, rows, input, |slot| self.filled(stack, slot))?;
        if let Err(error) = self.begin_call() {
            if matches!(error, EngineError::Device(_)) {
                self.spoil(stack, &spans);
            }
            return Err(error);
        }
        hidden.clear();
        for (index, row) in rows.iter().enumerate() {
            let given = self.row_input(*row, index, input);
            let hash = self.run_row(stack, *row, given);
            encode(&State { stack: stack as u64, token: given.1, hash }, hidden);
        }
        Ok(())
    }

    fn score(&mut self, head: Head, scope: Scope, hidden: &[f32], scores: &mut Scores) -> Result<(), EngineError> {
        let rows = self.shape.parse_score(head, scope, hidden, self.shortlist(head))?;
        self.begin_call()?;
        self.counts.scored_rows += rows as u64;
        scores.clear();
        // The scripted heads have no norm.
        scores.states.extend_from_slice(hidden);
        for state in hidden.chunks_exact(WIDTH).map(decode) {
            // Exit 1 reads the output of any stack, as a norm and an LM head would; the others their own.
            let fits = match head {
                Head::Exit1 => true,
                Head::Exit2 => state.stack == Stack::Tail as u64,
                Head::Final => state.stack == Stack::Upper as u64,
            };
            let hash = if fits { state.hash } else { spoiled(state.hash) };
            self.push_logits(head, scope, hash, scores);
        }
        Ok(())
    }

    fn shortlist(&self, head: Head) -> Option<usize> {
        self.shortlist_of(head).map(<[TokenId]>::len)
    }

    fn token_texts(&mut self) -> Result<Arc<dyn TokenTexts>, EngineError> {
        Ok(letters())
    }

    fn heed(&mut self, interrupt: Arc<Interrupt>) {
        self.interrupt = interrupt;
    }

    fn filled(&self, stack: Stack, slot: SlotId) -> usize {
        self.memory.get(slot.0 as usize).map_or(0, |stacks| stacks[stack as usize].len())
    }

    fn truncate(&mut self, slot: SlotId, length: usize) {
        if let Some(stacks) = self.memory.get_mut(slot.0 as usize) {
            stacks.iter_mut().for_each(|held| held.truncate(length));
        }
    }
}

/// Tokens as letters: 1 is `A`, 26 is `Z`, up to 63; later ones have no text, and [`END_OF_TURN`] ends one.
pub fn letters() -> Arc<dyn TokenTexts> {
    Arc::new(Letters((b'@'..b'@' + 64).collect()))
}

#[derive(Debug)]
struct Letters(Vec<u8>);

impl TokenTexts for Letters {
    fn bytes(&self, token: TokenId) -> &[u8] {
        let index = token.0 as usize;
        self.0.get(index..=index).filter(|_| !self.ends(token)).unwrap_or_default()
    }

    fn ends(&self, token: TokenId) -> bool {
        token == END_OF_TURN
    }
}

/// What a hidden state says.
#[derive(Debug, PartialEq, Eq)]
struct State {
    stack: u64,
    token: TokenId,
    hash: u64,
}

fn encode(state: &State, hidden: &mut Vec<f32>) {
    push_digits(state.stack, STACK_DIGITS, hidden);
    push_digits(u64::from(state.token.0), TOKEN_DIGITS, hidden);
    push_digits(state.hash, HASH_DIGITS, hidden);
}

fn decode(hidden: &[f32]) -> State {
    let (stack, rest) = hidden.split_at(STACK_DIGITS);
    let (token, hash) = rest.split_at(TOKEN_DIGITS);
    State { stack: read_digits(stack), token: TokenId(read_digits(token) as u32), hash: read_digits(hash) }
}

/// Bits as -1 and 1: as far apart as values of this size can be, so that no rounding on the way to a cloud makes one of the other.
fn push_digits(value: u64, count: usize, hidden: &mut Vec<f32>) {
    hidden.extend((0..count).map(|digit| ((value >> digit) & 1) as f32 * 2.0 - 1.0));
}

/// What is near enough counts.
fn read_digits(digits: &[f32]) -> u64 {
    digits.iter().rev().fold(0, |value, digit| (value << 1) | u64::from(*digit > 0.0))
}

/// The hash after one more token.
fn advance(hash: u64, token: TokenId) -> u64 {
    fold_digits(mix(hash ^ (u64::from(token.0) << 44)))
}

/// Never the hash of what the caller meant.
fn spoiled(hash: u64) -> u64 {
    fold_digits(mix(!hash))
}

/// Keeps what a hidden state can carry.
fn fold_digits(hash: u64) -> u64 {
    hash & ((1 << HASH_DIGITS) - 1)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// One step of a xorshift generator: cheap, for the many low logits.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// In `[0, 1)`.
fn unit(hash: u64) -> f32 {
    (hash >> 40) as f32 / (1u64 << 24) as f32
}

/// The low logits, and their exponentials so that no row pays for them.
const LEVELS: [f32; 8] = [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875];
const LEVEL_WEIGHTS: [f32; 8] = [1.0, 1.133_148, 1.284_025, 1.454_991, 1.648_721, 1.868_246, 2.117, 2.398_875];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;

    fn tokens(ids: &[u32]) -> Vec<TokenId> {
        ids.iter().copied().map(TokenId).collect()
    }

    fn rows(slot: u32, start: u32, count: usize) -> Vec<Row> {
        (0..count).map(|row| Row { slot: SlotId(slot), position: Position(start + row as u32) }).collect()
    }

    fn argmax(logits: &[f32]) -> u32 {
        (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).expect("not empty") as u32
    }

    #[test]
    fn edge_and_cloud_together_say_what_the_script_says() {
        let script = Script::default();
        let (mut edge, mut cloud) = (
            ScriptedEngine::edge(script.clone(), Sizes::default()),
            ScriptedEngine::cloud(script.clone(), Sizes::default()),
        );
        let prompt = tokens(&[3, 1, 4, 1, 5]);
        let (mut lower, mut out, mut scores) = (vec![], vec![], Scores::default());
        edge.run(Stack::Lower, &rows(0, 0, 5), Input::Tokens(&prompt), &mut lower).unwrap();
        edge.run(Stack::Tail, &rows(0, 0, 5), Input::Hidden(&lower), &mut out).unwrap();
        edge.score(Head::Exit2, Scope::Full, &out[4 * WIDTH..], &mut scores).unwrap();
        assert_eq!(scores.logits, script.logits(Head::Exit2, &prompt));
        cloud.run(Stack::Upper, &rows(2, 0, 5), Input::Hidden(&lower), &mut out).unwrap();
        cloud.score(Head::Final, Scope::Full, &out[4 * WIDTH..], &mut scores).unwrap();
        assert_eq!(argmax(&scores.logits), script.truth(&prompt).0);
        assert_eq!(edge.counts().discontinuities + cloud.counts().discontinuities, 0);
    }

    #[test]
    fn a_state_of_another_prefix_changes_the_answer() {
        let script = Script::default();
        let mut edge = ScriptedEngine::edge(script.clone(), Sizes::default());
        let mut cloud = ScriptedEngine::cloud(script, Sizes::default());
        let (mut lower, mut right, mut wrong) = (vec![], vec![], vec![]);
        edge.run(Stack::Lower, &rows(0, 0, 2), Input::Tokens(&tokens(&[7, 8])), &mut lower).unwrap();
        cloud.run(Stack::Upper, &rows(0, 0, 2), Input::Hidden(&lower), &mut right).unwrap();
        lower.rotate_left(WIDTH);
        cloud.run(Stack::Upper, &rows(1, 0, 2), Input::Hidden(&lower), &mut wrong).unwrap();
        assert_ne!(right[WIDTH..], wrong[WIDTH..]);
        assert_eq!(cloud.counts().discontinuities, 2);
    }

    #[test]
    fn exits_agree_as_often_as_scripted_and_are_surer_when_right() {
        let script = Script { exit2_agrees: 0.7, ..Script::default() };
        let (mut right, mut sure_right, mut sure_wrong) = (0, 0.0, 0.0);
        for id in 0..4000 {
            let prefix = tokens(&[id % 64, id / 64]);
            let (guess, confidence) = script.guess(Head::Exit2, &prefix);
            if guess == script.truth(&prefix) {
                right += 1;
                sure_right += confidence;
            } else {
                sure_wrong += confidence;
            }
        }
        assert!((2700..2900).contains(&right), "{right} of 4000");
        assert!(sure_right / right as f32 > 0.1 + sure_wrong / (4000 - right) as f32);
    }

    #[test]
    fn the_softmax_of_a_guess_is_its_confidence() {
        let script = Script::default();
        for id in 0..100 {
            let prefix = tokens(&[id % 64, 5]);
            let (token, confidence) = script.guess(Head::Exit1, &prefix);
            let logits = script.logits(Head::Exit1, &prefix);
            let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
            assert_eq!(argmax(&logits), token.0);
            assert!((logits[token.0 as usize].exp() / sum - confidence).abs() < 1e-4);
        }
    }

    #[test]
    fn an_injected_fault_spoils_what_is_not_truncated() {
        let mut edge = ScriptedEngine::edge(Script::default(), Sizes::default()).failing_at(1);
        let mut hidden = vec![];
        let mut run = |edge: &mut ScriptedEngine, start: u32| {
            edge.run(Stack::Lower, &rows(0, start, 1), Input::Tokens(&tokens(&[9])), &mut hidden)
                .map(|()| hidden.clone())
        };
        let first = run(&mut edge, 0).unwrap();
        assert!(matches!(run(&mut edge, 1), Err(EngineError::Device(_))));
        let spoiled = run(&mut edge, 1).unwrap();
        edge.truncate(SlotId(0), 0);
        assert_eq!(run(&mut edge, 0).unwrap(), first);
        assert_ne!(run(&mut edge, 1).unwrap(), spoiled);
    }

    #[test]
    fn states_survive_half_precision_and_eight_bits() {
        let state = State { stack: 2, token: TokenId(16383), hash: advance(77, TokenId(3)) };
        let mut hidden = vec![];
        encode(&state, &mut hidden);
        assert_eq!(hidden.len(), WIDTH);
        let scale = hidden.iter().copied().fold(0.0, f32::max) / 127.0;
        let half: Vec<f32> = hidden.iter().map(|value| half::f16::from_f32(*value).to_f32()).collect();
        let bytes: Vec<f32> = hidden.iter().map(|value| (value / scale).round() * scale).collect();
        for carried in [half, bytes] {
            assert_eq!(decode(&carried), state);
        }
    }
}
