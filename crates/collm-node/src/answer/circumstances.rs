//! Under which circumstances an answer was made: budget, choice of place, link, and what it would have cost elsewhere.

use collm_core::{
    edge::{BudgetReport, Comparison, LinkEstimate, Stats, Verdict},
    policy::Threshold,
};
use serde::Serialize;

use super::milliseconds;

/// What became of a budget. Thresholds are those of exit 2; none: everything was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetStats {
    /// `tpot=60ms` or `cloud=20%`.
    pub target: String,
    /// Whether it was met, give or take one token.
    pub kept: bool,
    /// The threshold was never to fall below this.
    pub threshold_min: Option<f32>,
    /// Of the first token.
    pub threshold_first: Option<f32>,
    /// Of the last one.
    pub threshold_last: Option<f32>,
    /// The lowest of any token.
    pub threshold_lowest: Option<f32>,
    /// The highest of any token.
    pub threshold_highest: Option<f32>,
}

impl BudgetStats {
    pub(super) fn new(report: BudgetReport) -> Self {
        let reachable = |threshold: Threshold| threshold.is_reachable().then(|| threshold.value());
        Self {
            target: report.budget.target.to_string(),
            kept: report.kept,
            threshold_min: reachable(report.budget.threshold_min),
            threshold_first: reachable(report.first),
            threshold_last: reachable(report.last),
            threshold_lowest: reachable(report.lowest),
            threshold_highest: reachable(report.highest),
        }
    }
}

/// What mode auto chose.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AutoStats {
    /// Whether the cloud was asked; if the answer fell to the edge while it was made, no longer.
    pub cloud: bool,
    /// Why, for programs: `untried`, `worthwhile`, `probing`, `no_cloud`, `cloud_down`, `too_slow`, `over_budget` or `awaiting`.
    pub reason: &'static str,
    /// Why, for people.
    pub sentence: String,
    /// Tokens that were made when the answer fell to the edge, if it did.
    pub fell_after: Option<u32>,
}

impl AutoStats {
    pub(super) fn new(stats: &Stats) -> Option<Self> {
        let choice = stats.choice?;
        Some(Self {
            cloud: choice.uses_cloud(),
            reason: choice.name(),
            sentence: choice.to_string(),
            fell_after: stats.fell_after,
        })
    }
}

/// The way to the cloud, as moving averages over the answers of this edge; none where nothing was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkStats {
    /// From an ask to its answer, without what the cloud spent on it.
    pub round_trip_ms: Option<f64>,
    /// To the cloud; at least so many.
    pub upload_bytes_per_second: Option<u64>,
    /// That an ask waits in the cloud before its batch begins.
    pub cloud_queued_ms: Option<f64>,
    /// That the cloud computes for an ask.
    pub cloud_compute_ms: Option<f64>,
}

impl LinkStats {
    pub(super) fn new(link: LinkEstimate) -> Self {
        Self {
            round_trip_ms: link.round_trip.map(milliseconds),
            upload_bytes_per_second: link.bytes_per_second,
            cloud_queued_ms: link.queued.map(milliseconds),
            cloud_compute_ms: link.compute.map(milliseconds),
        }
    }
}

/// What the same answer would have cost elsewhere, as estimated from what was measured; none where something was not. How is said
/// at [`Comparison`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparisonStats {
    /// Did the network help: `unused`, `helped`, `edge_sooner` or `cloud_sooner`.
    pub verdict: Option<&'static str>,
    /// From the request to the end, at the edge alone.
    pub edge_only_ms: Option<f64>,
    /// From the request to the end, in the cloud alone.
    pub cloud_only_ms: Option<f64>,
    /// Engine time of the cloud, if it made all of it.
    pub cloud_only_compute_ms: Option<f64>,
    /// Guesses of the edge that the cloud corrected; none where the edge made no guesses.
    pub corrected: Option<u32>,
}

impl ComparisonStats {
    pub(super) fn new(stats: &Stats) -> Option<Self> {
        let Comparison { edge_only, cloud_only, corrected } = stats.comparison?;
        Some(Self {
            verdict: stats.verdict().map(Verdict::name),
            edge_only_ms: edge_only.map(milliseconds),
            cloud_only_ms: cloud_only.map(|cloud| milliseconds(cloud.total)),
            cloud_only_compute_ms: cloud_only.map(|cloud| milliseconds(cloud.compute)),
            corrected,
        })
    }
}
