//! An edge's engine and the hidden states that wait in it for the second stage.

use std::time::Duration;

use collm_core::{
    edge::{Job, JobOutcome, SecondStage, Stage},
    grammar::Constraint,
    ids::{Position, SlotId, TokenId},
    policy::Scope,
    sampling::{Scored, Scoring},
    states::{Encoding, StateBlock},
};
use collm_engine::{Engine, Head, Input, Row, Scores, Shape, Stack};

use crate::{ExecError, Judges, SCORED_ROWS_MAX, check::Check, codec::Codec, forms::Forms, offset, push_rows};

/// Carries out the jobs of [`collm_core::edge::Edge`], one after the other.
#[derive(Debug)]
pub struct EdgeExecutor<E> {
    engine: E,
    second: SecondStage,
    judges: Judges,
    forms: Forms,
    kept: Vec<Kept>,
    rows: Vec<Row>,
    hidden: Vec<f32>,
    /// Hidden states to score.
    wanted: Vec<f32>,
    scores: Scores,
    /// One row of logits, to work in.
    spare: Vec<f32>,
    codec: Codec,
}

/// What a job brought. Becomes a [`JobOutcome`] when the caller adds the time it took.
#[derive(Debug, Clone, PartialEq)]
pub struct JobResult {
    /// States for upload, if the job asked for them, or why the encoding cannot carry them: no reason to lose the answer.
    pub states: Option<Result<StateBlock, String>>,
    /// What the exit says of each row that the job asked about.
    pub scored: Vec<Scored>,
}

impl JobResult {
    /// With the time that the engine took.
    pub fn timed(self, compute: Duration) -> JobOutcome {
        JobOutcome { states: self.states, scored: self.scored, compute }
    }
}

/// States after `e1` of one slot, from position `first` on. Its end is always the filled length of [`Stack::Lower`].
#[derive(Debug, Clone, Default)]
struct Kept {
    first: usize,
    states: Vec<f32>,
}

impl Kept {
    /// The states of positions `[first, end)`.
    fn range(&self, first: usize, end: usize, width: usize) -> Option<&[f32]> {
        let from = first.checked_sub(self.first)? * width;
        self.states.get(from..(end - self.first) * width)
    }

    /// Those from position `length` on are not wanted any more.
    fn truncate(&mut self, length: usize, width: usize) {
        self.first = self.first.min(length);
        self.states.truncate((length - self.first) * width);
    }

    /// All of them are done with.
    fn clear(&mut self, width: usize) {
        self.first += self.states.len() / width;
        self.states.clear();
    }
}

impl<E: Engine> EdgeExecutor<E> {
    /// Around an engine whose slots are empty and which holds [`Stack::Lower`] and the stack of `second`.
    pub fn new(engine: E, second: SecondStage) -> Self {
        let slots = engine.shape().slots;
        Self {
            engine,
            second,
            judges: Judges::default(),
            forms: Forms::default(),
            kept: vec![Kept::default(); slots],
            rows: Vec::new(),
            hidden: Vec::new(),
            wanted: Vec::new(),
            scores: Scores::default(),
            spare: Vec::new(),
            codec: Codec::default(),
        }
    }

    /// With exits that say otherwise than by their highest probability how sure they are.
    #[must_use]
    pub fn judged_by(mut self, judges: Judges) -> Self {
        self.judges = judges;
        self
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// Carries out one job.
    ///
    /// # Errors
    /// Any [`ExecError`]. The job's slot holds garbage then: [`EdgeExecutor::free`] it.
    pub fn run(&mut self, job: &Job) -> Result<JobResult, ExecError> {
        match &job.stage {
            Stage::First { tokens, upload } => self.first_stage(job, tokens, *upload),
            Stage::Second { rows } => self.second_stage(job, *rows as usize),
        }
    }

    /// Empties a slot, and forgets the states kept for it.
    pub fn free(&mut self, slot: SlotId) {
        self.engine.truncate(slot, 0);
        self.forms.forget(slot);
        if let Some(kept) = self.kept.get_mut(slot_index(slot)) {
            *kept = Kept::default();
        }
    }

    /// Forgets positions from `length` on.
    pub fn truncate(&mut self, slot: SlotId, length: u32) {
        self.engine.truncate(slot, length as usize);
        let width = self.engine.shape().width;
        if let Some(kept) = self.kept.get_mut(slot_index(slot)) {
            kept.truncate(length as usize, width);
        }
    }

    /// Hidden states, in bytes, that wait for the second stage in all slots.
    pub fn kept_bytes(&self) -> usize {
        let floats: usize = self.kept.iter().map(|kept| kept.states.len()).sum();
        floats * size_of::<f32>()
    }

    fn first_stage(&mut self, job: &Job, tokens: &[TokenId], upload: Option<Encoding>) -> Result<JobResult, ExecError> {
        let shape = self.engine.shape();
        let rows_max = shape.batch_rows_max;
        let mut scored = Vec::new();
        for (index, piece) in tokens.chunks(rows_max).enumerate() {
            self.rows.clear();
            let first = offset(job.first, index * rows_max);
            push_rows(&mut self.rows, job.slot, first, piece.len());
            let input = Input::Tokens(piece);
            self.engine.run(Stack::Lower, &self.rows, input, &mut self.hidden)?;
            self.kept[slot_index(job.slot)].states.extend_from_slice(&self.hidden);
            self.score(Head::Exit1, job, first, &mut scored)?;
        }
        let states = match upload.map(|encoding| self.encode(job, tokens.len(), encoding)).transpose() {
            Ok(block) => block.map(Ok),
            Err(error @ ExecError::BeyondF16 { .. }) => Some(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        Ok(JobResult { states, scored })
    }

    /// The rows just computed are the last ones kept.
    fn encode(&mut self, job: &Job, rows: usize, encoding: Encoding) -> Result<StateBlock, ExecError> {
        let width = self.engine.shape().width;
        let kept = &self.kept[slot_index(job.slot)].states;
        let states = &kept[kept.len() - rows * width..];
        self.codec.encode(encoding, width, job.first, states)
    }

    fn second_stage(&mut self, job: &Job, rows: usize) -> Result<JobResult, ExecError> {
        let shape = self.engine.shape();
        let (width, rows_max) = (shape.width, shape.batch_rows_max);
        let end = job.first.index() + rows;
        let head = match self.second {
            SecondStage::Tail => Head::Exit2,
            SecondStage::Whole => Head::Final,
        };
        let mut scored = Vec::new();
        let mut first = job.first.index();
        while first < end {
            let next = end.min(first + rows_max);
            self.run_second(job.slot, first, next)?;
            self.score(head, job, offset(Position(0), first), &mut scored)?;
            first = next;
        }
        if self.engine.filled(Stack::Lower, job.slot) == end {
            self.kept[slot_index(job.slot)].clear(width);
        }
        Ok(JobResult { states: None, scored })
    }

    /// One call of the engine, over positions `[first, end)`.
    fn run_second(&mut self, slot: SlotId, first: usize, end: usize) -> Result<(), ExecError> {
        let width = self.engine.shape().width;
        let start = offset(Position(0), first);
        let kept = self.kept.get(slot_index(slot));
        let states = kept.and_then(|kept| kept.range(first, end, width)).ok_or_else(|| ExecError::NotKept {
            slot,
            first: start,
            end: offset(Position(0), end),
        })?;
        let stack = match self.second {
            SecondStage::Tail => Stack::Tail,
            SecondStage::Whole => Stack::Upper,
        };
        self.rows.clear();
        push_rows(&mut self.rows, slot, start, end - first);
        let input = Input::Hidden(states);
        Ok(self.engine.run(stack, &self.rows, input, &mut self.hidden)?)
    }

    /// Scores what the job asks about among the rows of the last call, which begin at `first`.
    fn score(&mut self, head: Head, job: &Job, first: Position, scored: &mut Vec<Scored>) -> Result<(), ExecError> {
        let width = self.engine.shape().width;
        let rows = first.index()..first.index() + self.hidden.len() / width;
        let wanted: Vec<&Scoring> =
            job.scores.iter().filter(|scoring| rows.contains(&scoring.position.index())).collect();
        for scorings in wanted.chunks(SCORED_ROWS_MAX) {
            self.wanted.clear();
            for scoring in scorings {
                let at = (scoring.position.index() - rows.start) * width;
                self.wanted.extend_from_slice(&self.hidden[at..at + width]);
            }
            self.check(head, job, scorings, scored)?;
        }
        Ok(())
    }

    /// One call of the engine's head, over the wanted states.
    fn check(
        &mut self,
        head: Head,
        job: &Job,
        scorings: &[&Scoring],
        scored: &mut Vec<Scored>,
    ) -> Result<(), ExecError> {
        self.forms.prepare(&mut self.engine, scorings.iter().copied())?;
        let scope = if self.engine.shortlist(head).is_some() { job.scope } else { Scope::Full };
        self.engine.score(head, scope, &self.wanted, &mut self.scores)?;
        let Shape { width, vocabulary, .. } = *self.engine.shape();
        let check = Check { judge: self.judges.of(head), shortlist: self.engine.shortlist(head), scope, vocabulary };
        let Scores { logits, states } = &mut self.scores;
        let rows = logits.chunks_exact_mut(check.row_length()).zip(states.chunks_exact(width));
        for (scoring, (logits, state)) in scorings.iter().zip(rows) {
            let position = scoring.position;
            let mut next = self.forms.next_token(job.slot, scoring);
            let constraint = next.as_mut().map(|next| next as &mut dyn Constraint);
            let row = check.row(logits, state, scoring, constraint, &mut self.spare);
            scored.push(row.map_err(|error| ExecError::Logits { position, error })?);
        }
        Ok(())
    }
}

fn slot_index(slot: SlotId) -> usize {
    slot.0 as usize
}

#[cfg(test)]
mod tests {
    use collm_core::sampling::Sampling;
    use collm_engine::{
        EngineError,
        scripted::{Script, ScriptedEngine, Sizes, WIDTH},
    };

    use super::*;
    use crate::Judge;

    const SIZES: Sizes = Sizes { slots: 2, context: 32, batch_rows_max: 4 };
    const SLOT: SlotId = SlotId(1);

    fn edge() -> EdgeExecutor<ScriptedEngine> {
        let engine = ScriptedEngine::edge(Script::default(), SIZES);
        EdgeExecutor::new(engine, SecondStage::Tail)
    }

    fn tokens(ids: impl IntoIterator<Item = u32>) -> Vec<TokenId> {
        ids.into_iter().map(TokenId).collect()
    }

    fn greedy(position: u32) -> Vec<Scoring> {
        vec![Scoring::alone(Position(position), Sampling::GREEDY)]
    }

    fn first(first: u32, tokens: &[TokenId], upload: Option<Encoding>) -> Job {
        Job {
            slot: SLOT,
            first: Position(first),
            scores: greedy(first + tokens.len() as u32 - 1),
            scope: Scope::Full,
            stage: Stage::First { tokens: tokens.to_vec(), upload },
        }
    }

    fn second(first: u32, rows: u32) -> Job {
        let scores = greedy(first + rows - 1);
        Job { slot: SLOT, first: Position(first), scores, scope: Scope::Full, stage: Stage::Second { rows } }
    }

    fn chosen(result: Result<JobResult, ExecError>) -> TokenId {
        let scored = result.unwrap().scored;
        assert_eq!(scored.len(), 1, "one row was to be scored");
        scored[0].choice.token
    }

    #[test]
    fn deferred_rows_run_together_and_are_kept_no_longer() {
        let (mut edge, script) = (edge(), Script::default());
        let all = tokens(1..10);
        let guess = |head, length| script.guess(head, &all[..length]).0;
        // Larger than a call of the engine, then one by one.
        let result = edge.run(&first(0, &all[..7], None));
        assert_eq!(chosen(result), guess(Head::Exit1, 7));
        assert_eq!(chosen(edge.run(&second(0, 7))), guess(Head::Exit2, 7));
        assert_eq!(edge.kept_bytes(), 0);
        assert_eq!(chosen(edge.run(&first(7, &all[7..8], None))), guess(Head::Exit1, 8));
        assert_eq!(chosen(edge.run(&first(8, &all[8..9], None))), guess(Head::Exit1, 9));
        assert_eq!(edge.kept_bytes(), 2 * WIDTH * 4);
        assert_eq!(chosen(edge.run(&second(7, 2))), guess(Head::Exit2, 9));
        assert_eq!(edge.kept_bytes(), 0);
        assert_eq!(edge.engine().counts().discontinuities, 0);
    }

    #[test]
    fn the_second_stage_may_lag_in_pieces() {
        let (mut edge, script) = (edge(), Script::default());
        let all = tokens(1..9);
        for start in [0, 4] {
            edge.run(&first(start, &all[start as usize..][..4], None)).unwrap();
        }
        for length in [3, 6, 8] {
            let done = edge.engine().filled(Stack::Tail, SLOT) as u32;
            let result = edge.run(&second(done, length - done));
            assert_eq!(chosen(result), script.guess(Head::Exit2, &all[..length as usize]).0);
        }
        assert_eq!(edge.kept_bytes(), 0);
    }

    #[test]
    fn only_what_was_asked_for_comes_back() {
        let mut edge = edge();
        let mut job = first(0, &tokens(1..7), Some(Encoding::F16));
        job.scores.clear();
        let result = edge.run(&job).unwrap();
        assert_eq!(result.states.map(|states| states.map(|block| block.rows())), Some(Ok(6)));
        assert_eq!(result.scored, []);
        assert_eq!(edge.run(&second(0, 6)).unwrap().states, None);
    }

    #[test]
    fn a_whole_model_is_its_own_cloud() {
        let script = Script::default();
        let engine = ScriptedEngine::whole(script.clone(), SIZES);
        let mut edge = EdgeExecutor::new(engine, SecondStage::Whole);
        let prompt = tokens(1..6);
        edge.run(&first(0, &prompt, None)).unwrap();
        assert_eq!(chosen(edge.run(&second(0, 5))), script.truth(&prompt));
    }

    #[test]
    fn a_job_is_checked_in_its_scope_by_the_exit_s_judge() {
        let script = Script::default();
        let all = tokens(1..6);
        let logits = script.logits(Head::Exit2, &all);
        let shortlist: Vec<TokenId> = tokens((0..64).filter(|&id| id != script.guess(Head::Exit2, &all).0.0));
        let listed: Vec<f32> = shortlist.iter().map(|token| logits[token.0 as usize]).collect();
        let engine = ScriptedEngine::edge(script.clone(), SIZES).with_shortlist(Head::Exit2, shortlist.clone());
        let judges = Judges { exit2: Judge::Margin, ..Judges::default() };
        let mut edge = EdgeExecutor::new(engine, SecondStage::Tail).judged_by(judges);
        for scope in [Scope::Shortlist, Scope::Full] {
            // Exit 1 has no shortlist.
            let brief = edge.run(&Job { scope, ..first(0, &all, None) }).unwrap().scored[0].choice;
            let guess = script.guess(Head::Exit1, &all);
            assert_eq!(brief.token, guess.0);
            assert!((brief.confidence - guess.1).abs() < 1e-4, "{scope:?}: {brief:?}");
            let choice = edge.run(&Job { scope, ..second(0, 5) }).unwrap().scored[0].choice;
            let full = scope == Scope::Full;
            assert_eq!(shortlist.contains(&choice.token), !full, "{scope:?}");
            assert_eq!(choice.confidence, Judge::Margin.confidence(&listed, &[], Position(4)), "{scope:?}");
            edge.free(SLOT);
        }
    }

    #[test]
    fn a_truncated_slot_goes_on_from_there() {
        let (mut edge, script) = (edge(), Script::default());
        let (all, other) = (tokens(1..9), tokens([1, 2, 3, 4, 5, 40, 41]));
        for done in [8, 6, 3] {
            // Once past the cut in both stages, once past it in the first alone, once not past it in the second.
            edge.run(&first(0, &all, None)).unwrap();
            edge.run(&second(0, done)).unwrap();
            edge.truncate(SLOT, 5);
            edge.run(&first(5, &other[5..], None)).unwrap();
            let from = done.min(5);
            assert_eq!(chosen(edge.run(&second(from, 7 - from))), script.guess(Head::Exit2, &other).0);
            assert_eq!(edge.kept_bytes(), 0);
            edge.free(SLOT);
        }
        assert_eq!(edge.engine().counts().discontinuities, 0);
    }

    #[test]
    fn a_freed_slot_starts_anew() {
        let (mut edge, script) = (edge(), Script::default());
        edge.run(&first(0, &tokens([1, 2, 3]), None)).unwrap();
        edge.free(SLOT);
        assert_eq!(edge.kept_bytes(), 0);
        let other = tokens([9, 8]);
        edge.run(&first(0, &other, None)).unwrap();
        assert_eq!(chosen(edge.run(&second(0, 2))), script.guess(Head::Exit2, &other).0);
    }

    #[test]
    fn faults_of_the_caller_are_named() {
        let mut edge = edge();
        edge.run(&first(0, &tokens([1, 2, 3]), None)).unwrap();
        let missing = ExecError::NotKept { slot: SLOT, first: Position(0), end: Position(4) };
        assert_eq!(edge.run(&second(0, 4)), Err(missing));
        edge.run(&second(0, 3)).unwrap();
        assert!(matches!(edge.run(&second(2, 1)), Err(ExecError::NotKept { .. })));
        let gap = edge.run(&first(4, &tokens([1]), None));
        assert!(matches!(gap, Err(ExecError::Engine(EngineError::Gap { .. }))));
        let mut empty = first(3, &tokens([1]), Some(Encoding::F16));
        empty.stage = Stage::First { tokens: vec![], upload: Some(Encoding::F16) };
        assert_eq!(edge.run(&empty), Err(ExecError::Empty(Position(3))));
    }

    #[test]
    fn a_failing_device_fails_the_job() {
        let engine = ScriptedEngine::edge(Script::default(), SIZES).failing_at(0);
        let mut edge = EdgeExecutor::new(engine, SecondStage::Tail);
        let result = edge.run(&first(0, &tokens([1]), None));
        assert!(matches!(result, Err(ExecError::Engine(EngineError::Device(_)))));
    }
}
