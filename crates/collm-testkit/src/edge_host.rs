//! An edge and its engine, as a driver would keep them: work in order, one batch at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use collm_core::{
    edge::{Batch, Edge, SecondStage, Stage},
    ids::{SessionId, SlotId},
    time::Time,
};
use collm_engine::{
    Engine, Stack,
    scripted::{Script, ScriptedEngine, Sizes},
};
use collm_exec::{EdgeExecutor, JobResult};

use crate::plan::EdgePlan;

/// What waits for the engine.
#[derive(Debug)]
pub(crate) enum Work {
    Batch(Batch),
    Truncate(SlotId, u32),
    Free(SlotId),
}

#[derive(Debug)]
pub(crate) struct EdgeHost {
    pub(crate) plan: EdgePlan,
    pub(crate) edge: Edge,
    pub(crate) executor: EdgeExecutor<ScriptedEngine>,
    pub(crate) work: VecDeque<Work>,
    pub(crate) is_busy: bool,
    /// The earliest wake-up that is on its way.
    pub(crate) wakes_at: Option<Time>,
    /// Who works in a slot, from its first job until it is freed.
    owners: BTreeMap<SlotId, SessionId>,
}

impl EdgeHost {
    pub(crate) fn new(plan: EdgePlan, script: &Script) -> Self {
        let sizes = Sizes {
            slots: plan.config.slots as usize,
            context: plan.config.context as usize,
            batch_rows_max: plan.batch_rows_max,
        };
        let engine = match plan.config.second {
            SecondStage::Tail => ScriptedEngine::edge(script.clone(), sizes),
            SecondStage::Whole => ScriptedEngine::whole(script.clone(), sizes),
        };
        let engine = plan.failing_calls.iter().fold(engine, |engine, call| engine.failing_at(*call));
        Self {
            edge: Edge::new(plan.config.clone()),
            executor: EdgeExecutor::new(engine, plan.config.second),
            work: VecDeque::new(),
            is_busy: false,
            wakes_at: None,
            owners: BTreeMap::new(),
            plan,
        }
    }

    /// Takes work up to and including the next batch.
    pub(crate) fn start_next(&mut self) -> Option<(Batch, Vec<JobResult>)> {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Truncate(slot, length) => self.executor.truncate(slot, length),
                Work::Free(slot) => self.free(slot),
                Work::Batch(batch) => {
                    self.check_batch(&batch);
                    let results = self.executor.run(&batch);
                    return Some((batch, results));
                }
            }
        }
        None
    }

    /// As if the engine had not begun the first stages of this batch.
    pub(crate) fn undo(&mut self, batch: &Batch) {
        for (_, job) in batch.jobs.iter().filter(|(_, job)| matches!(job.stage, Stage::First { .. })) {
            self.executor.truncate(job.slot, job.first.0);
        }
    }

    /// Of one stage, within its bounds, and every slot in one hand.
    fn check_batch(&mut self, batch: &Batch) {
        let stages: BTreeSet<bool> =
            batch.jobs.iter().map(|(_, job)| matches!(job.stage, Stage::First { .. })).collect();
        assert_eq!(stages.len(), 1, "a batch is of one stage: {batch:?}");
        let rows: u32 = batch.jobs.iter().map(|(_, job)| job.rows()).sum();
        assert!((1..=self.plan.config.batch_rows_max()).contains(&rows), "a batch of {rows} rows");
        for (session, job) in &batch.jobs {
            let owner = *self.owners.entry(job.slot).or_insert(*session);
            assert_eq!(owner, *session, "slot {} is used by two sessions", job.slot);
        }
    }

    fn free(&mut self, slot: SlotId) {
        self.executor.free(slot);
        self.owners.remove(&slot);
    }

    /// Whoever dealt with the slots made no mistake.
    pub(crate) fn check_engine(&self) {
        let discontinuities = self.executor.engine().counts().discontinuities;
        assert_eq!(discontinuities, 0, "rows did not continue their slot at an edge");
    }

    /// Nothing is left of any session.
    pub(crate) fn check_empty(&self) {
        assert_eq!(self.edge.session_count(), 0, "the edge still holds sessions");
        assert_eq!(self.edge.poll_timeout(), None, "an edge without sessions waits for something");
        assert!(self.work.is_empty() && !self.is_busy, "the edge still computes");
        assert_eq!(self.executor.kept_bytes(), 0, "the edge still keeps hidden states");
        for slot in (0..self.plan.config.slots).map(SlotId) {
            for stack in [Stack::Lower, Stack::Tail, Stack::Upper] {
                let filled = self.executor.engine().filled(stack, slot);
                assert_eq!(filled, 0, "slot {slot} of the edge still holds positions in {stack:?}");
            }
        }
    }
}
