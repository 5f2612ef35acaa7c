//! The exits of one tail: what was learnt, a shortlist and a gate, in a file.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use collm_core::confidence::ConfidenceMeasure;
use collm_ggml::GgmlRequantize;
use collm_model::{
    ExitNumber, ExitsFile, ModelFile,
    exits::{ExitInfo, ExitsDraft, FittedCut},
    split::{self, SplitOptions},
};
use collm_tune::{exits, gate, shortlist, watcher::Reading};

use super::{Tuning, first_exit};
use crate::{args::CalibrateArgs, commands::calibrate, models, ui};

impl Tuning<'_> {
    /// Fits the exits of a tail, or what is not learnt of the exits there, and writes them.
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
        let deltas = self.learn(&tail)?;
        let cut = FittedCut {
            source_sha256: self.subject.digest,
            upload_at: self.subject.upload_at,
            tail,
            exit1: false,
            tail_type: self.subject.tail_type,
        };
        Ok(exits::draft(cut, deltas.as_ref())?)
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
