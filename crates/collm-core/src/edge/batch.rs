//! What the engine computes next: the jobs of all sessions that are ready, in one batch of one stage.
//!
//! One batch runs at a time, so whatever becomes ready meanwhile comes together in the next. The job that has waited longest decides
//! the stage: nobody starves, and sessions that fell out of step are in step again after one stage.

use std::{collections::VecDeque, mem::discriminant, time::Duration};

use super::{Batch, BatchOutcome, Job, JobError, JobOutcome};
use crate::{ids::SessionId, time::Time};

/// Jobs on their way to the engine and in it; at most one a session that anyone wants the outcome of.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// Longest waiting first.
    waiting: VecDeque<(SessionId, Job)>,
    running: Option<Running>,
}

/// What the engine works on.
#[derive(Debug)]
struct Running {
    /// In the order of the batch.
    jobs: Vec<RunningJob>,
    /// When the last job was withdrawn.
    withdrawn: Option<Time>,
    /// Whether the engine was told that nobody wants any of it.
    interrupted: bool,
}

#[derive(Debug)]
struct RunningJob {
    session: SessionId,
    rows: u32,
    /// Its session has not withdrawn it.
    wanted: bool,
}

/// What came of a session's job.
#[derive(Debug)]
pub(super) struct JobDone {
    pub(super) session: SessionId,
    pub(super) outcome: Result<JobOutcome, JobError>,
    /// The session waits for it. The outcome of a job that it withdrew matters only where it failed: then its slot holds garbage.
    pub(super) wanted: bool,
    pub(super) took: Took,
}

/// Engine time of a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// From its begin to its end: that of the whole batch.
    pub(super) batch: Duration,
    /// Its share, by rows.
    pub(super) share: Duration,
}

impl Jobs {
    /// Queues a job.
    pub(super) fn push(&mut self, session: SessionId, job: Job) {
        self.waiting.push_back((session, job));
    }

    /// Takes back what a session wants no more. Returns whether the engine works on it.
    pub(super) fn withdraw(&mut self, session: SessionId, now: Time) -> bool {
        self.waiting.retain(|(waiting, _)| *waiting != session);
        let Some(running) = &mut self.running else { return false };
        let Some(job) = running.jobs.iter_mut().find(|job| job.session == session) else { return false };
        if std::mem::replace(&mut job.wanted, false) {
            running.withdrawn = Some(now);
        }
        true
    }

    /// Whether to interrupt the engine now, which is said once: it works on what nobody wants.
    pub(super) fn interrupt(&mut self) -> bool {
        let Some(running) = &mut self.running else { return false };
        let useless = running.jobs.iter().all(|job| !job.wanted);
        !std::mem::replace(&mut running.interrupted, useless) && useless
    }

    /// How long ago the engine was interrupted, if it was.
    pub(super) fn interrupted_for(&self, now: Time) -> Option<Duration> {
        let running = self.running.as_ref().filter(|running| running.interrupted)?;
        running.withdrawn.map(|withdrawn| now - withdrawn)
    }

    /// The next batch of at most `rows_max` rows, unless one is running. A job that is larger runs alone.
    pub(super) fn start(&mut self, rows_max: u32) -> Option<Batch> {
        if self.running.is_some() {
            return None;
        }
        let stage = discriminant(&self.waiting.front()?.1.stage);
        let mut room = rows_max;
        let mut jobs = Vec::new();
        for (session, job) in std::mem::take(&mut self.waiting) {
            let fits = jobs.is_empty() || job.rows() <= room;
            if fits && discriminant(&job.stage) == stage {
                room = room.saturating_sub(job.rows());
                jobs.push((session, job));
            } else {
                self.waiting.push_back((session, job));
            }
        }
        let running =
            |(session, job): &(SessionId, Job)| RunningJob { session: *session, rows: job.rows(), wanted: true };
        let running = jobs.iter().map(running).collect();
        self.running = Some(Running { jobs: running, withdrawn: None, interrupted: false });
        Some(Batch { jobs })
    }

    /// The running batch is done.
    pub(super) fn done(&mut self, outcome: BatchOutcome) -> impl Iterator<Item = JobDone> + use<> {
        let running = self.running.take().map(|running| running.jobs).unwrap_or_default();
        let rows: u32 = running.iter().map(|job| job.rows).sum();
        let batch = outcome.compute;
        running.into_iter().zip(outcome.jobs).map(move |(job, outcome)| JobDone {
            session: job.session,
            outcome,
            wanted: job.wanted,
            took: Took { batch, share: batch * job.rows / rows.max(1) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        edge::Stage,
        ids::{Position, SlotId, TokenId},
        policy::Scope,
    };

    const ROWS_MAX: u32 = 16;
    const NOW: Time = Time(Duration::from_secs(1));

    fn job(stage: Stage) -> Job {
        Job { slot: SlotId(0), stage, first: Position(0), scores: vec![], scope: Scope::Full }
    }

    fn first(rows: usize) -> Job {
        job(Stage::First { tokens: vec![TokenId(1); rows], upload: None })
    }

    fn second(rows: u32) -> Job {
        job(Stage::Second { rows })
    }

    fn jobs(waiting: Vec<Job>) -> Jobs {
        let mut jobs = Jobs::default();
        (1..).zip(waiting).for_each(|(session, job)| jobs.push(SessionId(session), job));
        jobs
    }

    fn sessions(batch: Option<Batch>) -> Vec<u128> {
        batch.map(|batch| batch.jobs.iter().map(|(session, _)| session.0).collect()).unwrap_or_default()
    }

    fn done(jobs: &mut Jobs, count: usize) -> Vec<JobDone> {
        let outcomes = vec![Ok(JobOutcome { states: None, scored: vec![] }); count];
        jobs.done(BatchOutcome { jobs: outcomes, compute: Duration::from_millis(12) }).collect()
    }

    /// The sessions of each batch, until nothing waits.
    fn batches(waiting: Vec<Job>) -> Vec<Vec<u128>> {
        let mut jobs = jobs(waiting);
        let mut batches = Vec::new();
        while let Some(batch) = jobs.start(ROWS_MAX) {
            let count = batch.jobs.len();
            batches.push(sessions(Some(batch)));
            done(&mut jobs, count);
        }
        batches
    }

    #[test]
    fn the_longest_waiting_job_brings_along_those_of_its_stage() {
        assert_eq!(batches(vec![first(1), second(1), first(2), second(3)]), [[1, 3], [2, 4]]);
        assert_eq!(batches(vec![second(1), first(1), second(1)]), [vec![1, 3], vec![2]]);
    }

    #[test]
    fn a_full_batch_leaves_long_jobs_behind_but_never_the_longest_waiting() {
        assert_eq!(batches(vec![first(10), first(10), first(1), first(5)]), [vec![1, 3, 4], vec![2]]);
        assert_eq!(batches(vec![first(20), first(1)]), [[1], [2]], "larger than a batch");
    }

    #[test]
    fn one_batch_at_a_time() {
        let mut jobs = jobs(vec![first(1)]);
        assert_eq!(sessions(jobs.start(ROWS_MAX)), [1]);
        jobs.push(SessionId(2), first(1));
        assert!(jobs.start(ROWS_MAX).is_none());
        done(&mut jobs, 1);
        assert_eq!(sessions(jobs.start(ROWS_MAX)), [2]);
    }

    #[test]
    fn withdrawn_jobs_do_not_run_and_running_ones_are_not_wanted() {
        let mut jobs = jobs(vec![first(1), first(3), first(1)]);
        assert!(!jobs.withdraw(SessionId(3), NOW), "it only waited");
        assert_eq!(sessions(jobs.start(ROWS_MAX)), [1, 2]);
        assert!(jobs.withdraw(SessionId(1), NOW));
        jobs.push(SessionId(1), second(1));
        let wanted: Vec<_> = done(&mut jobs, 2).iter().map(|done| (done.wanted, done.took.share)).collect();
        assert_eq!(wanted, [(false, Duration::from_millis(3)), (true, Duration::from_millis(9))]);
        assert_eq!(sessions(jobs.start(ROWS_MAX)), [1], "what came after is not affected");
    }

    #[test]
    fn the_engine_is_interrupted_once_when_nobody_wants_what_it_works_on() {
        let mut jobs = jobs(vec![first(1), first(1)]);
        assert!(!jobs.interrupt(), "nothing is under way");
        jobs.start(ROWS_MAX);
        jobs.withdraw(SessionId(1), NOW);
        assert!(!jobs.interrupt(), "one of two is wanted");
        jobs.withdraw(SessionId(2), NOW + Duration::from_millis(3));
        assert_eq!(jobs.interrupted_for(NOW), None, "nobody has told the engine");
        assert!(jobs.interrupt() && !jobs.interrupt());
        jobs.push(SessionId(1), second(1));
        assert!(jobs.withdraw(SessionId(2), NOW + Duration::from_millis(4)), "it works on it still");
        assert_eq!(jobs.interrupted_for(NOW + Duration::from_millis(5)), Some(Duration::from_millis(2)));
        done(&mut jobs, 2);
        assert_eq!(sessions(jobs.start(ROWS_MAX)), [1]);
        assert!(!jobs.interrupt(), "the next batch is wanted");
    }
}
