//! The rows of a batch that its jobs ask about, and the head of their stage.

use collm_core::{
    edge::{SecondStage, Stage},
    grammar::Constraint,
    policy::Scope,
    sampling::Scoring,
};
use collm_engine::{Engine, Head, Shape};

use super::{EdgeExecutor, Working};
use crate::{ExecError, SCORED_ROWS_MAX, check::Check};

/// A row to score, and the job that asks for it.
type Wanted<'a> = (usize, &'a Scoring);

impl<E: Engine> EdgeExecutor<E> {
    /// Scores what the jobs of a stage ask about, rows of several jobs together.
    pub(super) fn score(&mut self, working: &mut [Working<'_>]) {
        let Some(head) = working.first().map(|job| self.head(&job.job.stage)) else { return };
        let Shape { width, batch_rows_max, .. } = *self.engine.shape();
        let call_rows = SCORED_ROWS_MAX.min(batch_rows_max);
        for job in working.iter_mut() {
            job.go_on(|_, job| Ok(self.forms.prepare(&mut self.engine, job.scores.iter())?));
        }
        for scope in [Scope::Shortlist, Scope::Full] {
            let (wanted, states) = self.wanted_in(scope, head, working);
            for (wanted, states) in wanted.chunks(call_rows).zip(states.chunks(call_rows * width)) {
                self.score_call(head, scope, wanted, states, working);
            }
        }
    }

    /// What is to be scored in a scope, and the states of it. Where no shortlist is made, everything is scored.
    fn wanted_in<'a>(&self, scope: Scope, head: Head, working: &mut [Working<'a>]) -> (Vec<Wanted<'a>>, Vec<f32>) {
        let has_shortlist = self.engine.shortlist(head).is_some();
        let mut wanted = Vec::new();
        let mut states = Vec::new();
        for (index, Working { job, states: of_job, result }) in working.iter_mut().enumerate() {
            let job_scope = if has_shortlist { job.scope } else { Scope::Full };
            if result.is_ok() && job_scope == scope {
                wanted.extend(job.scores.iter().map(|scoring| (index, scoring)));
                states.append(of_job);
            }
        }
        (wanted, states)
    }

    /// One call of the engine's head.
    fn score_call(
        &mut self,
        head: Head,
        scope: Scope,
        wanted: &[Wanted<'_>],
        states: &[f32],
        working: &mut [Working<'_>],
    ) {
        if let Err(error) = self.engine.score(head, scope, states, &mut self.scores) {
            wanted.iter().for_each(|(job, _)| working[*job].result = Err(error.clone().into()));
            return;
        }
        let Shape { width, vocabulary, .. } = *self.engine.shape();
        let check = Check { judge: self.judges.of(head), vocabulary };
        for ((job, scoring), row) in wanted.iter().zip(self.scores.rows(width)) {
            let position = scoring.position;
            working[*job].go_on(|outcome, job| {
                let mut next = self.forms.next_token(job.slot, scoring);
                let constraint = next.as_mut().map(|next| next as &mut dyn Constraint);
                let row = check.row(row, scoring, constraint, &mut self.spare);
                outcome.scored.push(row.map_err(|error| ExecError::Logits { position, error })?);
                Ok(())
            });
        }
    }

    fn head(&self, stage: &Stage) -> Head {
        match (stage, self.second) {
            (Stage::First { .. }, _) => Head::Exit1,
            (Stage::Second { .. }, SecondStage::Tail) => Head::Exit2,
            (Stage::Second { .. }, SecondStage::Whole) => Head::Final,
        }
    }
}
