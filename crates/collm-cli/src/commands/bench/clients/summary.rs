//! What levels come to: throughput, the cloud's time a token, and how long people wait.

use collm_stats::quantile;
use serde::Serialize;

use super::{load::Level, recording::WAYS};
use crate::{
    chart::{self, Labels, Series, Spacing},
    ui::table,
};

/// One level, summed up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    way: String,
    clients: u32,
    answers: usize,
    /// Over all clients and all answers, until the last of them was made: a window that ends before would count prompts of many
    /// clients and none of the tokens that they were computed for.
    tokens_per_second: f64,
    /// Engine time in the cloud.
    cloud_ms_per_token: f64,
    /// Share of the time to the last token that the cloud's engine computed.
    cloud_busy: f64,
    /// Half of the answers, and nineteen of twenty, were no slower.
    first_token_ms: [Option<f64>; 2],
    time_per_token_ms: [Option<f64>; 2],
}

pub(super) fn summarize(levels: &[Level]) -> Vec<Summary> {
    let mut summaries: Vec<Summary> = levels.iter().map(summary).collect();
    let place = |way: &str| WAYS.iter().position(|known| *known == way);
    summaries.sort_by_key(|summary| (place(&summary.way), summary.clients));
    summaries
}

fn summary(level: &Level) -> Summary {
    let answers = &level.answers;
    let tokens: usize = answers.iter().map(|answer| answer.token_ms.len()).sum();
    let ends = || answers.iter().flat_map(|answer| answer.token_ms.iter().map(|token| answer.began_ms + token));
    // Answers that were under way when the time was over were computed to their end.
    let last_ms = ends().fold(level.duration_ms, f64::max);
    let cloud_ms_per_token = level.cloud_compute_ms / tokens.max(1) as f64;
    let tokens_per_second = tokens as f64 / (last_ms / 1e3);
    let first = || answers.iter().filter_map(|answer| answer.token_ms.first().copied());
    let each = || answers.iter().filter_map(|answer| time_per_token(&answer.token_ms));
    Summary {
        way: level.way.clone(),
        clients: level.clients,
        answers: answers.len(),
        tokens_per_second,
        cloud_ms_per_token,
        cloud_busy: level.cloud_compute_ms / last_ms,
        first_token_ms: [0.5, 0.95].map(|share| quantile(first(), share)),
        time_per_token_ms: [0.5, 0.95].map(|share| quantile(each(), share)),
    }
}

/// After the first; `None` for fewer than two.
fn time_per_token(token_ms: &[f64]) -> Option<f64> {
    let [first, .., last] = token_ms else { return None };
    Some((last - first) / (token_ms.len() - 1) as f64)
}

pub(super) fn render(summaries: &[Summary]) -> String {
    let header = [
        "way",
        "clients",
        "answers",
        "tokens/s",
        "cloud ms/token",
        "cloud busy",
        "first token p50",
        "p95",
        "ms/token p50",
        "p95",
    ];
    table::numbers(&header, summaries.iter().map(cells))
}

fn cells(summary: &Summary) -> Vec<String> {
    vec![
        summary.way.clone(),
        summary.clients.to_string(),
        summary.answers.to_string(),
        format!("{:.1}", summary.tokens_per_second),
        format!("{:.2}", summary.cloud_ms_per_token),
        format!("{:.0} %", 100.0 * summary.cloud_busy),
        table::number(summary.first_token_ms[0], 0),
        table::number(summary.first_token_ms[1], 0),
        table::number(summary.time_per_token_ms[0], 1),
        table::number(summary.time_per_token_ms[1], 1),
    ]
}

pub(super) fn charts(summaries: &[Summary]) -> [(&'static str, String); 3] {
    let draw = |title: &str, y: &'static str, value: fn(&Summary) -> Option<f64>| {
        let points = |way: &str| {
            let own = summaries.iter().filter(|summary| summary.way == way);
            own.filter_map(|summary| Some((f64::from(summary.clients), value(summary)?))).collect()
        };
        let series: Vec<Series> =
            WAYS.iter().map(|way| Series { name: (*way).to_owned(), points: points(way) }).collect();
        chart::render(&Labels { title: title.to_owned(), x: "clients", y }, Spacing::Even, &series)
    };
    [
        ("throughput.svg", draw("What one cloud serves", "tokens/s, all clients", |it| Some(it.tokens_per_second))),
        ("cloud-time.svg", draw("What a token costs the cloud", "cloud ms/token", |it| Some(it.cloud_ms_per_token))),
        ("time-per-token.svg", draw("How long a client waits", "ms/token (median)", |it| it.time_per_token_ms[0])),
    ]
}

#[cfg(test)]
mod tests {
    use super::{super::load::AnswerRow, *};

    fn level(way: &str, clients: u32, answers: Vec<AnswerRow>) -> Level {
        Level { way: way.to_owned(), clients, duration_ms: 1000.0, cloud_compute_ms: 120.0, answers }
    }

    fn answer(began_ms: f64, token_ms: &[f64]) -> AnswerRow {
        AnswerRow { client: 0, prompt: 0, began_ms, token_ms: token_ms.to_vec() }
    }

    #[test]
    fn throughput_is_of_all_answers_until_the_last_was_made() {
        let answers = vec![answer(0.0, &[100.0, 200.0, 300.0]), answer(800.0, &[100.0, 300.0, 500.0])];
        let summary = &summarize(&[level("cloud-only", 2, answers)])[0];
        assert_eq!((summary.answers, summary.tokens_per_second, summary.cloud_ms_per_token), (2, 6.0 / 1.3, 20.0));
        assert!((summary.cloud_busy - 120.0 / 1300.0).abs() < 1e-9, "{summary:?}");
        assert_eq!((summary.first_token_ms[0], summary.time_per_token_ms[0]), (Some(100.0), Some(150.0)));
        assert_eq!(time_per_token(&[1.0]), None);
    }

    #[test]
    fn levels_are_in_the_order_of_ways_and_clients() {
        let levels = [level("exact", 1, vec![]), level("cloud-only", 8, vec![]), level("cloud-only", 1, vec![])];
        let order: Vec<(String, u32)> = summarize(&levels).into_iter().map(|it| (it.way, it.clients)).collect();
        let expected =
            [("cloud-only", 1), ("cloud-only", 8), ("exact", 1)].map(|(way, clients)| (way.to_owned(), clients));
        assert_eq!(order, expected);
    }
}
