//! The report of an answer, as far as this program looks into it. The rest is passed on as the edge wrote it.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Report {
    pub(crate) text: String,
    pub(crate) finish_reason: String,
    pub(crate) tokens: Vec<ReportToken>,
    pub(crate) stats: ReportStats,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ReportToken {
    pub(crate) id: u32,
    pub(crate) source: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReportStats {
    pub(crate) total_ms: f64,
    pub(crate) first_token_ms: Option<f64>,
    pub(crate) time_per_token_ms: Option<f64>,
    pub(crate) edge_compute_ms: f64,
    pub(crate) cloud_compute_ms: f64,
    pub(crate) waited_ms: f64,
    pub(crate) network_ms: f64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    pub(crate) prompt_tokens: u32,
    pub(crate) answer_tokens: u32,
    pub(crate) degraded_tokens: u32,
    pub(crate) cloud_share: f64,
    pub(crate) asks: u32,
    pub(crate) round_trips_waited: u32,
    pub(crate) rollbacks: u32,
    pub(crate) tokens_discarded: u32,
}
