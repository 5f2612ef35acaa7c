//! An exit before the tail: fitted, weighed against what its check costs, and left out where it does not pay.

use std::path::Path;

use collm_model::{
    ExitNumber, ExitsFile,
    exits::{ExitInfo, ExitsDraft},
};
use collm_tune::{
    Corpus,
    cost::CostModel,
    exits,
    first_exit::{self, FirstExit, Worth},
};

use super::{Subject, fit};
use crate::{
    args::TuneArgs,
    ui::{self, progress::ProgressMode},
};

/// Gives the draft an exit 1 if it saves more than it costs, and takes it out if not.
pub(super) fn add_if_it_pays(
    args: &TuneArgs,
    subject: &Subject,
    (corpus, cost): (&Corpus, &CostModel),
    draft: &mut ExitsDraft,
    progress: ProgressMode,
) -> anyhow::Result<()> {
    draft.forget(ExitNumber::One);
    let mut with = draft.clone();
    with.cut.exit1 = true;
    fit_head(subject, corpus, &mut with, progress)?;
    let exit = judge(args, subject, corpus, &with, progress)?;
    let check = subject.check_share(args);
    let worth = Worth::of(exit, cost, draft.cut.tail.len(), [check + subject.map_share(), check]);
    ui::print::line(describe(exit, worth, args.target_agreement))?;
    if worth.pays() {
        fit::fit_check(args, subject, corpus, (&mut with, ExitNumber::One), progress)?;
        *draft = with;
    }
    Ok(())
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

fn fit_head(subject: &Subject, corpus: &Corpus, draft: &mut ExitsDraft, progress: ProgressMode) -> anyhow::Result<()> {
    let mut step = progress.step("fitting a head for exit 1");
    let mut teacher = subject.teacher(1)?;
    let map = first_exit::fit(&subject.file, &mut teacher, corpus, |done, of| step.count(done, of))?;
    step.done("took");
    Ok(exits::set_map(draft, ExitNumber::One, &map)?)
}

fn judge(
    args: &TuneArgs,
    subject: &Subject,
    corpus: &Corpus,
    draft: &ExitsDraft,
    progress: ProgressMode,
) -> anyhow::Result<FirstExit> {
    let part = fit::edge_part(draft, subject, &args.work, progress)?;
    let mut step = progress.step("judging exit 1");
    let error_max = 1.0 - args.target_agreement;
    let exit = FirstExit::judge(&part, corpus, error_max, subject.reading(), |done, of| step.count(done, of))?;
    step.done("took");
    Ok(exit)
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
