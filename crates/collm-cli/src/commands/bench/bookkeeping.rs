//! `collm bench core`: what the pure cores take for a token.

use collm_bench::bookkeeping::{BookkeepingRow, bookkeeping};
use collm_stats::median;
use serde::Serialize;

use crate::{
    args::BenchCoreArgs,
    experiment::Experiment,
    ui::{
        self,
        colour::{GOOD, Painted, WARNING},
        progress::ProgressMode,
        table,
    },
};

/// What both cores together should take for a token at most.
const EXPECTED_US: f64 = 50.0;

/// What decides which answers there are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Settings {
    experiment: &'static str,
    answers: u32,
    max_tokens: u32,
}

/// All answers of one way; medians over answers.
#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    way: String,
    answers: usize,
    asks_per_token: f64,
    rollbacks_per_token: f64,
    edge_us_per_token: f64,
    cloud_us_per_token: f64,
}

pub(super) fn run(args: &BenchCoreArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let settings = Settings { experiment: "core", answers: args.answers, max_tokens: args.max_tokens };
    let mut experiment: Experiment<Vec<BookkeepingRow>> = Experiment::open(args.out.as_deref(), &settings)?;
    let mut step = progress.step("measuring");
    for round in experiment.rows().len()..args.answers as usize {
        step.count(round, args.answers as usize);
        experiment.add(bookkeeping(args.max_tokens)?)?;
    }
    step.done("took");
    let summary = summarize(&experiment.rows().concat());
    if let Some(folder) = experiment.folder() {
        folder.write_summary(&summary)?;
    }
    if args.json {
        ui::print::line(serde_json::to_string_pretty(&summary)?)?;
    } else {
        ui::print::line(render(&summary))?;
    }
    Ok(())
}

/// Ways in the order of their first rows.
fn summarize(rows: &[BookkeepingRow]) -> Vec<Summary> {
    let mut ways: Vec<&str> = Vec::new();
    for row in rows {
        if !ways.contains(&row.way.as_str()) {
            ways.push(&row.way);
        }
    }
    ways.into_iter().filter_map(|way| of_way(way, rows)).collect()
}

fn of_way(way: &str, rows: &[BookkeepingRow]) -> Option<Summary> {
    let own: Vec<&BookkeepingRow> = rows.iter().filter(|row| row.way == way).collect();
    let per_token =
        |value: fn(&BookkeepingRow) -> f64| median(own.iter().map(|row| value(row) / f64::from(row.tokens)));
    Some(Summary {
        way: way.to_owned(),
        answers: own.len(),
        asks_per_token: per_token(|row| row.asks.into())?,
        rollbacks_per_token: per_token(|row| row.rollbacks.into())?,
        edge_us_per_token: per_token(|row| row.edge_us)?,
        cloud_us_per_token: per_token(|row| row.cloud_us)?,
    })
}

fn render(summary: &[Summary]) -> String {
    let header =
        ["way", "answers", "asks/token", "rollbacks/token", "edge µs/token", "cloud µs/token", "both", "expected"];
    table::numbers(&header, summary.iter().map(cells))
}

fn cells(summary: &Summary) -> Vec<String> {
    let both = summary.edge_us_per_token + summary.cloud_us_per_token;
    let style = if both < EXPECTED_US { GOOD } else { WARNING };
    vec![
        summary.way.clone(),
        summary.answers.to_string(),
        format!("{:.2}", summary.asks_per_token),
        format!("{:.2}", summary.rollbacks_per_token),
        format!("{:.1}", summary.edge_us_per_token),
        format!("{:.1}", summary.cloud_us_per_token),
        Painted(style, format!("{both:.1}")).to_string(),
        format!("< {EXPECTED_US:.0}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_of_medians_a_token() {
        let row = |way: &str, tokens, edge_us| BookkeepingRow {
            way: way.to_owned(),
            tokens,
            asks: tokens / 2,
            rollbacks: 0,
            edge_us,
            cloud_us: 10.0,
        };
        let rows = [row("b", 10, 100.0), row("a", 10, 20.0), row("b", 10, 300.0), row("b", 10, 110.0)];
        let summary = summarize(&rows);
        assert_eq!(summary.iter().map(|it| it.way.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        let b = &summary[0];
        assert_eq!((b.answers, b.asks_per_token, b.edge_us_per_token, b.cloud_us_per_token), (3, 0.5, 11.0, 1.0));
    }
}
