//! The report as tables.

use super::{
    Report,
    figure::{Figure, or_dash},
    forced::{AGREEMENTS, COMPARED_AT, ExitSummary, MeasureSummary, ThresholdSummary},
    perplexity::Perplexity,
    running::RunningSummary,
};
use crate::ui::{
    colour::{FAINT, Painted, STRONG},
    table,
};

pub(super) fn render(report: &Report) -> String {
    let mut parts = Vec::new();
    if !report.teacher_forced.is_empty() {
        let left_out = match report.too_long {
            0 => String::new(),
            count => format!("; {count} prompts left out, they do not fit the context"),
        };
        parts.push(heading(&format!("Along {} answers of the whole model (teacher-forced){left_out}", report.answers)));
        parts.push(report.teacher_forced.iter().map(agreement).collect::<Vec<_>>().join("\n"));
        parts.push(coverage(&report.teacher_forced));
        parts.push(thresholds(&report.teacher_forced));
    }
    if !report.free_running.is_empty() {
        parts.push(heading("Answering themselves (free-running)"));
        parts.push(running(&report.free_running));
    }
    if let Some(found) = &report.perplexity {
        parts.push(heading("Perplexity"));
        parts.push(perplexity(found));
    }
    parts.push(Painted(FAINT, "In brackets: 95 % intervals over answers.").to_string());
    parts.join("\n\n")
}

fn heading(text: &str) -> String {
    Painted(STRONG, text).to_string()
}

fn agreement(exit: &ExitSummary) -> String {
    format!(
        "exit {} says the whole model's token at {} of {} positions, its check at {}",
        exit.exit,
        or_dash(exit.agreement.as_ref(), Figure::percent),
        exit.positions,
        or_dash(exit.check_agreement.as_ref(), Figure::percent),
    )
}

/// Every measure of every exit, with the exit's number.
fn measures(exits: &[ExitSummary]) -> impl Iterator<Item = (u32, &MeasureSummary)> {
    exits.iter().flat_map(|exit| exit.measures.iter().map(|measure| (exit.exit, measure)))
}

fn name(exit: u32, measure: &MeasureSummary) -> String {
    let default = if measure.is_default { " *" } else { "" };
    format!("exit {exit}, {}{default}", measure.measure)
}

fn coverage(exits: &[ExitSummary]) -> String {
    let titles = AGREEMENTS.map(|agreement| format!("emitted at {:.0} % right", 100.0 * agreement));
    let against = format!("more than max-prob at {:.0} %", 100.0 * COMPARED_AT);
    let own = [against.as_str(), "calibration error"];
    let header: Vec<&str> = ["confidence"].into_iter().chain(titles.iter().map(String::as_str)).chain(own).collect();
    let rows = measures(exits).map(|(exit, measure)| {
        let coverage = measure.coverage.iter().map(|entry| or_dash(entry.coverage.as_ref(), Figure::percent));
        let more = or_dash(measure.more_than_max_prob.as_ref(), Figure::points);
        let error = or_dash(measure.expected_calibration_error.as_ref(), Figure::number);
        [name(exit, measure)].into_iter().chain(coverage).chain([more, error]).collect()
    });
    table::numbers(&header, rows)
}

fn thresholds(exits: &[ExitSummary]) -> String {
    let header = ["confidence", "threshold", "emitted", "right among them", "promised"];
    let row = |exit, measure: &MeasureSummary, at: &ThresholdSummary| {
        vec![
            name(exit, measure),
            format!("{:.4}{}", at.threshold, if at.calibrated { " auto" } else { "" }),
            or_dash(at.coverage.as_ref(), Figure::percent),
            or_dash(at.agreement.as_ref(), Figure::percent),
            at.promised.map_or_else(|| "–".to_owned(), |promised| format!("{:.1} %", 100.0 * promised)),
        ]
    };
    let rows =
        measures(exits).flat_map(|(exit, measure)| measure.thresholds.iter().map(move |at| row(exit, measure, at)));
    table::numbers(&header, rows)
}

fn running(summaries: &[RunningSummary]) -> String {
    let header = [
        "mode",
        "tokens",
        "agrees",
        "decided by",
        "ROUGE-L to whole",
        "same as whole",
        "ROUGE-L to reference",
        "same as reference",
    ];
    let row = |summary: &RunningSummary| {
        let threshold = summary.threshold.as_ref().map(|threshold| format!(" at {threshold}")).unwrap_or_default();
        let share = |share: &super::running::SourceShare| {
            format!("{} {}", share.source, or_dash(share.share.as_ref(), Figure::percent))
        };
        vec![
            format!("{}{threshold}", summary.mode),
            summary.tokens.to_string(),
            or_dash(summary.agreement.as_ref(), Figure::percent),
            summary.sources.iter().map(share).collect::<Vec<_>>().join(", "),
            or_dash(summary.to_whole.rouge_l.as_ref(), Figure::number),
            or_dash(summary.to_whole.exact_match.as_ref(), Figure::percent),
            or_dash(summary.to_reference.rouge_l.as_ref(), Figure::number),
            or_dash(summary.to_reference.exact_match.as_ref(), Figure::percent),
        ]
    };
    table::numbers(&header, summaries.iter().map(row))
}

fn perplexity(found: &Perplexity) -> String {
    let row = |name: &str, figure: Option<&Figure>| vec![name.to_owned(), or_dash(figure, Figure::number)];
    let rows = [row("whole model", found.whole.as_ref()), row("edge part alone", found.edge.as_ref())];
    let table = table::numbers(&["", "perplexity"], rows);
    format!("{table}\n\n{} tokens in {} windows", found.tokens, found.windows)
}
