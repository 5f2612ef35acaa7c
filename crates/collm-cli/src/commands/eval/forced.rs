//! What the exits would have said at every position of the whole model's answers: rows, figures, charts.

use collm_core::{confidence::ConfidenceMeasure, policy::Threshold};
use collm_stats::{Bootstrap, Guess, RiskCoverage, expected_calibration_error, reliability};
use serde::Serialize;

use super::figure::Figure;
use crate::{
    args::values::Auto,
    chart::{self, Labels, Series, Spacing},
    commands::evidence::{ExitRecord, Observed},
    results::ResultFolder,
};

/// Shares of right guesses at which coverage is told.
pub(super) const AGREEMENTS: [f64; 3] = [0.95, 0.97, 0.99];

/// The one at which measures are compared with the paper's.
pub(super) const COMPARED_AT: f64 = 0.97;

/// Bins of equal mass, for calibration.
const BINS: usize = 15;

/// Points of a chart's line, at most.
const POINTS_MAX: usize = 400;

/// What one exit said along one answer.
#[derive(Debug, Serialize)]
pub(super) struct ForcedRow {
    prompt: usize,
    exit: u32,
    expected: Vec<u32>,
    guesses: Vec<u32>,
    /// Where they are not the same: what the exit says when it must answer, without a shortlist.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole_guesses: Option<Vec<u32>>,
    confidences: Vec<MeasuredConfidences>,
}

/// One measure along one answer.
#[derive(Debug, Serialize)]
struct MeasuredConfidences {
    measure: &'static str,
    values: Vec<f32>,
}

/// One exit.
#[derive(Debug, Serialize)]
pub(super) struct ExitSummary {
    pub(super) exit: u32,
    pub(super) positions: usize,
    /// Share of positions where the exit, when it must answer, says the whole model's token.
    pub(super) agreement: Option<Figure>,
    /// The same of its check, which may be of a shortlist only.
    pub(super) check_agreement: Option<Figure>,
    pub(super) measures: Vec<MeasureSummary>,
}

/// One measure of confidence.
#[derive(Debug, Serialize)]
pub(super) struct MeasureSummary {
    pub(super) measure: &'static str,
    /// What the part uses unless somebody says otherwise.
    pub(super) is_default: bool,
    pub(super) expected_calibration_error: Option<Figure>,
    pub(super) coverage: Vec<CoverageSummary>,
    /// Coverage at 97 % right less that of the paper's measure on the same answers; none for that measure itself.
    pub(super) more_than_max_prob: Option<Figure>,
    pub(super) thresholds: Vec<ThresholdSummary>,
}

/// How much can be emitted if one knew the best threshold for these very answers.
#[derive(Debug, Serialize)]
pub(super) struct CoverageSummary {
    pub(super) agreement: f64,
    pub(super) coverage: Option<Figure>,
}

/// What a threshold chosen beforehand does.
#[derive(Debug, Serialize)]
pub(super) struct ThresholdSummary {
    pub(super) threshold: f32,
    /// It is the part's calibrated one.
    pub(super) calibrated: bool,
    /// What the part promises for it.
    pub(super) promised: Option<f64>,
    pub(super) coverage: Option<Figure>,
    /// Among the emitted.
    pub(super) agreement: Option<Figure>,
}

/// A row a text.
pub(super) fn rows(record: &ExitRecord) -> impl Iterator<Item = ForcedRow> {
    record.texts.iter().enumerate().map(|(prompt, text)| {
        let tokens = |token: fn(&Observed) -> u32| text.iter().map(token).collect::<Vec<_>>();
        let (guesses, whole_guesses) =
            (tokens(|observed| observed.said.guess.0), tokens(|observed| observed.said.whole_guess.0));
        let values = |measure| text.iter().filter_map(|observed| observed.said.confidences.by(measure)).collect();
        let confidences =
            record.measures().map(|measure| MeasuredConfidences { measure: measure.name(), values: values(measure) });
        ForcedRow {
            prompt,
            exit: record.exit.number(),
            expected: tokens(|observed| observed.expected.0),
            whole_guesses: (whole_guesses != guesses).then_some(whole_guesses),
            guesses,
            confidences: confidences.collect(),
        }
    })
}

impl ExitSummary {
    pub(super) fn of(record: &ExitRecord, thresholds: &[Auto<Threshold>]) -> Self {
        let share = |is: fn(&Observed) -> bool| Bootstrap::default().ratio(&record.count(is)).map(Figure::from);
        let measures = record.measures().filter_map(|measure| {
            let guesses = record.guesses(measure)?;
            Some(MeasureSummary::of(record, measure, &guesses, thresholds))
        });
        Self {
            exit: record.exit.number(),
            positions: record.positions(),
            agreement: share(|observed| observed.said.whole_guess == observed.expected),
            check_agreement: share(|observed| observed.said.guess == observed.expected),
            measures: measures.collect(),
        }
    }
}

impl MeasureSummary {
    fn of(
        record: &ExitRecord,
        measure: ConfidenceMeasure,
        guesses: &[Vec<Guess>],
        thresholds: &[Auto<Threshold>],
    ) -> Self {
        let is_default = measure == record.info.measure;
        let risk = RiskCoverage::of(guesses);
        let coverage = |agreement: f64| {
            let at = |times: &[u32]| Some(risk.weighted_coverage_at(1.0 - agreement, times));
            let coverage = Bootstrap::default().interval(guesses.len(), at).map(Figure::from);
            CoverageSummary { agreement, coverage }
        };
        let paper = record.guesses(ConfidenceMeasure::MaxProb).filter(|_| measure != ConfidenceMeasure::MaxProb);
        let paper = paper.map(|guesses| RiskCoverage::of(&guesses));
        let more = |paper: RiskCoverage| {
            let at = |risk: &RiskCoverage, times: &[u32]| risk.weighted_coverage_at(1.0 - COMPARED_AT, times);
            Bootstrap::default().interval(guesses.len(), |times| Some(at(&risk, times) - at(&paper, times)))
        };
        let calibrated = record.info.threshold.filter(|_| is_default);
        let stated = thresholds.iter().filter_map(|threshold| match threshold {
            Auto::Given(threshold) => Some(threshold).filter(|threshold| Some(**threshold) != calibrated),
            Auto::Auto => None,
        });
        let summary = |threshold: &Threshold| ThresholdSummary {
            calibrated: Some(*threshold) == calibrated,
            promised: record.info.promise.target().filter(|_| Some(*threshold) == calibrated),
            ..ThresholdSummary::of(guesses, threshold.value())
        };
        Self {
            measure: measure.name(),
            is_default,
            expected_calibration_error: calibration_error(guesses),
            coverage: AGREEMENTS.map(coverage).into(),
            more_than_max_prob: paper.and_then(more).map(Figure::from),
            thresholds: calibrated.iter().chain(stated).map(summary).collect(),
        }
    }
}

impl ThresholdSummary {
    fn of(guesses: &[Vec<Guess>], threshold: f32) -> Self {
        let emitted = |guess: &&Guess| guess.confidence >= threshold;
        let count = |guesses: &[Guess]| guesses.iter().filter(emitted).count() as f64;
        let right = |guesses: &[Guess]| guesses.iter().filter(emitted).filter(|guess| guess.right).count() as f64;
        let coverage: Vec<(f64, f64)> = guesses.iter().map(|text| (count(text), text.len() as f64)).collect();
        let agreement: Vec<(f64, f64)> = guesses.iter().map(|text| (right(text), count(text))).collect();
        let ratio = |counts: &[(f64, f64)]| Bootstrap::default().ratio(counts).map(Figure::from);
        let (coverage, agreement) = (ratio(&coverage), ratio(&agreement));
        Self { threshold, calibrated: false, promised: None, coverage, agreement }
    }
}

fn calibration_error(guesses: &[Vec<Guess>]) -> Option<Figure> {
    let of = |times: &[u32]| {
        let drawn = guesses.iter().zip(times).flat_map(|(text, times)| text.repeat(*times as usize));
        expected_calibration_error(&drawn.collect::<Vec<_>>(), BINS)
    };
    Bootstrap { resamples: 200, ..Bootstrap::default() }.interval(guesses.len(), of).map(Figure::from)
}

/// A line of a chart, of the guesses in each answer.
type Curve = fn(&[Vec<Guess>]) -> Vec<(f64, f64)>;

/// For every exit, how much may be emitted at which error, and how often a confidence is right.
pub(super) fn write_charts(records: &[ExitRecord], folder: &ResultFolder) -> anyhow::Result<()> {
    for record in records {
        let exit = record.exit.number();
        let lines = |points: Curve| -> Vec<Series> {
            let of = |measure: ConfidenceMeasure| Some((measure.name().to_owned(), points(&record.guesses(measure)?)));
            record.measures().filter_map(of).map(|(name, points)| Series { name, points }).collect()
        };
        let labels =
            |what, x, y| Labels { title: format!("exit {exit}: {what}, {} positions", record.positions()), x, y };
        let risk = chart::render(
            &labels("risk and coverage", "share emitted", "share of errors among the emitted"),
            Spacing::Share,
            &lines(risk_points),
        );
        folder.write(&format!("exit{exit}-risk-coverage.svg"), &risk)?;
        let mut lines = lines(reliability_points);
        lines.push(Series { name: "as promised".to_owned(), points: vec![(0.0, 0.0), (1.0, 1.0)] });
        let reliability =
            chart::render(&labels("reliability", "confidence", "share that is right"), Spacing::Share, &lines);
        folder.write(&format!("exit{exit}-reliability.svg"), &reliability)?;
    }
    Ok(())
}

fn risk_points(guesses: &[Vec<Guess>]) -> Vec<(f64, f64)> {
    let curve = RiskCoverage::of(guesses).curve();
    // The surest few say little: one error among ten is ten per cent.
    let steady = curve.iter().filter(|point| point.coverage >= 0.01);
    steady.step_by(curve.len().div_ceil(POINTS_MAX).max(1)).map(|point| (point.coverage, point.error)).collect()
}

fn reliability_points(guesses: &[Vec<Guess>]) -> Vec<(f64, f64)> {
    reliability(&guesses.concat(), BINS).into_iter().map(|bin| (bin.confidence, bin.right)).collect()
}
