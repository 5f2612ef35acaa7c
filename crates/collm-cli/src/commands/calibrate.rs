//! `collm calibrate`: from what threshold on the guesses of each exit are right as often as promised.
//!
//! Exit 2 is asked only where exit 1 did not answer, which is where guessing is harder; so its threshold is looked for at those
//! positions alone. Unless a measure of confidence is named, each exit gets the one by which it emits most; every measure that is tried
//! is held to a surer promise for that, so that the one which is taken keeps the promise that was asked for.

use anyhow::{Context as _, bail, ensure};
use collm_core::{confidence::ConfidenceMeasure, policy::Threshold};
use collm_ggml::LoadOptions;
use collm_model::{
    ExitNumber, ExitsFile,
    exits::{ExitsDraft, Promise},
};
use collm_stats::{Guess, Selection, Target, Unreachable, select_threshold};
use collm_tune::{Corpus, Share};
use serde::Serialize;

use super::evidence::{self, ExitRecord, KnownAnswers, Subject, Text, WholeAnswers};
use crate::{
    args::{CalibrateArgs, ExitsChoice, SplitShapeArgs},
    failure::Usage,
    prompts,
    ui::{self, progress::ProgressMode, table},
};

/// What was found for one exit by one measure.
#[derive(Debug, Serialize)]
struct Finding {
    exit: u32,
    measure: &'static str,
    /// Whether it is the one that counts for the exit: it keeps the promise and emits most, or comes closest.
    chosen: bool,
    /// Whether the promise can be kept. If not, the figures are those of the best threshold that was tried.
    kept: bool,
    threshold: Option<f32>,
    /// Share of right guesses among the emitted that was shown.
    bound: Option<f64>,
    positions: u64,
    emitted: u64,
    errors: u64,
    #[serde(skip)]
    of: (ExitNumber, ConfidenceMeasure),
}

pub(super) fn run(args: &CalibrateArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let target = Target::new(args.target_agreement, args.sure).map_err(|error| Usage(error.to_string()))?;
    let exits = ExitsFile::open(&args.exits)?;
    let shape = SplitShapeArgs { exits: Some(ExitsChoice::File(args.exits.clone())), ..SplitShapeArgs::default() };
    let subject = Subject::prepare(&args.model, &shape, progress)?;
    let options = subject.options(&args.engine)?;
    let texts = texts(args, &subject, &options, progress)?;
    let records = evidence::observe(&subject.edge, &options, &texts, progress)?;
    let findings = find(&records, args.confidence, target)?;
    if args.json {
        ui::print::line(serde_json::to_string_pretty(&findings)?)?;
    } else {
        ui::print::line(render(&findings))?;
    }
    if !findings.iter().any(|finding| finding.kept) {
        bail!(
            "no threshold of any exit keeps {:.1} % of what it emits right on {} texts; lower --target-agreement, fit better \
             exits, or give more text",
            100.0 * args.target_agreement,
            texts.len()
        );
    }
    write(args, &exits, &findings, target)?;
    Ok(())
}

/// Texts that nothing was fitted to.
fn texts(
    args: &CalibrateArgs,
    subject: &Subject,
    options: &LoadOptions,
    progress: ProgressMode,
) -> anyhow::Result<Vec<Text>> {
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    if let Some(work) = &args.work {
        let corpus = Corpus::read(work, &subject.digest).context("cannot use the text of `collm tune`")?;
        let fitting = corpus.fitting(Share::Calibration, options.context);
        let texts: Vec<Text> = fitting.take(limit).map(of_sequence).collect();
        ensure!(!texts.is_empty(), "{} has no text for calibration yet; let `collm tune` write more", work.display());
        return Ok(texts);
    }
    let path = args.prompts.as_deref().context("neither a work folder nor prompts")?;
    let prompts = prompts::read(path, None, limit)?;
    let known = KnownAnswers::default();
    Ok(WholeAnswers::make(subject, options, prompts, args.max_tokens, &known, progress)?.texts())
}

fn of_sequence(sequence: &collm_tune::Sequence) -> Text {
    let answer = sequence.answer().to_vec();
    Text {
        prompt: sequence.tokens[..sequence.answer_start].to_vec(),
        expected: (0..answer.len()).map(|index| sequence.expected(index)).collect(),
        answer,
    }
}

/// Exit by exit, each at the positions that those before it leave; the one that is chosen for an exit comes first.
fn find(records: &[ExitRecord], measure: Option<ConfidenceMeasure>, target: Target) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut left: Vec<Vec<bool>> = records
        .first()
        .map(|record| record.texts.iter().map(|text| vec![true; text.len()]).collect())
        .unwrap_or_default();
    for record in records {
        let measures: Vec<ConfidenceMeasure> = match measure {
            Some(measure) => vec![measure],
            None => record.measures().collect(),
        };
        let target = target.best_of(measures.len());
        let mut tried = Vec::new();
        for measure in measures {
            let guesses = record.guesses(measure);
            let guesses = guesses.with_context(|| format!("exit {} has no {measure}", record.exit.number()))?;
            let found = select_threshold(&asked(&guesses, &left), target);
            tried.push((Finding::new((record.exit, measure), found), guesses));
        }
        // Those that keep the promise first, then those that emit more; of equals the one that the file names.
        tried.sort_by_key(|(finding, _)| {
            std::cmp::Reverse((finding.kept, finding.emitted, finding.of.1 == record.info.measure))
        });
        if let Some((best, guesses)) = tried.first_mut() {
            best.chosen = true;
            if let Some(threshold) = best.threshold.filter(|_| best.kept) {
                leave(&mut left, guesses, threshold);
            }
        }
        findings.extend(tried.into_iter().map(|(finding, _)| finding));
    }
    Ok(findings)
}

/// The guesses at the positions that are left.
fn asked(guesses: &[Vec<Guess>], left: &[Vec<bool>]) -> Vec<Vec<Guess>> {
    let of_text = |(guesses, left): (&Vec<Guess>, &Vec<bool>)| {
        guesses.iter().zip(left).filter(|(_, left)| **left).map(|(guess, _)| *guess).collect()
    };
    guesses.iter().zip(left).map(of_text).collect()
}

/// What is emitted is not left to the next exit.
fn leave(left: &mut [Vec<bool>], guesses: &[Vec<Guess>], threshold: f32) {
    for (left, guess) in left.iter_mut().flatten().zip(guesses.iter().flatten()) {
        *left &= guess.confidence < threshold;
    }
}

impl Finding {
    fn new(of: (ExitNumber, ConfidenceMeasure), found: Result<Selection, Unreachable>) -> Self {
        let (kept, seen, positions) = match found {
            Ok(selection) => (true, Some(selection), selection.guesses),
            Err(refusal) => (false, refusal.best, refusal.guesses),
        };
        Self {
            exit: of.0.number(),
            measure: of.1.name(),
            chosen: false,
            kept,
            threshold: seen.map(|seen| seen.threshold),
            bound: seen.map(|seen| 1.0 - seen.bound),
            positions,
            emitted: seen.map_or(0, |seen| seen.emitted),
            errors: seen.map_or(0, |seen| seen.errors),
            of,
        }
    }

    fn coverage(&self) -> f64 {
        self.emitted as f64 / self.positions.max(1) as f64
    }

    fn promise(&self, target: Target) -> Promise {
        let numbers = [
            ("target", 1.0 - target.error_max()),
            ("confidence", target.confidence()),
            ("bound", self.bound.unwrap_or(0.0)),
            ("positions", self.positions as f64),
            ("emitted", self.emitted as f64),
            ("errors", self.errors as f64),
            ("coverage", self.coverage()),
        ];
        Promise(numbers.into_iter().map(|(name, number)| (name.to_owned(), number)).collect())
    }
}

/// Puts the thresholds that keep the promise into the file; those of exits that cannot keep it are taken out.
fn write(args: &CalibrateArgs, exits: &ExitsFile, findings: &[Finding], target: Target) -> anyhow::Result<()> {
    let mut draft = ExitsDraft::of(exits);
    for finding in findings.iter().filter(|finding| finding.chosen) {
        let (exit, measure) = finding.of;
        let info = draft.exit_mut(exit);
        let threshold = finding.threshold.filter(|_| finding.kept).and_then(Threshold::new);
        info.threshold = threshold;
        info.promise = if finding.kept { finding.promise(target) } else { Promise::default() };
        if finding.kept {
            info.measure = measure;
        }
    }
    Ok(draft.write(&args.exits)?)
}

fn render(findings: &[Finding]) -> String {
    let header = ["exit", "confidence", "threshold", "emitted", "right among them", "at least", ""];
    let row = |finding: &Finding| {
        let right = 1.0 - finding.errors as f64 / finding.emitted.max(1) as f64;
        let dash = || "–".to_owned();
        vec![
            finding.exit.to_string(),
            finding.measure.to_owned(),
            finding.threshold.map_or_else(dash, |threshold| format!("{threshold:.4}")),
            format!("{:.1} % of {}", 100.0 * finding.coverage(), finding.positions),
            if finding.emitted > 0 { format!("{:.1} %", 100.0 * right) } else { dash() },
            finding.bound.map_or_else(dash, |bound| format!("{:.1} %", 100.0 * bound)),
            match (finding.kept, finding.chosen) {
                (true, true) => "kept",
                (true, false) => "kept, but another is taken",
                (false, _) => "out of reach; the best that was tried",
            }
            .to_owned(),
        ]
    };
    table::numbers(&header, findings.iter().map(row))
}

#[cfg(test)]
mod tests {
    use collm_engine::{Head, Position, TokenId};
    use collm_model::exits::ExitInfo;
    use collm_tune::{observe::ExitObserver, reader::View};

    use super::*;
    use crate::commands::evidence::Observed;

    fn text(confidences: &[f32]) -> Vec<Guess> {
        confidences.iter().map(|&confidence| Guess { confidence, right: true }).collect()
    }

    #[test]
    fn the_next_exit_is_asked_only_where_this_one_did_not_answer() {
        let first = [text(&[0.9, 0.2, 0.8]), text(&[0.1])];
        let second = [text(&[0.3, 0.4, 0.5]), text(&[0.6])];
        let mut left = vec![vec![true; 3], vec![true; 1]];
        leave(&mut left, &first, 0.8);
        assert_eq!(asked(&second, &left), [text(&[0.4]), text(&[0.6])]);
    }

    /// What an exit says that finds three tokens so likely.
    fn seen(probabilities: [f32; 3], right: bool) -> Observed {
        let observer = ExitObserver::new(ExitNumber::Two, ExitInfo::default(), 1).expect("no gate");
        let logits = probabilities.map(f32::ln);
        let view = View { head: Head::Exit2, position: Position(0), logits: &logits, shortlist: None, state: &[] };
        Observed { expected: TokenId(u32::from(!right)), said: observer.observe(&view).expect("finite logits") }
    }

    #[test]
    fn an_exit_gets_the_measure_by_which_it_emits_most() {
        // Wrong where two tokens are likely, although the first of them is likelier than where it is right.
        let text: Vec<Observed> = (0..20)
            .map(|at| if at < 2 { seen([0.55, 0.44, 0.01], false) } else { seen([0.5, 0.25, 0.25], true) })
            .collect();
        let record = ExitRecord { exit: ExitNumber::Two, info: ExitInfo::default(), texts: vec![text; 40] };
        let findings = find(&[record], None, Target::new(0.97, 0.95).expect("a target")).expect("measures");
        let told: Vec<_> = findings.iter().map(|found| (found.of.1, found.chosen, found.kept)).collect();
        assert_eq!(told[0], (ConfidenceMeasure::Margin, true, true));
        assert_eq!(findings[0].emitted, 40 * 18);
        assert!(told[1..].iter().all(|(_, chosen, kept)| !chosen && !kept), "{told:?}");
    }

    #[test]
    fn a_promise_says_what_was_shown() {
        let target = Target::new(0.97, 0.95).expect("a target");
        let kept = Selection { threshold: 0.5, bound: 0.02, guesses: 200, emitted: 100, errors: 1 };
        let finding = Finding::new((ExitNumber::Two, ConfidenceMeasure::Margin), Ok(kept));
        let promise = finding.promise(target);
        assert_eq!((promise.bound(), promise.coverage(), promise.positions()), (Some(0.98), Some(0.5), Some(200.0)));
        let refused = Unreachable { guesses: 200, best: Some(kept) };
        let finding = Finding::new((ExitNumber::Two, ConfidenceMeasure::Margin), Err(refused));
        assert!(!finding.kept && render(&[finding]).contains("out of reach"));
    }
}
