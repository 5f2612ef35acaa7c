//! Healing within a budget: passes over the text in random order, with a checkpoint to go on from and the best so far kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use collm_train::{Deltas, Healer, Piece, Score};

use crate::TuneError;

/// Positions that a step learns from together, about.
const STEP_POSITIONS: usize = 2048;

/// How many times a run is judged on the text that was held back.
const JUDGEMENTS: f64 = 12.0;

/// Time between checkpoints, in seconds of healing.
const CHECKPOINT_SECONDS: f64 = 60.0;

/// How long to heal, and where to keep what is needed to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct HealPlan {
    /// Time spent in steps, over all runs that go on from one another.
    pub budget: Duration,
    /// Of the order of the text.
    pub seed: u64,
    /// The checkpoint; gone on from if it is there.
    pub checkpoint: PathBuf,
}

/// How far healing is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealProgress {
    /// Time spent in steps.
    pub spent: Duration,
    /// Of how much.
    pub budget: Duration,
    /// Positions learnt from in this run.
    pub positions: usize,
    /// On what is learnt from, averaged over recent steps.
    pub learning: Score,
    /// On the text that was held back, the last time it was looked at.
    pub held_back: Score,
}

/// Heals within the plan's budget. Returns the deltas that did best on the text that was held back, and how well.
///
/// # Errors
/// [`TuneError::Heal`], [`TuneError::Checkpoint`], or what `show` returns, which may stop the run.
pub fn heal<F: From<TuneError>>(
    healer: &mut Healer<'_>,
    [train, held_back]: [&[Piece]; 2],
    plan: &HealPlan,
    mut show: impl FnMut(HealProgress) -> Result<(), F>,
) -> Result<(Deltas, Score), F> {
    if train.is_empty() || held_back.is_empty() {
        return Err(TuneError::TooLittleText("healing").into());
    }
    let goes_on = plan.checkpoint.exists();
    if goes_on {
        healer.resume(&plan.checkpoint).map_err(TuneError::from)?;
    }
    let mut order = Order::new(train, plan.seed);
    order.skip(healer.steps());
    let mut run = Run::start(healer, held_back, plan)?;
    if goes_on {
        run.recall(held_back, plan)?;
    }
    let budget = plan.budget.as_secs_f64();
    while run.healer.seconds() < budget {
        let report = run.healer.step(&order.next(), run.healer.seconds() / budget).map_err(TuneError::from)?;
        run.count(report.score, report.positions);
        run.judge_when_due(held_back, budget)?;
        run.save_when_due(&plan.checkpoint)?;
        show(run.progress(plan.budget))?;
    }
    run.judge(held_back)?;
    run.healer.save(&plan.checkpoint).map_err(TuneError::from)?;
    show(run.progress(plan.budget))?;
    Ok(run.best)
}

/// A run, and the best it had.
struct Run<'a, 'b> {
    healer: &'a mut Healer<'b>,
    positions: usize,
    learning: Score,
    held_back: Score,
    best: (Deltas, Score),
    /// Where the best is kept, for runs that go on from this one.
    best_path: PathBuf,
    judged_at: f64,
    saved_at: f64,
}

impl<'a, 'b> Run<'a, 'b> {
    fn start(healer: &'a mut Healer<'b>, held_back: &[Piece], plan: &HealPlan) -> Result<Self, TuneError> {
        let score = healer.evaluate(held_back)?;
        let (best, now) = ((healer.deltas(), score), healer.seconds());
        Ok(Self {
            healer,
            positions: 0,
            learning: score,
            held_back: score,
            best,
            best_path: plan.checkpoint.with_extension("best"),
            judged_at: now,
            saved_at: now,
        })
    }

    /// The run that this one goes on from may have been better before its end.
    fn recall(&mut self, held_back: &[Piece], plan: &HealPlan) -> Result<(), TuneError> {
        if !self.best_path.exists() {
            return Ok(());
        }
        self.healer.resume(&self.best_path)?;
        let score = self.healer.evaluate(held_back)?;
        if score.agreement > self.best.1.agreement {
            self.best = (self.healer.deltas(), score);
        }
        Ok(self.healer.resume(&plan.checkpoint)?)
    }

    /// Recent steps count most.
    fn count(&mut self, score: Score, positions: usize) {
        const NEW: f64 = 0.05;
        self.positions += positions;
        self.learning.loss += NEW * (score.loss - self.learning.loss);
        self.learning.agreement += NEW * (score.agreement - self.learning.agreement);
    }

    fn judge_when_due(&mut self, held_back: &[Piece], budget: f64) -> Result<(), TuneError> {
        if self.healer.seconds() - self.judged_at < budget / JUDGEMENTS { Ok(()) } else { self.judge(held_back) }
    }

    fn judge(&mut self, held_back: &[Piece]) -> Result<(), TuneError> {
        self.held_back = self.healer.evaluate(held_back)?;
        self.judged_at = self.healer.seconds();
        if self.held_back.agreement >= self.best.1.agreement {
            self.best = (self.healer.deltas(), self.held_back);
            self.healer.save(&self.best_path)?;
        }
        Ok(())
    }

    fn save_when_due(&mut self, path: &Path) -> Result<(), TuneError> {
        if self.healer.seconds() - self.saved_at >= CHECKPOINT_SECONDS {
            self.healer.save(path)?;
            self.saved_at = self.healer.seconds();
        }
        Ok(())
    }

    fn progress(&self, budget: Duration) -> HealProgress {
        HealProgress {
            spent: Duration::from_secs_f64(self.healer.seconds()),
            budget,
            positions: self.positions,
            learning: self.learning,
            held_back: self.held_back,
        }
    }
}

/// Every piece once in random order, then all again in another.
struct Order<'a> {
    pieces: &'a [Piece],
    random: fastrand::Rng,
    shuffled: Vec<usize>,
}

impl<'a> Order<'a> {
    fn new(pieces: &'a [Piece], seed: u64) -> Self {
        Self { pieces, random: fastrand::Rng::with_seed(seed), shuffled: Vec::new() }
    }

    /// Leaves out what earlier runs have learnt from.
    fn skip(&mut self, steps: u64) {
        (0..steps).for_each(|_| drop(self.indices()));
    }

    fn next(&mut self) -> Vec<Piece> {
        self.indices().into_iter().map(|index| self.pieces[index].clone()).collect()
    }

    fn indices(&mut self) -> Vec<usize> {
        let (mut chosen, mut positions) = (Vec::new(), 0);
        while positions < STEP_POSITIONS {
            if self.shuffled.is_empty() {
                self.shuffled = (0..self.pieces.len()).collect();
                self.random.shuffle(&mut self.shuffled);
            }
            let index = self.shuffled.pop().expect("filled when it was empty");
            positions += self.pieces[index].positions();
            chosen.push(index);
        }
        chosen
    }
}
