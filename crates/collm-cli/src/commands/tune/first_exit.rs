//! An exit before the tail: fitted, weighed against what its check costs, and left out where it does not pay.

use std::path::Path;

use collm_model::{
    ExitNumber, ExitsFile,
    exits::{ExitInfo, ExitsDraft},
};
use collm_tune::{
    exits,
    first_exit::{self, FirstExit, Worth},
};

use super::Tuning;
use crate::ui;

impl Tuning<'_> {
    /// Gives the draft an exit 1 if it saves more than it costs, and takes it out if not.
    pub(super) fn add_exit1_if_it_pays(&self, draft: &mut ExitsDraft) -> anyhow::Result<()> {
        let Self { args, subject, cost, .. } = *self;
        draft.forget(ExitNumber::One);
        let mut with = draft.clone();
        with.cut.exit1 = true;
        self.fit_exit1(&mut with)?;
        let exit = self.judge_exit1(&with)?;
        let check = subject.check_share(args);
        let heads = ExitsFile::from_bytes(with.to_bytes()?)?;
        let checks = [ExitNumber::One, ExitNumber::Two].map(|exit| check + subject.head_share(&heads, exit));
        let worth = Worth::of(exit, cost, draft.cut.tail.len(), checks);
        ui::print::line(describe(exit, worth, args.target_agreement))?;
        if worth.pays() {
            self.fit_check(&mut with, ExitNumber::One)?;
            *draft = with;
        }
        Ok(())
    }

    fn fit_exit1(&self, draft: &mut ExitsDraft) -> anyhow::Result<()> {
        let mut step = self.progress.step("fitting a head for exit 1");
        let mut teacher = self.subject.teacher(1)?;
        let show = |done, of| step.count(done, of);
        let map = first_exit::fit(&self.subject.file, &mut teacher, self.corpus, show)?;
        step.done("took");
        Ok(exits::set_map(draft, ExitNumber::One, &map)?)
    }

    fn judge_exit1(&self, draft: &ExitsDraft) -> anyhow::Result<FirstExit> {
        let part = self.edge_part(draft)?;
        let mut step = self.progress.step("judging exit 1");
        let (error_max, show) = (1.0 - self.args.target_agreement, |done, of| step.count(done, of));
        let exit = FirstExit::judge(&part, self.corpus, error_max, self.subject.reading(), show)?;
        step.done("took");
        Ok(exit)
    }
}

/// Takes exit 1 out of the file if no threshold keeps its promise: it would be asked in vain.
pub(super) fn drop_without_threshold(out: &Path) -> anyhow::Result<()> {
    let exits = ExitsFile::open(out)?;
    let is_useless = |exit: &ExitInfo| exit.threshold.is_none();
    if exits.cut().exit1 && exits.exit(ExitNumber::One).is_none_or(is_useless) {
        let mut draft = ExitsDraft::of(&exits);
        draft.forget(ExitNumber::One);
        draft.write(out)?;
        ui::print::line("exit 1 has no threshold and is left out after all.")?;
    }
    Ok(())
}

fn describe(exit: FirstExit, worth: Worth, target: f64) -> String {
    let [agreement, leaves, target, saves, costs] =
        [exit.agreement, exit.leaves, target, worth.saves, worth.costs].map(|share| format!("{:.1} %", 100.0 * share));
    let verdict = if worth.pays() { "it pays" } else { "it does not pay and is left out" };
    format!(
        "exit 1 has the whole model's token at {agreement} of {} positions. {leaves} could leave there with {target} of them right: \
         that saves {saves} of the whole model's decoding, and the check costs {costs}; {verdict}.",
        exit.positions
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_tells_what_it_rests_on() {
        let exit = FirstExit { agreement: 0.2, leaves: 0.05, positions: 900 };
        let left_out = describe(exit, Worth { saves: 0.01, costs: 0.07 }, 0.97);
        assert!(left_out.contains("20.0 % of 900 positions. 5.0 % could leave there with 97.0 %"), "{left_out}");
        assert!(left_out.ends_with("the check costs 7.0 %; it does not pay and is left out."), "{left_out}");
        assert!(describe(exit, Worth { saves: 0.08, costs: 0.07 }, 0.97).ends_with("it pays."));
    }
}
