//! The suite that every engine must pass, real or scripted. Call [`check`] from a test with a freshly loaded engine.
//!
//! It knows nothing of what an engine computes: it compares the engine with itself. Numeric truth comes from elsewhere.

use std::sync::Arc;

use crate::{
    Engine, EngineError, Head, Input, Interrupt, Position, Row, Scope, Scores, Shortlists, SlotId, Stack, TokenId,
};

/// Positions that the laws are checked on.
const LENGTH: usize = 12;

/// What rounding a state to eight bits for the product with quantised weights may change of a logit, as a share of the row's largest.
const STATE_ROUNDING: f32 = 0.05;

/// Checks every law. Hidden states and logits may differ by `tolerance` where a law says "the same": 0 for scripted engines
/// and quantised weights. The engine needs two slots, a context of 16 and batches of 16 rows, and is left empty.
///
/// # Panics
/// When a law does not hold, naming it.
pub fn check(engine: &mut dyn Engine, tolerance: f32) {
    let shape = engine.shape();
    assert!(shape.slots >= 2 && shape.context >= 16 && shape.batch_rows_max >= 16, "too small to check: {shape:?}");
    let mut suite = Suite { engine, tolerance };
    for stack in suite.engine.shape().stacks.clone() {
        suite.one_batch_is_one_by_one(stack);
        suite.slots_share_a_batch_unseen(stack);
        suite.truncating_forgets(stack);
        suite.interrupted_calls_leave_nothing_behind(stack);
        suite.refusals_leave_slots_untouched(stack);
        suite.a_slot_fills_up_and_frees(stack);
    }
    suite.absent_stacks_and_heads_are_named();
    suite.scoring_one_by_one_is_scoring_all();
}

struct Suite<'a> {
    engine: &'a mut dyn Engine,
    tolerance: f32,
}

impl Suite<'_> {
    fn one_batch_is_one_by_one(&mut self, stack: Stack) {
        let together = self.feed(stack, 0, 0..LENGTH, 1);
        for chunk in [1, 2, 3, 4, 5, 8] {
            self.clear();
            let mut apart = Vec::new();
            for start in (0..LENGTH).step_by(chunk) {
                apart.extend(self.feed(stack, 0, start..LENGTH.min(start + chunk), 1));
            }
            self.expect_same(&together, &apart, &format!("{stack:?}: one batch = batches of {chunk}"));
        }
        self.clear();
    }

    fn slots_share_a_batch_unseen(&mut self, stack: Stack) {
        let first = self.feed(stack, 0, 0..LENGTH, 1);
        self.clear();
        let second = self.feed(stack, 1, 0..LENGTH, 2);
        self.clear();
        // The slots are at different positions and bring different numbers of rows, down to one each.
        let mut shared = [self.feed(stack, 0, 0..4, 1), Vec::new()];
        for step in [4..7, 7..8, 8..9, 9..LENGTH] {
            let behind = step.start - 4..step.end - 4;
            let parts = [(0, step, 1), (1, behind, 2)];
            let out = self.feed_parts(stack, &parts);
            let boundary = parts[0].1.len() * self.width();
            shared[0].extend_from_slice(&out[..boundary]);
            shared[1].extend_from_slice(&out[boundary..]);
        }
        self.expect_same(&first, &shared[0], &format!("{stack:?}: slot 0 does not see slot 1"));
        let seen = shared[1].len();
        self.expect_same(&second[..seen], &shared[1], &format!("{stack:?}: slot 1 does not see slot 0"));
        self.clear();
    }

    fn truncating_forgets(&mut self, stack: Stack) {
        let straight = self.feed(stack, 0, 0..LENGTH, 1);
        for length in [0, 1, 5, LENGTH - 1] {
            self.clear();
            self.feed(stack, 0, 0..length, 1);
            self.feed(stack, 0, length..LENGTH, 3);
            self.engine.truncate(SlotId(0), length);
            assert_eq!(self.engine.filled(stack, SlotId(0)), length, "{stack:?}: truncate sets the filled length");
            let again = self.feed(stack, 0, length..LENGTH, 1);
            let law = format!("{stack:?}: truncate to {length} and recompute = never gone past");
            self.expect_same(&straight[length * self.width()..], &again, &law);
        }
        self.engine.truncate(SlotId(0), LENGTH + 1);
        assert_eq!(self.engine.filled(stack, SlotId(0)), LENGTH, "{stack:?}: truncating to more changes nothing");
        self.clear();
    }

    /// Engines that cannot end a call run it to its end.
    fn interrupted_calls_leave_nothing_behind(&mut self, stack: Stack) {
        let straight = self.feed(stack, 0, 0..LENGTH, 1);
        self.clear();
        let before = self.feed(stack, 0, 0..5, 1);
        let interrupt = Arc::new(Interrupt::default());
        self.engine.heed(Arc::clone(&interrupt));
        interrupt.begin(1);
        interrupt.stop(1);
        let ended = self.try_feed(stack, &[(0, 5..LENGTH, 1)]);
        assert!(matches!(ended, Ok(_) | Err(EngineError::Interrupted)), "{stack:?}: {ended:?}");
        interrupt.begin(2);
        self.engine.truncate(SlotId(0), 5);
        assert_eq!(self.engine.filled(stack, SlotId(0)), 5, "{stack:?}: an interrupted call forgets nothing");
        let after = self.feed(stack, 0, 5..LENGTH, 1);
        let law = format!("{stack:?}: interrupting and going on = never having been interrupted");
        self.expect_same(&straight, &[before, after].concat(), &law);
        self.clear();
    }

    fn refusals_leave_slots_untouched(&mut self, stack: Stack) {
        let straight = self.feed(stack, 0, 0..LENGTH, 1);
        self.clear();
        self.feed(stack, 0, 0..4, 1);
        let (slots, limit) = (self.engine.shape().slots, self.engine.shape().batch_rows_max);
        let slot = SlotId(0);
        let given = Position(6);
        self.expect_refusal(stack, &[row(0, 6)], &EngineError::Gap { slot, filled: 4, given });
        self.expect_refusal(stack, &[row(0, 4), row(0, 6)], &EngineError::Gap { slot, filled: 5, given });
        let absent = SlotId(u32::try_from(slots).expect("few slots"));
        let rows = [row(0, 4), Row { slot: absent, position: Position(0) }];
        self.expect_refusal(stack, &rows, &EngineError::NoSlot { slot: absent, slots });
        let rows: Vec<Row> = (4..=4 + limit).map(|position| row(0, position)).collect();
        self.expect_refusal(stack, &rows, &EngineError::BatchTooLarge { rows: rows.len(), limit });
        self.wrong_inputs_are_refused(stack);
        let rest = self.feed(stack, 0, 4..LENGTH, 1);
        self.expect_same(
            &straight[4 * self.width()..],
            &rest,
            &format!("{stack:?}: a refusal leaves the slot as it was"),
        );
        self.clear();
    }

    fn wrong_inputs_are_refused(&mut self, stack: Stack) {
        let (width, vocabulary) = (self.width(), self.engine.shape().vocabulary);
        let hidden = vec![0.0; 2 * width];
        let foreign = TokenId(u32::try_from(vocabulary).expect("a vocabulary fits u32"));
        let known = TokenId(1);
        let is_input = |error| matches!(error, EngineError::Input(_));
        if stack == Stack::Lower {
            assert!(is_input(self.refusal(stack, Input::Hidden(&hidden))));
            assert!(is_input(self.refusal(stack, Input::Tokens(&[known]))));
            assert!(is_input(self.refusal(stack, Input::Tokens(&[known, foreign]))));
            return;
        }
        assert!(is_input(self.refusal(stack, Input::Tokens(&[known; 2]))));
        assert!(is_input(self.refusal(stack, Input::Hidden(&hidden[1..]))));
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut poisoned = hidden.clone();
            poisoned[width + 1] = poison;
            assert_eq!(self.refusal(stack, Input::Hidden(&poisoned)), EngineError::NotFinite { row: 1 });
        }
    }

    /// What the engine says to `input` for two rows at positions 4 and 5 of slot 0.
    fn refusal(&mut self, stack: Stack, input: Input<'_>) -> EngineError {
        let refused = self.engine.run(stack, &[row(0, 4), row(0, 5)], input, &mut Vec::new());
        refused.expect_err("wrong input is refused")
    }

    fn a_slot_fills_up_and_frees(&mut self, stack: Stack) {
        let context = self.engine.shape().context;
        let step = self.engine.shape().batch_rows_max.min(64);
        let reference = self.feed(stack, 0, 0..LENGTH, 1);
        self.clear();
        for start in (0..context).step_by(step) {
            self.feed(stack, 0, start..context.min(start + step), 2);
        }
        assert_eq!(self.engine.filled(stack, SlotId(0)), context);
        self.expect_refusal(stack, &[row(0, context)], &EngineError::ContextFull { slot: SlotId(0), context });
        self.clear();
        let again = self.feed(stack, 0, 0..LENGTH, 1);
        self.expect_same(&reference, &again, &format!("{stack:?}: a slot that was full and closed is like new"));
        self.clear();
    }

    fn absent_stacks_and_heads_are_named(&mut self) {
        for stack in [Stack::Lower, Stack::Tail, Stack::Upper] {
            if !self.engine.shape().stacks.contains(&stack) {
                self.expect_refusal(stack, &[row(0, 0)], &EngineError::NoStack(stack));
            }
        }
        let state = vec![0.0; self.width()];
        for head in [Head::Exit1, Head::Exit2, Head::Final] {
            if !self.engine.shape().heads.contains(&head) {
                let refused = self.engine.score(head, Scope::Full, &state, &mut Scores::default());
                assert_eq!(refused, Err(EngineError::NoHead(head)));
                assert_eq!(self.engine.shortlist(head), None);
            }
        }
    }

    fn scoring_one_by_one_is_scoring_all(&mut self) {
        let last = *self.engine.shape().stacks.last().expect("an engine has a stack");
        let states = self.feed(last, 0, 0..LENGTH, 1);
        for head in self.engine.shape().heads.clone() {
            let full = self.scores_of_all_are_those_of_each(head, Scope::Full, &states);
            let logits = LENGTH * self.engine.shape().vocabulary;
            assert_eq!(full.logits.len(), logits, "{head:?}: one row of logits a state");
            match self.engine.shortlist(head) {
                Some(length) => self.a_shortlist_is_part_of_the_whole(head, length, &states, &full),
                None => {
                    assert_eq!(full.shortlists, Shortlists::default(), "{head:?}: no shortlist where none is made");
                    let refused = self.engine.score(head, Scope::Shortlist, &states, &mut Scores::default());
                    assert_eq!(refused, Err(EngineError::NoShortlist(head)));
                }
            }
            self.wrong_states_are_refused(head, &states);
        }
        assert_eq!(self.engine.filled(last, SlotId(0)), LENGTH, "scoring touches no slot");
        self.clear();
    }

    fn scores_of_all_are_those_of_each(&mut self, head: Head, scope: Scope, states: &[f32]) -> Scores {
        let together = self.score(head, scope, states);
        let [tokens, listed] = [&together.logits, &together.shortlists.logits].map(|logits| logits.len() / LENGTH);
        assert_eq!(together.states.len(), states.len(), "{head:?}: one state a state");
        for index in 0..LENGTH {
            let row = |values: &[f32], length: usize| values[index * length..][..length].to_vec();
            let alone = self.score(head, scope, &row(states, self.width()));
            let law = format!("{head:?}, {scope:?}: scoring one by one = scoring all");
            self.expect_same(&row(&together.logits, tokens), &alone.logits, &law);
            self.expect_same(&row(&together.states, self.width()), &alone.states, &law);
            self.expect_same(&row(&together.shortlists.logits, listed), &alone.shortlists.logits, &law);
            if self.tolerance == 0.0 {
                assert_eq!(together.shortlists.tokens[index * listed..][..listed], alone.shortlists.tokens, "{law}");
            }
        }
        together
    }

    fn a_shortlist_is_part_of_the_whole(&mut self, head: Head, length: usize, states: &[f32], full: &Scores) {
        let vocabulary = self.engine.shape().vocabulary;
        assert!((1..=vocabulary).contains(&length), "{head:?}: a shortlist of {length} tokens");
        let brief = self.scores_of_all_are_those_of_each(head, Scope::Shortlist, states);
        assert_eq!(brief.logits, [], "{head:?}: a shortlist only");
        assert_eq!(brief.shortlists, full.shortlists, "{head:?}: the shortlist is the same in every scope");
        self.expect_same(&full.states, &brief.states, &format!("{head:?}: every scope reads the same state"));
        let rows = full.logits.chunks_exact(vocabulary).zip(brief.shortlists.tokens.chunks_exact(length));
        assert_eq!(rows.len(), LENGTH, "{head:?}: one shortlist a state");
        let law = format!("{head:?}: a token's logit is the same in the shortlist");
        for ((row, tokens), logits) in rows.zip(brief.shortlists.logits.chunks_exact(length)) {
            assert!(tokens.is_sorted_by(|before, after| before < after), "{head:?}: a shortlist is ascending");
            let expected: Vec<f32> = tokens.iter().map(|token| row[token.0 as usize]).collect();
            let largest = row.iter().fold(0.0, |largest: f32, logit| largest.max(logit.abs()));
            expect_within(&expected, logits, self.tolerance + STATE_ROUNDING * largest, &law);
        }
    }

    fn wrong_states_are_refused(&mut self, head: Head, states: &[f32]) {
        let mut poisoned = states[..2 * self.width()].to_vec();
        poisoned[self.width()] = f32::NAN;
        let mut refusal = |hidden: &[f32]| self.engine.score(head, Scope::Full, hidden, &mut Scores::default());
        assert_eq!(refusal(&poisoned), Err(EngineError::NotFinite { row: 1 }));
        assert!(matches!(refusal(&states[1..]), Err(EngineError::Input(_))), "{head:?}: half a state is refused");
    }

    fn width(&self) -> usize {
        self.engine.shape().width
    }

    /// Empties the slots that the suite uses.
    fn clear(&mut self) {
        for slot in [SlotId(0), SlotId(1)] {
            self.engine.truncate(slot, 0);
            for stack in self.engine.shape().stacks.clone() {
                assert_eq!(self.engine.filled(stack, slot), 0, "truncating to 0 frees the slot");
            }
        }
    }

    fn feed(&mut self, stack: Stack, slot: usize, positions: std::ops::Range<usize>, text: u32) -> Vec<f32> {
        self.feed_parts(stack, &[(slot, positions, text)])
    }

    fn feed_parts(&mut self, stack: Stack, parts: &[(usize, std::ops::Range<usize>, u32)]) -> Vec<f32> {
        self.try_feed(stack, parts).expect("well-formed rows run")
    }

    /// Runs positions of the made-up texts `text` in one call: token ids, or states that look like some.
    fn try_feed(
        &mut self,
        stack: Stack,
        parts: &[(usize, std::ops::Range<usize>, u32)],
    ) -> Result<Vec<f32>, EngineError> {
        let (width, vocabulary) = (self.width(), self.engine.shape().vocabulary);
        let (mut rows, mut tokens, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, positions, text) in parts {
            for position in positions.clone() {
                rows.push(row(*slot, position));
                tokens.push(made_up_token(*text, position, vocabulary));
                states.extend((0..width).map(|index| made_up_value(*text, position, index)));
            }
        }
        let input = if stack == Stack::Lower { Input::Tokens(&tokens) } else { Input::Hidden(&states) };
        let mut hidden = vec![f32::NAN; 3];
        self.engine.run(stack, &rows, input, &mut hidden)?;
        assert_eq!(hidden.len(), rows.len() * width, "{stack:?}: one hidden state a row");
        Ok(hidden)
    }

    fn score(&mut self, head: Head, scope: Scope, hidden: &[f32]) -> Scores {
        let rubbish = || vec![f32::NAN; 3];
        let shortlists = Shortlists { tokens: vec![TokenId(u32::MAX); 3], logits: rubbish() };
        let mut scores = Scores { logits: rubbish(), shortlists, states: rubbish() };
        self.engine.score(head, scope, hidden, &mut scores).expect("well-formed states are scored");
        scores
    }

    fn expect_refusal(&mut self, stack: Stack, rows: &[Row], refusal: &EngineError) {
        let before: Vec<usize> = (0..2).map(|slot| self.engine.filled(stack, SlotId(slot))).collect();
        let tokens = vec![TokenId(1); rows.len()];
        let states = vec![0.0; rows.len() * self.width()];
        let input = if stack == Stack::Lower { Input::Tokens(&tokens) } else { Input::Hidden(&states) };
        let refused = self.engine.run(stack, rows, input, &mut Vec::new());
        assert_eq!(refused.as_ref(), Err(refusal), "{stack:?}: rows {rows:?}");
        let after: Vec<usize> = (0..2).map(|slot| self.engine.filled(stack, SlotId(slot))).collect();
        assert_eq!(before, after, "{stack:?}: {refusal} leaves the slots as they were");
    }

    fn expect_same(&self, expected: &[f32], found: &[f32], law: &str) {
        expect_within(expected, found, self.tolerance, law);
    }
}

fn expect_within(expected: &[f32], found: &[f32], tolerance: f32, law: &str) {
    assert_eq!(expected.len(), found.len(), "{law}");
    let largest = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.iter().all(|value| value.is_finite()), "{law}: found a value that is not finite");
    assert!(largest <= tolerance, "{law}: off by {largest}, tolerated is {tolerance}");
}

fn row(slot: usize, position: usize) -> Row {
    let narrow = |value: usize| u32::try_from(value).expect("the suite uses small numbers");
    Row { slot: SlotId(narrow(slot)), position: Position(narrow(position)) }
}

fn made_up_token(text: u32, position: usize, vocabulary: usize) -> TokenId {
    let usable = u32::try_from(vocabulary).expect("a vocabulary fits u32");
    TokenId((text * 7919 + narrow_position(position) * 104_729 + 11) % usable)
}

/// Between -1 and 1, with some structure along the width, as hidden states have.
fn made_up_value(text: u32, position: usize, index: usize) -> f32 {
    let angle = narrow_position(position + 1) as f32 * (index % 97 + 1) as f32 * 0.37 + text as f32;
    angle.sin()
}

fn narrow_position(position: usize) -> u32 {
    u32::try_from(position).expect("the suite uses small numbers")
}

#[cfg(test)]
mod tests {
    use crate::{
        Head, TokenId,
        scripted::{Script, ScriptedEngine, Sizes},
    };

    #[test]
    fn scripted_engines_conform_exactly() {
        for make in [ScriptedEngine::edge, ScriptedEngine::cloud, ScriptedEngine::whole] {
            super::check(&mut make(Script::default(), Sizes::default()), 0.0);
        }
    }

    #[test]
    fn scripted_shortlists_conform_exactly() {
        let engine = ScriptedEngine::edge(Script::default(), Sizes::default());
        let mut engine = engine.with_shortlist(Head::Exit2, [0, 5, 6, 63].map(TokenId).to_vec());
        super::check(&mut engine, 0.0);
    }
}
