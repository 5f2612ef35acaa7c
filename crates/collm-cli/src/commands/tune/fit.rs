//! The exits of one tail: healed deltas, a shortlist and a gate, in a file.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use collm_core::confidence::ConfidenceMeasure;
use collm_ggml::GgmlRequantize;
use collm_model::{
    Digest, ExitNumber, ExitsFile, ModelFile,
    exits::{ExitInfo, ExitsDraft, FittedCut},
    split::{self, SplitOptions},
};
use collm_train::{Deltas, HealConfig, Healer, Piece};
use collm_tune::{
    Corpus, Share, exits,
    frequencies::Frequencies,
    gate,
    heal::{self, HealPlan},
    pieces, shortlist,
    watcher::Reading,
};

use super::{Subject, Tuning, first_exit};
use crate::{
    args::CalibrateArgs,
    commands::calibrate,
    models,
    ui::{self, progress::ProgressMode},
};

/// Held-back tokens that healing is judged by, about: enough to tell two percentage points apart, few enough to look often.
const JUDGED_TOKENS: usize = 2500;

/// Share of the loss that the teacher's first candidate has alone.
const TOP_WEIGHT: f32 = 0.3;

impl Tuning<'_> {
    /// Fits the exits of a tail, or what is not healed of the exits there, and writes them.
    pub(super) fn fit(&self, tail: Vec<u32>, out: &Path) -> anyhow::Result<()> {
        let mut draft = match &self.subject.refitted {
            Some(exits) => ExitsDraft::of(exits),
            None => self.draft(tail)?,
        };
        self.add_exit1_if_it_pays(&mut draft)?;
        self.fit_check(&mut draft, ExitNumber::Two)?;
        draft.write(out)?;
        ui::print::line(format_args!("\nwrote {}, whose thresholds are:", out.display()))?;
        let threshold = CalibrateArgs::after_tuning(self.args, out);
        calibrate::run(&threshold, self.progress).with_context(|| format!("{} has no threshold", out.display()))?;
        first_exit::drop_without_threshold(out)
    }

    /// Fits what an exit of the draft decides by: its shortlist, then its gate.
    pub(super) fn fit_check(&self, draft: &mut ExitsDraft, exit: ExitNumber) -> anyhow::Result<()> {
        self.fit_shortlist(draft, exit)?;
        let part = self.edge_part(draft)?;
        let mut step = self.progress.step(format!("fitting the gate of exit {}", exit.number()));
        let show = |now: Reading| step.count(now.read, now.texts);
        let gate = gate::fit(&part, self.corpus, (exit, self.args.seed), self.subject.reading(), show)?;
        step.done(&format!(
            "(shortlists have {:.2} % of the exit's tokens in text that nothing was fitted to) took",
            100.0 * gate.listed
        ));
        let info = draft.exit_mut(exit);
        // A threshold that was there was found with another gate, and promises nothing with this one.
        let bare = ExitInfo { shortlist: info.shortlist, ..ExitInfo::default() };
        *info = match gate.weights {
            Some(weights) => ExitInfo { gate: Some(weights), measure: ConfidenceMeasure::Gate, ..bare },
            None => bare,
        };
        Ok(())
    }

    /// Has an exit of the draft make shortlists.
    fn fit_shortlist(&self, draft: &mut ExitsDraft, exit: ExitNumber) -> anyhow::Result<()> {
        let part = self.edge_part(draft)?;
        let h = part.hyperparameters();
        let (width, length) = (h.width as usize, self.args.shortlist.min(h.vocabulary));
        let mut step = self.progress.step(format!("fitting the shortlist of exit {}", exit.number()));
        let (rank, show) = (self.args.shortlist_rank as usize, |done, of| step.count(done, of));
        let factors = shortlist::fit(&part, self.corpus, (exit, rank), self.subject.reading(), show)?;
        step.done("took");
        Ok(exits::set_shortlist(draft, exit, length, width, &factors)?)
    }

    fn draft(&self, tail: Vec<u32>) -> anyhow::Result<ExitsDraft> {
        let deltas = if self.args.heal { Some(self.heal(&tail)?) } else { None };
        let cut = FittedCut {
            source_sha256: self.subject.digest,
            upload_at: self.subject.upload_at,
            tail,
            exit1: false,
            tail_type: self.subject.tail_type,
        };
        Ok(exits::draft(cut, deltas.as_ref())?)
    }

    fn heal(&self, tail: &[u32]) -> anyhow::Result<Deltas> {
        let Self { args, subject, corpus, progress, .. } = *self;
        let pieces = Pieces::of(subject, corpus, progress)?;
        let vocabulary = subject.file.hyperparameters().vocabulary as usize;
        let config = HealConfig {
            rank: args.rank as usize,
            classes: Some(Frequencies::of(corpus, vocabulary).most_frequent(args.classes as usize)),
            quantize: subject.tail_type,
            learning_rate: args.learning_rate,
            top_weight: TOP_WEIGHT,
            seed: args.seed,
            threads: subject.threads.count,
            ..HealConfig::new(tail.to_vec())
        };
        let plan = HealPlan {
            budget: args.budget,
            seed: args.seed,
            checkpoint: args.work.join(checkpoint_name(subject.upload_at, &config)),
        };
        let mut healer = Healer::new(&subject.file, &GgmlRequantize, config)?;
        let mut step = progress.step("healing the tail");
        let (deltas, score) = heal::heal(&mut healer, [&pieces.train, &pieces.judged], &plan, |now| {
            step.now(&format!(
                "{} positions, loss {:.3}, held-back text: loss {:.3}, {:.1} % agree; {} left",
                now.positions,
                now.learning.loss,
                now.held_back.loss,
                100.0 * now.held_back.agreement,
                ui::time(now.budget.saturating_sub(now.spent))
            ));
            anyhow::Ok(())
        })?;
        step.done(&format!("({:.1} % of held-back tokens agree) took", 100.0 * score.agreement));
        Ok(deltas)
    }

    /// The edge part that these exits make, to see what its exit says: mapped, so that the file can go at once.
    pub(super) fn edge_part(&self, draft: &ExitsDraft) -> anyhow::Result<Arc<ModelFile>> {
        let exits = ExitsFile::from_bytes(draft.to_bytes()?)?;
        let mut step = self.progress.step("making the edge part");
        let plan = split::plan(&self.subject.file, &SplitOptions::of_exits(&exits), &mut |done| step.show(done))?;
        let folder = tempfile::tempdir_in(&self.args.work).context("no room in the work folder")?;
        let [edge, cloud] = ["edge.gguf", "cloud.gguf"].map(|name| folder.path().join(name));
        plan.write(&edge, &cloud, Some(&GgmlRequantize), &mut |done| step.show(done))?;
        step.done("took");
        Ok(Arc::new(models::open(&edge)?))
    }
}

/// The text as healing takes it.
struct Pieces {
    train: Vec<Piece>,
    judged: Vec<Piece>,
}

impl Pieces {
    fn of(subject: &Subject, corpus: &Corpus, progress: ProgressMode) -> anyhow::Result<Self> {
        let mut teacher = subject.teacher(1)?;
        let mut step = progress.step("computing states");
        let texts: Vec<_> = corpus.share(Share::Train).collect();
        let mut judged_tokens = 0;
        let judged = corpus.share(Share::HeldBack).take_while(|text| {
            judged_tokens += text.answer().len();
            judged_tokens <= JUDGED_TOKENS
        });
        let judged = judged.map(|text| pieces::piece(&mut teacher, text)).collect::<Result<_, _>>()?;
        let mut train = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            step.count(index, texts.len());
            train.push(pieces::piece(&mut teacher, text)?);
        }
        step.done("took");
        Ok(Self { train, judged })
    }
}

/// Healing's state, in the work folder, whose text is of one model. Another tail, cut or setting is another run.
fn checkpoint_name(upload_at: u32, config: &HealConfig) -> String {
    // Threads do not change what is learnt.
    let run = format!("{upload_at} {:?}", HealConfig { threads: 0, ..config.clone() });
    format!("heal-{}.checkpoint", &Digest::of(run.as_bytes()).to_string()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_tail_or_cut_is_another_run() {
        let config = HealConfig::new(vec![4, 5, 7]);
        let name = checkpoint_name(4, &config);
        assert_eq!(name, checkpoint_name(4, &HealConfig { threads: 7, ..config.clone() }));
        for other in [
            checkpoint_name(3, &config),
            checkpoint_name(4, &HealConfig::new(vec![4, 6, 7])),
            checkpoint_name(4, &HealConfig { learning_rate: 0.5, ..config.clone() }),
            checkpoint_name(4, &HealConfig { classes: Some(vec![1]), ..config }),
        ] {
            assert_ne!(name, other);
        }
    }
}
