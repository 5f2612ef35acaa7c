//! An answer on the terminal: text in the colour of who decided it, then a legend that says how much each decided.

use anstyle::Style;
use collm_core::edge::Source;

use super::colour::{self, FAINT, Painted, WARNING};
use crate::{client::Shown, report::Report};

/// Prints text as it comes. What is not the answer goes to stderr.
pub(crate) fn show(shown: Shown<'_>) -> anyhow::Result<()> {
    match shown {
        Shown::Text { text, source, degraded } => {
            let style = source_named(source).map_or(Style::new(), |source| colour::of_token(source, degraded));
            super::print::piece(Painted(style, text))?;
        }
        Shown::Degraded(reason) => {
            anstream::eprintln!("\n{} {reason}; the answer goes on at the edge", Painted(WARNING, "degraded:"));
        }
    }
    Ok(())
}

/// Who decided how much, and what it took: the last line of an answer.
pub(crate) fn legend(report: &Report) -> String {
    let counted = by_source(report).into_iter();
    let entries: Vec<String> = counted.map(|(source, count)| entry(source, count, report.tokens.len())).collect();
    format!("{}  {}", entries.join("  "), Painted(FAINT, summary(report)))
}

/// Who decided how many tokens; those who decided any.
pub(super) fn by_source(report: &Report) -> Vec<(Source, usize)> {
    let sources = [Source::Exit1, Source::Exit2, Source::Cloud, Source::Whole];
    let count = |source: Source| report.tokens.iter().filter(|token| token.source == source.name()).count();
    sources.into_iter().map(|source| (source, count(source))).filter(|(_, count)| *count > 0).collect()
}

fn entry(source: Source, count: usize, all: usize) -> String {
    let style = colour::of_token(source, false);
    format!("{} {} {}", Painted(style, "■"), colour::source_name(source), super::share(count, all))
}

fn summary(report: &Report) -> String {
    let stats = &report.stats;
    let mut summary = format!("{} tokens in {}", stats.answer_tokens, super::milliseconds(stats.total_ms));
    if let Some(per_token) = stats.time_per_token_ms {
        summary.push_str(&format!(", {} a token", super::milliseconds(per_token)));
    }
    if stats.degraded_tokens > 0 {
        summary.push_str(&format!(", {} underlined: the cloud should have decided them", stats.degraded_tokens));
    }
    if report.finish_reason == "length" {
        summary.push_str(", cut by --max-tokens");
    }
    if report.finish_reason == "context" {
        summary.push_str(", cut because the context is full");
    }
    summary
}

fn source_named(name: &str) -> Option<Source> {
    [Source::Exit1, Source::Exit2, Source::Cloud, Source::Whole].into_iter().find(|source| source.name() == name)
}
