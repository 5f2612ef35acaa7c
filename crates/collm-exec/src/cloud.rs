//! A cloud's engine: batches of several sessions, packed into calls of a bounded size.

use std::{ops::Range, sync::Arc};

use collm_core::{
    cloud::{Batch, BatchInput, BatchPart},
    grammar::Constraint,
    sampling::{Scored, Scoring, choose_within},
    states::StateBlock,
};
use collm_engine::{Engine, Head, Input, Interrupt, Row, Scope, Scores, Stack};

use crate::{ExecError, SCORED_ROWS_MAX, codec::Codec, forms::Forms, offset, push_rows};

/// What became of a part of a batch: what the head says of each row to be scored, or why its logits are unusable.
pub type PartResult = Result<Vec<Scored>, String>;

/// Carries out the batches of [`collm_core::cloud::Cloud`], one after the other.
#[derive(Debug)]
pub struct CloudExecutor<E> {
    engine: E,
    rows: Vec<Row>,
    lower: Vec<f32>,
    input: Vec<f32>,
    hidden: Vec<f32>,
    /// Hidden states to score, gathered over the calls of a batch.
    scored: Vec<f32>,
    scores: Scores,
    forms: Forms,
    codec: Codec,
}

/// Rows of one part that go into one call.
struct Piece<'a> {
    part: &'a BatchPart,
    rows: Range<usize>,
}

impl<E: Engine> CloudExecutor<E> {
    /// Around an engine that holds [`Stack::Upper`], and [`Stack::Lower`] if batches are to carry tokens.
    pub fn new(engine: E) -> Self {
        Self {
            engine,
            rows: Vec::new(),
            lower: Vec::new(),
            input: Vec::new(),
            hidden: Vec::new(),
            scored: Vec::new(),
            scores: Scores::default(),
            forms: Forms::default(),
            codec: Codec::default(),
        }
    }

    /// With an engine that `interrupt` can end the calls of.
    #[must_use]
    pub fn heeding(mut self, interrupt: Arc<Interrupt>) -> Self {
        self.engine.heed(interrupt);
        self
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// Carries out one batch. A session whose states lead to unusable logits spoils its own part only.
    ///
    /// # Errors
    /// Any [`ExecError`]. The slots of all parts hold garbage then, unless it was interrupted: they hold what comes before their part,
    /// and maybe some of its rows.
    pub fn run(&mut self, batch: &Batch) -> Result<Vec<PartResult>, ExecError> {
        for part in &batch.parts {
            check_scores(part)?;
            self.engine.truncate(part.slot, part.first.index());
        }
        self.scored.clear();
        for call in pack(&batch.parts, self.engine.shape().batch_rows_max) {
            self.run_call(&call)?;
        }
        self.score(&batch.parts)
    }

    fn run_call(&mut self, call: &[Piece<'_>]) -> Result<(), ExecError> {
        self.run_lower(call)?;
        self.gather_input(call);
        self.rows.clear();
        for piece in call {
            self.push_rows(piece);
        }
        let input = Input::Hidden(&self.input);
        self.engine.run(Stack::Upper, &self.rows, input, &mut self.hidden)?;
        self.keep_scored(call);
        Ok(())
    }

    /// `[0, e1)` over the pieces that carry tokens.
    fn run_lower(&mut self, call: &[Piece<'_>]) -> Result<(), ExecError> {
        self.rows.clear();
        let mut tokens = Vec::new();
        for piece in call {
            if let BatchInput::Tokens(all) = &piece.part.input {
                tokens.extend_from_slice(&all[piece.rows.clone()]);
                self.push_rows(piece);
            }
        }
        if tokens.is_empty() {
            self.lower.clear();
            return Ok(());
        }
        let input = Input::Tokens(&tokens);
        Ok(self.engine.run(Stack::Lower, &self.rows, input, &mut self.lower)?)
    }

    /// The states of all pieces, in the order of the call.
    fn gather_input(&mut self, call: &[Piece<'_>]) {
        let width = self.engine.shape().width;
        self.input.clear();
        let mut lower = self.lower.as_slice();
        for piece in call {
            match &piece.part.input {
                BatchInput::States(blocks) => {
                    decode_rows(&mut self.codec, blocks, &piece.rows, &mut self.input);
                }
                BatchInput::Tokens(_) => {
                    let (states, rest) = lower.split_at(piece.rows.len() * width);
                    self.input.extend_from_slice(states);
                    lower = rest;
                }
            }
        }
    }

    fn push_rows(&mut self, piece: &Piece<'_>) {
        let first = offset(piece.part.first, piece.rows.start);
        push_rows(&mut self.rows, piece.part.slot, first, piece.rows.len());
    }

    /// Copies what is to be scored out of the call's result: calls and scores rise together, so order is kept.
    fn keep_scored(&mut self, call: &[Piece<'_>]) {
        let width = self.engine.shape().width;
        let mut piece_start = 0;
        for piece in call {
            for scoring in &piece.part.scores {
                let row = scoring.position.index() - piece.part.first.index();
                if piece.rows.contains(&row) {
                    let at = (piece_start + row - piece.rows.start) * width;
                    self.scored.extend_from_slice(&self.hidden[at..at + width]);
                }
            }
            piece_start += piece.rows.len();
        }
    }

    /// The head over everything kept, in as few calls as it takes.
    fn score(&mut self, parts: &[BatchPart]) -> Result<Vec<PartResult>, ExecError> {
        let shape = self.engine.shape();
        let (width, vocabulary) = (shape.width, shape.vocabulary);
        let call_floats = shape.batch_rows_max.min(SCORED_ROWS_MAX) * width;
        let wanted: Vec<(usize, &Scoring)> = wanted(parts).collect();
        self.forms.prepare(&mut self.engine, wanted.iter().map(|(_, scoring)| *scoring))?;
        let mut results: Vec<PartResult> = vec![Ok(Vec::new()); parts.len()];
        for (state, (part, scoring)) in self.scored.chunks_exact_mut(width).zip(&wanted) {
            if let Err(reason) = blank_unless_finite(state, scoring) {
                results[*part] = Err(reason);
            }
        }
        let mut wanted = wanted.into_iter();
        for states in self.scored.chunks(call_floats) {
            self.engine.score(Head::Final, Scope::Full, states, &mut self.scores)?;
            for logits in self.scores.logits.chunks_exact_mut(vocabulary) {
                let (part, scoring) = wanted.next().expect("one hidden state was kept a score");
                let mut next = self.forms.next_token(parts[part].slot, scoring);
                let constraint = next.as_mut().map(|next| next as &mut dyn Constraint);
                add_scored(&mut results[part], scoring, logits, constraint);
            }
        }
        Ok(results)
    }
}

/// Every score is of a row that the part brings.
fn check_scores(part: &BatchPart) -> Result<(), ExecError> {
    let end = part.first.index() + row_count(part);
    let brought = part.first.index()..end;
    let outside = |scoring: &&Scoring| !brought.contains(&scoring.position.index());
    match part.scores.iter().find(outside) {
        Some(scoring) => Err(ExecError::ScoreOutside { slot: part.slot, position: scoring.position }),
        None => Ok(()),
    }
}

fn row_count(part: &BatchPart) -> usize {
    match &part.input {
        BatchInput::States(blocks) => blocks.iter().map(|block| block.rows() as usize).sum(),
        BatchInput::Tokens(tokens) => tokens.len(),
    }
}

/// Fills calls of at most `rows_max` rows, cutting parts where a call is full.
fn pack(parts: &[BatchPart], rows_max: usize) -> Vec<Vec<Piece<'_>>> {
    let mut calls = Vec::new();
    let mut call = Vec::new();
    let mut room = rows_max;
    for part in parts {
        let end = row_count(part);
        let mut start = 0;
        while start < end {
            let rows = start..end.min(start + room);
            (start, room) = (rows.end, room - rows.len());
            call.push(Piece { part, rows });
            if room == 0 {
                calls.push(std::mem::take(&mut call));
                room = rows_max;
            }
        }
    }
    if !call.is_empty() {
        calls.push(call);
    }
    calls
}

/// Rows `rows`, counted over all blocks, appended to `states`.
fn decode_rows(codec: &mut Codec, blocks: &[StateBlock], rows: &Range<usize>, states: &mut Vec<f32>) {
    let mut block_start = 0;
    for block in blocks {
        let block_rows = block.rows() as usize;
        let from = rows.start.clamp(block_start, block_start + block_rows) - block_start;
        let to = rows.end.clamp(block_start, block_start + block_rows) - block_start;
        if from < to {
            codec.decode(block, from as u32, to as u32, states);
        }
        block_start += block_rows;
    }
}

/// What is scored, with the index of its part.
fn wanted(parts: &[BatchPart]) -> impl Iterator<Item = (usize, &Scoring)> {
    let scores = |(index, part)| {
        let part: &BatchPart = part;
        part.scores.iter().map(move |scoring| (index, scoring))
    };
    parts.iter().enumerate().flat_map(scores)
}

/// Zeros instead of a hidden state that the engine would refuse, since it would refuse the whole call with it.
fn blank_unless_finite(state: &mut [f32], scoring: &Scoring) -> Result<(), String> {
    if state.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    state.fill(0.0);
    Err(ExecError::NotFinite(scoring.position).to_string())
}

fn add_scored(result: &mut PartResult, scoring: &Scoring, logits: &mut [f32], constraint: Option<&mut dyn Constraint>) {
    let Ok(all) = result else { return };
    let position = scoring.position;
    match choose_within(logits, scoring, constraint) {
        Ok(scored) => all.push(scored),
        Err(error) => *result = Err(ExecError::Logits { position, error }.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use collm_core::{
        ids::{Position, SlotId, TokenId},
        sampling::Sampling,
        states::Encoding,
    };
    use collm_engine::{
        EngineError,
        scripted::{Script, ScriptedEngine, Sizes, WIDTH},
    };

    use super::*;

    const SIZES: Sizes = Sizes { slots: 3, context: 32, batch_rows_max: 4 };

    fn tokens(ids: impl IntoIterator<Item = u32>) -> Vec<TokenId> {
        ids.into_iter().map(TokenId).collect()
    }

    fn greedy(positions: &[u32]) -> Vec<Scoring> {
        let scoring = |&position| Scoring::alone(Position(position), Sampling::GREEDY);
        positions.iter().map(scoring).collect()
    }

    /// The states after `e1` of a prefix.
    fn states(prefix: &[TokenId], encoding: Encoding) -> StateBlock {
        let sizes = Sizes { batch_rows_max: 32, ..SIZES };
        let mut engine = ScriptedEngine::edge(Script::default(), sizes);
        let (mut rows, mut hidden) = (vec![], vec![]);
        push_rows(&mut rows, SlotId(0), Position(0), prefix.len());
        engine.run(Stack::Lower, &rows, Input::Tokens(prefix), &mut hidden).unwrap();
        let mut codec = Codec::default();
        codec.encode(encoding, WIDTH, Position(0), &hidden).unwrap()
    }

    fn part(slot: u32, first: u32, input: BatchInput, scores: &[u32]) -> BatchPart {
        BatchPart { slot: SlotId(slot), first: Position(first), input, scores: greedy(scores) }
    }

    fn truths(prefix: &[TokenId], positions: &[u32]) -> Vec<TokenId> {
        let truth = |&position| Script::default().truth(&prefix[..=position as usize]);
        positions.iter().map(truth).collect()
    }

    fn chosen(result: &PartResult) -> Vec<TokenId> {
        let scored = result.as_ref().unwrap();
        scored.iter().map(|scored| scored.choice.token).collect()
    }

    #[test]
    fn an_interrupted_batch_can_be_done_anew() {
        let interrupt = Arc::new(Interrupt::default());
        let engine = ScriptedEngine::whole(Script::default(), SIZES);
        let mut cloud = CloudExecutor::new(engine).heeding(Arc::clone(&interrupt));
        let all = tokens(1..10);
        // As many rows as a call takes are there already when the others are ended.
        let begun = Batch { parts: vec![part(0, 0, BatchInput::Tokens(all[..4].to_vec()), &[])] };
        cloud.run(&begun).unwrap();
        let whole = Batch { parts: vec![part(0, 0, BatchInput::Tokens(all.clone()), &[3, 8])] };
        interrupt.begin(1);
        interrupt.stop(1);
        assert_eq!(cloud.run(&whole), Err(ExecError::Engine(EngineError::Interrupted)));
        interrupt.begin(2);
        assert_eq!(chosen(&cloud.run(&whole).unwrap()[0]), truths(&all, &[3, 8]));
        assert_eq!(cloud.engine().counts().discontinuities, 0);
    }

    #[test]
    fn parts_larger_than_a_call_are_answered_as_the_model_would() {
        let mut cloud = CloudExecutor::new(ScriptedEngine::whole(Script::default(), SIZES));
        let (first, second, third) = (tokens(1..10), tokens(20..25), tokens(40..43));
        let halves = states(&second, Encoding::F16);
        let blocks = vec![halves.slice(0, 1), halves.slice(1, 5)];
        let batch = Batch {
            parts: vec![
                part(0, 0, BatchInput::Tokens(first.clone()), &[2, 3, 8]),
                part(2, 0, BatchInput::States(blocks), &[0, 4]),
                part(1, 0, BatchInput::Tokens(third.clone()), &[]),
            ],
        };
        let results = cloud.run(&batch).unwrap();
        assert_eq!(chosen(&results[0]), truths(&first, &[2, 3, 8]));
        assert_eq!(chosen(&results[1]), truths(&second, &[0, 4]));
        assert_eq!(results[2], Ok(vec![]));
        let counts = cloud.engine().counts();
        assert_eq!((counts.upper_rows, counts.discontinuities), (17, 0));
    }

    #[test]
    fn a_part_truncates_its_slot_first() {
        let mut cloud = CloudExecutor::new(ScriptedEngine::cloud(Script::default(), SIZES));
        let (old, new) = (tokens([1, 2, 3, 4]), tokens([1, 2, 9]));
        let whole = BatchInput::States(vec![states(&old, Encoding::F32)]);
        let parts = vec![part(0, 0, whole, &[])];
        cloud.run(&Batch { parts }).unwrap();
        let last = states(&new, Encoding::F32).slice(2, 3);
        let parts = vec![part(0, 2, BatchInput::States(vec![last]), &[2])];
        let results = cloud.run(&Batch { parts }).unwrap();
        assert_eq!(chosen(&results[0]), truths(&new, &[2]));
    }

    #[test]
    fn a_score_outside_the_rows_is_refused() {
        let mut cloud = CloudExecutor::new(ScriptedEngine::whole(Script::default(), SIZES));
        for position in [1, 4] {
            let input = BatchInput::Tokens(tokens([5, 6]));
            let parts = vec![part(0, 2, input, &[position])];
            let expected = ExecError::ScoreOutside { slot: SlotId(0), position: Position(position) };
            assert_eq!(cloud.run(&Batch { parts }), Err(expected));
        }
    }

    /// A model in which large states overflow: its upper layers add every value to itself.
    struct Overflowing {
        inner: ScriptedEngine,
    }

    impl Engine for Overflowing {
        fn shape(&self) -> &collm_engine::Shape {
            self.inner.shape()
        }

        fn run(
            &mut self,
            stack: Stack,
            rows: &[Row],
            input: Input<'_>,
            hidden: &mut Vec<f32>,
        ) -> Result<(), EngineError> {
            self.inner.run(stack, rows, input, hidden)?;
            if let Input::Hidden(given) = input {
                for (value, given) in hidden.iter_mut().zip(given) {
                    *value += given * 2.0 - given - given;
                }
            }
            Ok(())
        }

        fn score(&mut self, head: Head, scope: Scope, hidden: &[f32], scores: &mut Scores) -> Result<(), EngineError> {
            self.inner.score(head, scope, hidden, scores)
        }

        fn shortlist(&self, head: Head) -> Option<usize> {
            self.inner.shortlist(head)
        }

        fn filled(&self, stack: Stack, slot: SlotId) -> usize {
            self.inner.filled(stack, slot)
        }

        fn truncate(&mut self, slot: SlotId, length: usize) {
            self.inner.truncate(slot, length);
        }
    }

    #[test]
    fn a_state_that_overflows_spoils_its_own_part_only() {
        let inner = ScriptedEngine::cloud(Script::default(), SIZES);
        let mut cloud = CloudExecutor::new(Overflowing { inner });
        let huge = Codec::default().encode(Encoding::F32, WIDTH, Position(0), &[f32::MAX; WIDTH]).unwrap();
        let good = tokens([7, 8]);
        let parts = vec![
            part(0, 0, BatchInput::States(vec![huge]), &[0]),
            part(1, 0, BatchInput::States(vec![states(&good, Encoding::F16)]), &[0, 1]),
        ];
        let results = cloud.run(&Batch { parts }).unwrap();
        assert_eq!(results[0], Err(ExecError::NotFinite(Position(0)).to_string()));
        assert_eq!(chosen(&results[1]), truths(&good, &[0, 1]));
    }

    #[test]
    fn a_failing_device_fails_the_batch() {
        let engine = ScriptedEngine::whole(Script::default(), SIZES).failing_at(1);
        let mut cloud = CloudExecutor::new(engine);
        let parts = vec![part(0, 0, BatchInput::Tokens(tokens([5])), &[0])];
        let result = cloud.run(&Batch { parts });
        assert!(matches!(result, Err(ExecError::Engine(EngineError::Device(_)))));
    }
}
