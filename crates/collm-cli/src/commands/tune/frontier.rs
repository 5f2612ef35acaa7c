//! What was found about tails, for people: a table, a chart, and which one to take.

use std::{fs, path::Path};

use anyhow::Context as _;
use collm_model::split::format_layer_list;
use collm_tune::{cost::CostModel, search::TailScore};
use serde::{Serialize, Serializer};

use crate::{
    chart::{self, Labels, Series, Spacing},
    ui::table,
};

/// A tail, what it costs and what it is good for; all shares.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Point {
    #[serde(serialize_with = "as_layers")]
    pub(super) tail: Vec<u32>,
    layers: usize,
    /// Of the whole model's decoding.
    cost: f64,
    agreement: f64,
    coverage_95: f64,
    coverage_97: f64,
    coverage_99: f64,
    positions: usize,
}

pub(super) fn points(scores: &[TailScore], cost: &CostModel, check: f64) -> Vec<Point> {
    let point = |score: &TailScore| Point {
        tail: score.tail.clone(),
        layers: score.tail.len(),
        cost: cost.edge_share(score.tail.len(), check),
        agreement: score.agreement,
        coverage_95: score.coverage[0],
        coverage_97: score.coverage[1],
        coverage_99: score.coverage[2],
        positions: score.positions,
    };
    scores.iter().map(point).collect()
}

pub(super) fn table(points: &[Point]) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let rows = points.iter().map(|point| {
        let shares = [point.cost, point.agreement, point.coverage_95, point.coverage_97, point.coverage_99];
        std::iter::once(format_layer_list(&point.tail)).chain(shares.map(percent)).collect()
    });
    table::numbers(&["tail", "cost", "agrees", "sure at 95 %", "at 97 %", "at 99 %"], rows)
}

/// `frontier.json` and `frontier.svg`.
pub(super) fn write(folder: &Path, model: &str, points: &[Point]) -> anyhow::Result<()> {
    let series = |name: &str, y: fn(&Point) -> f64| Series {
        name: name.to_owned(),
        points: points.iter().rev().map(|point| (point.cost, y(point))).collect(),
    };
    let series = [
        series("agrees", |point| point.agreement),
        series("sure at 95 %", |point| point.coverage_95),
        series("sure at 97 %", |point| point.coverage_97),
        series("sure at 99 %", |point| point.coverage_99),
    ];
    let labels = Labels {
        title: format!("Tails of {model}"),
        x: "cost of decoding, as a share of the whole model's",
        y: "share of positions",
    };
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("frontier.json", serde_json::to_string_pretty(points)?)?;
    write("frontier.svg", chart::render(&labels, Spacing::Share, &series))
}

/// The best tail that costs no more than was asked for.
pub(super) fn best(points: &[Point], edge_cost: f64) -> Option<&Point> {
    let affordable = points.iter().filter(|point| point.cost <= edge_cost);
    affordable.max_by(|one, other| one.agreement.total_cmp(&other.agreement))
}

pub(super) fn recommend(best: Option<&Point>, upload_at: u32, edge_cost: f64) -> String {
    let Some(best) = best else {
        return format!(
            "No tail after layer {upload_at} costs {edge_cost} or less; upload earlier or give the shortlist a lower rank."
        );
    };
    let tail = format_layer_list(&best.tail);
    format!("The best at a cost of {edge_cost} or less: --upload-at {upload_at} --tail {tail}")
}

fn as_layers<S: Serializer>(tail: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_layer_list(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<Point> {
        let cost =
            CostModel { lower_us: 40.0, upper_us: 40.0, tail_us: 0.0, layer_us: 10.0, together: 1.0, head_us: 20.0 };
        let score = |tail: &[u32], agreement| TailScore {
            tail: tail.to_vec(),
            agreement,
            coverage: [0.5, 0.4, 0.3],
            positions: 10,
        };
        let scores = [score(&[4, 5, 6, 7], 1.0), score(&[4, 6, 7], 0.7), score(&[6, 7], 0.75)];
        points(&scores, &cost, 0.5)
    }

    #[test]
    fn the_best_affordable_tail_is_recommended() {
        let points = found();
        assert_eq!(points.iter().map(|point| point.cost).collect::<Vec<_>>(), [0.9, 0.8, 0.7]);
        for (cost, tail) in [(0.95, "4-7"), (0.8, "6-7"), (0.7, "6-7")] {
            assert!(recommend(best(&points, cost), 4, cost).ends_with(&format!("--tail {tail}")), "at {cost}");
        }
        assert!(recommend(best(&points, 0.5), 4, 0.5).starts_with("No tail"));
    }

    #[test]
    fn a_frontier_is_shown_and_kept() {
        let points = found();
        let table = table(&points);
        assert!(table.contains("4,6-7  80.0 %   70.0 %"), "{table}");
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "m", &points).unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join("frontier.json")).unwrap()).unwrap();
        assert_eq!(json[2]["tail"], "6-7");
        assert!(fs::read_to_string(folder.path().join("frontier.svg")).unwrap().contains("Tails of m"));
    }
}
