//! An edge's engine and the hidden states that wait in it for the second stage.

mod kept;
mod scoring;

use std::{mem::discriminant, ops::Range, sync::Arc};

use collm_core::{
    edge::{Batch, Job, JobError, JobOutcome, SecondStage, Stage},
    ids::{Position, SessionId, SlotId, TokenId},
    states::{Encoding, StateBlock},
};
use collm_engine::{Engine, EngineError, Input, Interrupt, Row, Scores, Stack};

use self::kept::Kept;
use crate::{ExecError, Judges, codec::Codec, forms::Forms, offset, push_rows};

/// What became of a job. After a failure its slot holds garbage: [`EdgeExecutor::free`] it.
pub type JobResult = Result<JobOutcome, ExecError>;

impl From<ExecError> for JobError {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Engine(EngineError::Interrupted) => Self::Interrupted,
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Carries out the batches of [`collm_core::edge::Edge`], one after the other.
#[derive(Debug)]
pub struct EdgeExecutor<E> {
    engine: E,
    second: SecondStage,
    judges: Judges,
    forms: Forms,
    kept: Vec<Kept>,
    rows: Vec<Row>,
    tokens: Vec<TokenId>,
    input: Vec<f32>,
    hidden: Vec<f32>,
    scores: Scores,
    /// One row of logits, to work in.
    spare: Vec<f32>,
    codec: Codec,
}

/// A job under way.
struct Working<'a> {
    job: &'a Job,
    /// The states of its rows to score that have run.
    states: Vec<f32>,
    result: JobResult,
}

/// Rows of one job that go into one call.
struct Piece {
    /// Index of the job in the batch.
    job: usize,
    rows: Range<usize>,
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
            tokens: Vec::new(),
            input: Vec::new(),
            hidden: Vec::new(),
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

    /// Carries out one batch, and says what became of each job, in their order. What is wrong with one job is no other's loss; only
    /// a call of the engine that fails takes along all whose rows are in it.
    pub fn run(&mut self, batch: &Batch) -> Vec<JobResult> {
        let same_stage =
            |(_, a): &(SessionId, Job), (_, b): &(SessionId, Job)| discriminant(&a.stage) == discriminant(&b.stage);
        batch.jobs.chunk_by(same_stage).flat_map(|jobs| self.run_stage(jobs)).collect()
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
        self.kept.iter().map(Kept::bytes).sum()
    }

    /// All of one stage.
    fn run_stage(&mut self, jobs: &[(SessionId, Job)]) -> Vec<JobResult> {
        let mut working: Vec<Working<'_>> = jobs.iter().map(|(_, job)| Working::of(job)).collect();
        for call in pack(&working, self.engine.shape().batch_rows_max) {
            self.run_call(&mut working, &call);
        }
        for job in &mut working {
            job.go_on(|outcome, job| {
                outcome.states = self.finish_stage(job)?;
                Ok(())
            });
        }
        self.score(&mut working);
        working.into_iter().map(|job| job.result).collect()
    }

    fn run_call(&mut self, working: &mut [Working<'_>], call: &[Piece]) {
        self.rows.clear();
        self.tokens.clear();
        self.input.clear();
        for piece in call {
            working[piece.job].go_on(|_, job| self.gather(job, piece.rows.clone()));
        }
        let Some(stage) = call.first().map(|piece| &working[piece.job].job.stage) else { return };
        let (stack, input) = match stage {
            Stage::First { .. } => (Stack::Lower, Input::Tokens(&self.tokens)),
            Stage::Second { .. } => (second_stack(self.second), Input::Hidden(&self.input)),
        };
        let run = self.engine.run(stack, &self.rows, input, &mut self.hidden);
        let mut first = 0;
        for piece in call {
            let job = &mut working[piece.job];
            if job.result.is_err() {
                continue;
            }
            match &run {
                Ok(()) => first = self.take_rows(job, piece, first),
                Err(error) => job.result = Err(error.clone().into()),
            }
        }
    }

    /// Adds rows of a job, and what they carry, to the call.
    fn gather(&mut self, job: &Job, rows: Range<usize>) -> Result<(), ExecError> {
        let first = offset(job.first, rows.start);
        match &job.stage {
            Stage::First { tokens, .. } => self.tokens.extend_from_slice(&tokens[rows.clone()]),
            Stage::Second { .. } => {
                let end = offset(first, rows.len());
                let kept = self.kept.get(slot_index(job.slot));
                let states = kept.and_then(|kept| kept.range(first, end, self.engine.shape().width));
                let states = states.ok_or(ExecError::NotKept { slot: job.slot, first, end })?;
                check_finite(states, first, self.engine.shape().width)?;
                self.input.extend_from_slice(states);
            }
        }
        push_rows(&mut self.rows, job.slot, first, rows.len());
        Ok(())
    }

    /// Takes a piece's states, row `first` of the call and the next, and returns where those of the next piece begin.
    fn take_rows(&mut self, working: &mut Working<'_>, piece: &Piece, first: usize) -> usize {
        let width = self.engine.shape().width;
        let next = first + piece.rows.len();
        let states = &self.hidden[first * width..next * width];
        if matches!(working.job.stage, Stage::First { .. }) {
            self.kept[slot_index(working.job.slot)].push(states);
        }
        for scoring in &working.job.scores {
            let row = scoring.position.index() - working.job.first.index();
            if piece.rows.contains(&row) {
                let state = &states[(row - piece.rows.start) * width..][..width];
                working.states.extend_from_slice(state);
                working.go_on(|_, _| check_finite(state, scoring.position, width));
            }
        }
        next
    }

    /// After the last row: encodes what is to be uploaded, and lets go of what is not needed any more.
    fn finish_stage(&mut self, job: &Job) -> Result<Option<Result<StateBlock, String>>, ExecError> {
        match job.stage {
            Stage::First { upload, .. } => upload.map(|encoding| self.encode(job, encoding)).transpose(),
            Stage::Second { .. } => {
                let width = self.engine.shape().width;
                let end = job.first.index() + job.rows() as usize;
                if self.engine.filled(Stack::Lower, job.slot) == end {
                    self.kept[slot_index(job.slot)].clear(width);
                }
                Ok(None)
            }
        }
    }

    /// The rows just computed are the last ones kept. States that the encoding cannot carry are no reason to lose the answer.
    fn encode(&mut self, job: &Job, encoding: Encoding) -> Result<Result<StateBlock, String>, ExecError> {
        let width = self.engine.shape().width;
        let states = self.kept[slot_index(job.slot)].last(job.rows() as usize, width);
        match self.codec.encode(encoding, width, job.first, states) {
            Err(error @ ExecError::Beyond { .. }) => Ok(Err(error.to_string())),
            encoded => encoded.map(Ok),
        }
    }
}

impl<'a> Working<'a> {
    fn of(job: &'a Job) -> Self {
        let result = check_rows(job).map(|()| JobOutcome { states: None, scored: Vec::new() });
        Self { job, states: Vec::new(), result }
    }

    /// The next step, unless an earlier one failed.
    fn go_on(&mut self, step: impl FnOnce(&mut JobOutcome, &'a Job) -> Result<(), ExecError>) {
        if let Ok(outcome) = &mut self.result
            && let Err(error) = step(outcome, self.job)
        {
            self.result = Err(error);
        }
    }
}

/// There are rows, and what is to be scored is among them.
fn check_rows(job: &Job) -> Result<(), ExecError> {
    let rows = job.first..offset(job.first, job.rows() as usize);
    if rows.is_empty() {
        return Err(ExecError::Empty(job.first));
    }
    match job.scores.iter().find(|scoring| !rows.contains(&scoring.position)) {
        Some(scoring) => Err(ExecError::ScoreOutside { slot: job.slot, position: scoring.position }),
        None => Ok(()),
    }
}

/// Fills calls of at most `rows_max` rows. A job is cut only where it is larger than a call, and then at multiples of `rows_max` from
/// its own first row: where a prompt is cut must not depend on who else computes.
fn pack(working: &[Working<'_>], rows_max: usize) -> Vec<Vec<Piece>> {
    let mut calls: Vec<Vec<Piece>> = Vec::new();
    let mut room = 0;
    for (index, Working { job, .. }) in working.iter().enumerate() {
        let end = job.rows() as usize;
        for start in (0..end).step_by(rows_max) {
            let rows = start..end.min(start + rows_max);
            if rows.len() > room {
                calls.push(Vec::new());
                room = rows_max;
            }
            room -= rows.len();
            calls.last_mut().expect("pushed where there was none").push(Piece { job: index, rows });
        }
    }
    calls
}

/// The engine refuses a whole call for one state that is not finite.
fn check_finite(states: &[f32], first: Position, width: usize) -> Result<(), ExecError> {
    let damaged = states.chunks_exact(width).position(|state| !state.iter().all(|value| value.is_finite()));
    damaged.map_or(Ok(()), |row| Err(ExecError::NotFinite(offset(first, row))))
}

fn second_stack(second: SecondStage) -> Stack {
    match second {
        SecondStage::Tail => Stack::Tail,
        SecondStage::Whole => Stack::Upper,
    }
}

fn slot_index(slot: SlotId) -> usize {
    slot.0 as usize
}

#[cfg(test)]
mod tests {
    use collm_core::{
        policy::Scope,
        sampling::{Sampling, Scoring},
    };
    use collm_engine::{
        Head,
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

    fn batch(jobs: impl IntoIterator<Item = Job>) -> Batch {
        Batch { jobs: (1..).map(SessionId).zip(jobs).collect() }
    }

    fn run(edge: &mut EdgeExecutor<ScriptedEngine>, job: Job) -> JobResult {
        edge.run(&batch([job])).remove(0)
    }

    fn chosen(result: &JobResult) -> TokenId {
        let scored = &result.as_ref().unwrap().scored;
        assert_eq!(scored.len(), 1, "one row was to be scored");
        scored[0].choice.token
    }

    #[test]
    fn deferred_rows_run_together_and_are_kept_no_longer() {
        let (mut edge, script) = (edge(), Script::default());
        let all = tokens(1..10);
        let guess = |head, length| script.guess(head, &all[..length]).0;
        // Larger than a call of the engine, then one by one.
        let result = run(&mut edge, first(0, &all[..7], None));
        assert_eq!(chosen(&result), guess(Head::Exit1, 7));
        assert_eq!(chosen(&run(&mut edge, second(0, 7))), guess(Head::Exit2, 7));
        assert_eq!(edge.kept_bytes(), 0);
        assert_eq!(chosen(&run(&mut edge, first(7, &all[7..8], None))), guess(Head::Exit1, 8));
        assert_eq!(chosen(&run(&mut edge, first(8, &all[8..9], None))), guess(Head::Exit1, 9));
        assert_eq!(edge.kept_bytes(), 2 * WIDTH * 4);
        assert_eq!(chosen(&run(&mut edge, second(7, 2))), guess(Head::Exit2, 9));
        assert_eq!(edge.kept_bytes(), 0);
        assert_eq!(edge.engine().counts().discontinuities, 0);
    }

    #[test]
    fn the_second_stage_may_lag_in_pieces() {
        let (mut edge, script) = (edge(), Script::default());
        let all = tokens(1..9);
        for start in [0, 4] {
            run(&mut edge, first(start, &all[start as usize..][..4], None)).unwrap();
        }
        for length in [3, 6, 8] {
            let done = edge.engine().filled(Stack::Tail, SLOT) as u32;
            let result = run(&mut edge, second(done, length - done));
            assert_eq!(chosen(&result), script.guess(Head::Exit2, &all[..length as usize]).0);
        }
        assert_eq!(edge.kept_bytes(), 0);
    }

    #[test]
    fn only_what_was_asked_for_comes_back() {
        let mut edge = edge();
        let mut job = first(0, &tokens(1..7), Some(Encoding::F16));
        job.scores.clear();
        let result = run(&mut edge, job).unwrap();
        assert_eq!(result.states.map(|states| states.map(|block| block.rows())), Some(Ok(6)));
        assert_eq!(result.scored, []);
        assert_eq!(run(&mut edge, second(0, 6)).unwrap().states, None);
    }

    #[test]
    fn a_whole_model_is_its_own_cloud() {
        let script = Script::default();
        let engine = ScriptedEngine::whole(script.clone(), SIZES);
        let mut edge = EdgeExecutor::new(engine, SecondStage::Whole);
        let prompt = tokens(1..6);
        run(&mut edge, first(0, &prompt, None)).unwrap();
        assert_eq!(chosen(&run(&mut edge, second(0, 5))), script.truth(&prompt));
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
            let brief = run(&mut edge, Job { scope, ..first(0, &all, None) }).unwrap().scored[0].choice;
            let guess = script.guess(Head::Exit1, &all);
            assert_eq!(brief.token, guess.0);
            assert!((brief.confidence - guess.1).abs() < 1e-4, "{scope:?}: {brief:?}");
            let choice = run(&mut edge, Job { scope, ..second(0, 5) }).unwrap().scored[0].choice;
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
            run(&mut edge, first(0, &all, None)).unwrap();
            run(&mut edge, second(0, done)).unwrap();
            edge.truncate(SLOT, 5);
            run(&mut edge, first(5, &other[5..], None)).unwrap();
            let from = done.min(5);
            assert_eq!(chosen(&run(&mut edge, second(from, 7 - from))), script.guess(Head::Exit2, &other).0);
            assert_eq!(edge.kept_bytes(), 0);
            edge.free(SLOT);
        }
        assert_eq!(edge.engine().counts().discontinuities, 0);
    }

    #[test]
    fn a_freed_slot_starts_anew() {
        let (mut edge, script) = (edge(), Script::default());
        run(&mut edge, first(0, &tokens([1, 2, 3]), None)).unwrap();
        edge.free(SLOT);
        assert_eq!(edge.kept_bytes(), 0);
        let other = tokens([9, 8]);
        run(&mut edge, first(0, &other, None)).unwrap();
        assert_eq!(chosen(&run(&mut edge, second(0, 2))), script.guess(Head::Exit2, &other).0);
    }

    #[test]
    fn faults_of_the_caller_are_named() {
        let mut edge = edge();
        run(&mut edge, first(0, &tokens([1, 2, 3]), None)).unwrap();
        let missing = ExecError::NotKept { slot: SLOT, first: Position(0), end: Position(4) };
        assert_eq!(run(&mut edge, second(0, 4)), Err(missing));
        run(&mut edge, second(0, 3)).unwrap();
        assert!(matches!(run(&mut edge, second(2, 1)), Err(ExecError::NotKept { .. })));
        let gap = run(&mut edge, first(4, &tokens([1]), None));
        assert!(matches!(gap, Err(ExecError::Engine(EngineError::Gap { .. }))));
        let mut empty = first(3, &tokens([1]), Some(Encoding::F16));
        empty.stage = Stage::First { tokens: vec![], upload: Some(Encoding::F16) };
        assert_eq!(run(&mut edge, empty), Err(ExecError::Empty(Position(3))));
    }

    #[test]
    fn an_interrupted_job_can_be_forgotten_and_done_anew() {
        let (interrupt, script) = (Arc::new(Interrupt::default()), Script::default());
        let mut edge = edge().heeding(Arc::clone(&interrupt));
        let all = tokens(1..9);
        run(&mut edge, first(0, &all[..3], None)).unwrap();
        run(&mut edge, second(0, 3)).unwrap();
        interrupt.begin(1);
        interrupt.stop(1);
        let ended = run(&mut edge, first(3, &all[3..], None)).map_err(JobError::from);
        assert_eq!(ended, Err(JobError::Interrupted));
        edge.truncate(SLOT, 3);
        interrupt.begin(2);
        run(&mut edge, first(3, &all[3..], None)).unwrap();
        assert_eq!(chosen(&run(&mut edge, second(3, 5))), script.guess(Head::Exit2, &all).0);
        assert_eq!(edge.engine().counts().discontinuities, 0);
    }

    #[test]
    fn a_failing_device_fails_the_job() {
        let engine = ScriptedEngine::edge(Script::default(), SIZES).failing_at(0);
        let mut edge = EdgeExecutor::new(engine, SecondStage::Tail);
        let result = run(&mut edge, first(0, &tokens([1]), None));
        assert!(matches!(result, Err(ExecError::Engine(EngineError::Device(_)))));
    }

    /// `job` in another slot.
    fn of(slot: u32, job: Job) -> Job {
        Job { slot: SlotId(slot), ..job }
    }

    #[test]
    fn jobs_of_a_batch_get_what_they_get_alone() {
        let prompts = [tokens(1..4), tokens(20..29), tokens(40..42)];
        let sizes = Sizes { slots: 3, ..SIZES };
        let new = || EdgeExecutor::new(ScriptedEngine::edge(Script::default(), sizes), SecondStage::Tail);
        let firsts = || (0..).zip(&prompts).map(|(slot, prompt)| of(slot, first(0, prompt, Some(Encoding::F32))));
        let seconds = || (0..).zip(&prompts).map(|(slot, prompt)| of(slot, second(0, prompt.len() as u32)));
        let (mut together, mut alone) = (new(), new());
        let batched = [together.run(&batch(firsts())), together.run(&batch(seconds()))].concat();
        let single: Vec<JobResult> = firsts().chain(seconds()).map(|job| run(&mut alone, job)).collect();
        assert_eq!(batched, single);
        assert!(single.iter().all(|result| result.as_ref().is_ok_and(|outcome| outcome.scored.len() == 1)));
        assert_eq!((together.kept_bytes(), together.engine().counts().discontinuities), (0, 0));
        assert!(together.engine().counts().calls < alone.engine().counts().calls);
    }

    #[test]
    fn a_batch_of_both_stages_is_carried_out_in_order() {
        let (mut edge, script) = (edge(), Script::default());
        let prompt = tokens([5, 6]);
        let results = edge.run(&batch([first(0, &prompt, None), second(0, 2)]));
        assert_eq!(chosen(&results[1]), script.guess(Head::Exit2, &prompt).0);
    }

    #[test]
    fn what_is_wrong_with_one_job_is_no_others_loss() {
        let mut edge = edge();
        edge.run(&batch([of(0, first(0, &tokens([1, 2]), None)), of(1, first(0, &tokens([3, 4]), None))]));
        let results = edge.run(&batch([of(0, second(0, 3)), of(1, second(0, 2))]));
        assert_eq!(results[0], Err(ExecError::NotKept { slot: SlotId(0), first: Position(0), end: Position(3) }));
        assert_eq!(chosen(&results[1]), Script::default().guess(Head::Exit2, &tokens([3, 4])).0);
    }

    #[test]
    fn a_call_that_fails_takes_along_those_whose_rows_are_in_it() {
        let engine = ScriptedEngine::edge(Script::default(), SIZES).failing_at(1);
        let mut edge = EdgeExecutor::new(engine, SecondStage::Tail);
        // Calls of four rows: the first job fills one.
        let results = edge.run(&batch([of(0, first(0, &tokens(1..5), None)), of(1, first(0, &tokens([1]), None))]));
        assert!(results[0].is_ok());
        assert!(matches!(results[1], Err(ExecError::Engine(EngineError::Device(_)))));
    }

    #[test]
    fn jobs_of_a_batch_are_scored_in_their_own_scopes() {
        let script = Script::default();
        let shortlist = tokens([3, 9]);
        let engine = ScriptedEngine::edge(script.clone(), SIZES).with_shortlist(Head::Exit1, shortlist.clone());
        let mut edge = EdgeExecutor::new(engine, SecondStage::Tail);
        let brief = Job { scope: Scope::Shortlist, ..of(0, first(0, &tokens([5]), None)) };
        let results = edge.run(&batch([of(1, first(0, &tokens([6]), None)), brief]));
        assert_eq!(chosen(&results[0]), script.guess(Head::Exit1, &tokens([6])).0);
        assert!(shortlist.contains(&chosen(&results[1])));
    }
}
