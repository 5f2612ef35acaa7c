//! How the exits of an edge judge their guesses: as its part says, or as arguments do.
//!
//! A calibrated threshold is of the measure that it was calibrated for; with another it promises nothing.

use anyhow::Context as _;
use collm_core::{
    confidence::ConfidenceMeasure,
    policy::{Threshold, Thresholds},
};
use collm_exec::{Judge, Judges, gate::Gate};
use collm_model::{ExitNumber, Holding, ModelFile, exits::ExitInfo};

use crate::{args::values::Auto, failure::usage};

/// How the exits judge: decided.
#[derive(Debug, Clone)]
pub(crate) struct ExitSettings {
    pub(crate) judges: Judges,
    /// For requests that do not say: what was asked for, or calibrated, or the paper's.
    pub(crate) thresholds: Thresholds,
    /// What was calibrated for these judges, if anything was. An exit for which nothing was takes no guess then.
    pub(crate) calibrated: Option<Thresholds>,
}

impl ExitSettings {
    /// Of the exits of `file`.
    pub(crate) fn settle(
        file: &ModelFile,
        measure: Auto<ConfidenceMeasure>,
        threshold: Option<Auto<Threshold>>,
    ) -> anyhow::Result<Self> {
        let (judges, calibrated) = match file.holding() {
            Holding::Edge(part) => {
                let second = FittedExit::of(file, ExitNumber::Two, measure)?;
                // An exit that is off need not know how it would judge.
                let first =
                    if part.exit1 { FittedExit::of(file, ExitNumber::One, measure)? } else { FittedExit::off() };
                let calibrated = calibrated(first.threshold, second.threshold);
                (Judges { exit1: first.judge, exit2: second.judge }, calibrated)
            }
            Holding::Whole | Holding::Cloud(_) => (judges_of_no_exits(file, measure)?, None),
        };
        let thresholds = match (threshold, calibrated) {
            (Some(Auto::Given(threshold)), _) => threshold.into(),
            (_, Some(calibrated)) => calibrated,
            (Some(Auto::Auto), None) => return usage(not_calibrated(file)),
            (None, None) => Threshold::DEFAULT.into(),
        };
        Ok(Self { judges, thresholds, calibrated })
    }
}

/// One exit of an edge part.
struct FittedExit {
    judge: Judge,
    threshold: Option<Threshold>,
}

impl FittedExit {
    fn off() -> Self {
        Self { judge: Judge::default(), threshold: None }
    }

    fn of(file: &ModelFile, exit: ExitNumber, asked: Auto<ConfidenceMeasure>) -> anyhow::Result<Self> {
        let fitted = file.exit(exit);
        let own = fitted.map_or(ConfidenceMeasure::MaxProb, |info| info.measure);
        let measure = match asked {
            Auto::Auto => own,
            Auto::Given(measure) => measure,
        };
        let judge = match measure {
            ConfidenceMeasure::MaxProb => Judge::MaxProb,
            ConfidenceMeasure::Margin => Judge::Margin,
            ConfidenceMeasure::Entropy => Judge::Entropy,
            ConfidenceMeasure::Gate => Judge::Gate(gate(file, exit, fitted)?),
        };
        Ok(Self { judge, threshold: fitted.filter(|_| measure == own).and_then(|info| info.threshold) })
    }
}

fn gate(file: &ModelFile, exit: ExitNumber, fitted: Option<&ExitInfo>) -> anyhow::Result<Gate> {
    let Some(weights) = fitted.and_then(|info| info.gate.clone()) else {
        return usage(format!(
            "{} has no gate for exit {}; fit one with `collm tune` and split with it, or choose max-prob, margin or entropy",
            file.path().display(),
            exit.number()
        ));
    };
    let width = file.hyperparameters().width as usize;
    Gate::new(weights, width).with_context(|| format!("{}: exit {}", file.path().display(), exit.number()))
}

/// `None` if nothing was calibrated at all.
fn calibrated(exit1: Option<Threshold>, exit2: Option<Threshold>) -> Option<Thresholds> {
    let promise = |threshold: Option<Threshold>| threshold.unwrap_or(Threshold::NEVER);
    exit1.or(exit2).map(|_| Thresholds { exit1: promise(exit1), exit2: promise(exit2) })
}

fn judges_of_no_exits(file: &ModelFile, measure: Auto<ConfidenceMeasure>) -> anyhow::Result<Judges> {
    match measure {
        Auto::Auto => Ok(Judges::default()),
        Auto::Given(_) => usage(format!(
            "{} has no exits, and --confidence is about theirs; leave it out, or load an edge part",
            file.path().display()
        )),
    }
}

fn not_calibrated(file: &ModelFile) -> String {
    format!(
        "{} has no calibrated threshold for this measure; run `collm calibrate` and split with its exits, or give a number",
        file.path().display()
    )
}

#[cfg(test)]
mod tests {
    use collm_model::{
        Architecture, Digest,
        exits::{ExitsDraft, ExitsFile, FittedCut},
        split::{SplitOptions, plan},
        synthetic::SyntheticModel,
    };

    use super::*;

    /// An edge part whose exit 2 has a threshold for its margin, and whose exit 1 has nothing.
    fn part() -> ModelFile {
        let folder = tempfile::tempdir().expect("a folder");
        let [source, edge, cloud] = ["source", "edge", "cloud"].map(|name| folder.path().join(name));
        SyntheticModel::new(Architecture::Llama).write(&source).expect("a model");
        let source = ModelFile::open(&source).expect("a model");
        let source_sha256 = Digest::of(source.gguf().bytes());
        let cut = FittedCut { source_sha256, upload_at: 2, tail: vec![5], exit1: true, tail_type: None };
        let mut draft = ExitsDraft::new(cut);
        let second = draft.exit_mut(ExitNumber::Two);
        (second.measure, second.threshold) = (ConfidenceMeasure::Margin, Threshold::new(0.25));
        let exits = ExitsFile::from_bytes(draft.to_bytes().expect("exits")).expect("exits");
        let plan = plan(&source, &SplitOptions::of_exits(&exits), &mut |_| ()).expect("a split");
        plan.write(&edge, &cloud, None, &mut |_| ()).expect("two parts");
        ModelFile::open(&edge).expect("a part")
    }

    #[test]
    fn a_part_says_how_its_exits_judge() {
        let settings = ExitSettings::settle(&part(), Auto::Auto, None).expect("settled");
        assert_eq!(settings.judges, Judges { exit1: Judge::MaxProb, exit2: Judge::Margin });
        let calibrated = Thresholds { exit1: Threshold::NEVER, exit2: Threshold::new(0.25).expect("a number") };
        assert_eq!((settings.thresholds, settings.calibrated), (calibrated, Some(calibrated)));
    }

    #[test]
    fn arguments_say_otherwise() {
        let given = Some(Auto::Given(Threshold::ALWAYS));
        let settings = ExitSettings::settle(&part(), Auto::Auto, given).expect("settled");
        assert_eq!(settings.thresholds, Threshold::ALWAYS.into());
        let entropy = Auto::Given(ConfidenceMeasure::Entropy);
        let settings = ExitSettings::settle(&part(), entropy, None).expect("settled");
        assert_eq!(settings.judges, Judges { exit1: Judge::Entropy, exit2: Judge::Entropy });
        assert_eq!((settings.thresholds, settings.calibrated), (Threshold::DEFAULT.into(), None));
    }

    #[test]
    fn what_was_not_fitted_is_refused_with_a_way_out() {
        let refused = |measure, threshold| ExitSettings::settle(&part(), measure, threshold).unwrap_err().to_string();
        let gate = refused(Auto::Given(ConfidenceMeasure::Gate), None);
        assert!(gate.contains("collm tune"), "{gate}");
        let threshold = refused(Auto::Given(ConfidenceMeasure::Entropy), Some(Auto::Auto));
        assert!(threshold.contains("collm calibrate"), "{threshold}");
    }
}
