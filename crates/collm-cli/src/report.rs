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
    #[serde(flatten)]
    pub(crate) circumstances: Circumstances,
}

/// What is told of some answers only; of it rows of results keep the comparison.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Circumstances {
    #[serde(skip_serializing)]
    pub(crate) budget: Option<ReportBudget>,
    #[serde(skip_serializing)]
    pub(crate) auto: Option<ReportAuto>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comparison: Option<ReportComparison>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ReportBudget {
    pub(crate) target: String,
    pub(crate) kept: bool,
    pub(crate) threshold_last: Option<f32>,
    pub(crate) threshold_lowest: Option<f32>,
    pub(crate) threshold_highest: Option<f32>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ReportAuto {
    pub(crate) sentence: String,
    pub(crate) fell_after: Option<u32>,
}

/// The edge's own estimates of what the answer would have taken otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReportComparison {
    pub(crate) verdict: Option<String>,
    pub(crate) edge_only_ms: Option<f64>,
    pub(crate) cloud_only_ms: Option<f64>,
    pub(crate) cloud_only_compute_ms: Option<f64>,
    pub(crate) corrected: Option<u32>,
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    /// Stats as an edge writes them, with some fields of a test's own.
    pub(crate) fn stats_json(own: &Value) -> Value {
        let mut stats = json!({
            "total_ms": 600.0, "first_token_ms": 100.0, "time_per_token_ms": null, "edge_compute_ms": 20.0,
            "cloud_compute_ms": 10.0, "waited_ms": 30.0, "network_ms": 25.0, "bytes_up": 900, "bytes_down": 100,
            "prompt_tokens": 20, "answer_tokens": 11, "degraded_tokens": 0, "cloud_share": 0.5, "asks": 1,
            "round_trips_waited": 1, "rollbacks": 0, "tokens_discarded": 0,
        });
        stats.as_object_mut().expect("an object").extend(own.as_object().expect("an object").clone());
        stats
    }
}
