//! What nodes count, in one place: [`METRICS`] says which numbers there are, `edge` and `cloud` record them through the
//! `metrics` facade. The binary decides where they go. Deliberately absent: text, tokens and names of sessions, so that whoever
//! may read the numbers learns nothing of what is asked and answered.

pub(crate) mod cloud;
pub(crate) mod edge;

use std::time::Duration;

use collm_core::{edge::Source, frame::RefusalCode, sampling::Scored};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// One family of numbers.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Under which it is recorded.
    pub name: &'static str,
    /// How it is to be read.
    pub kind: Kind,
    /// What its members are told apart by.
    pub labels: &'static [&'static str],
    /// For people.
    pub help: &'static str,
}

/// How the numbers of a metric are to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// As it is now.
    Gauge,
    /// Counts of values up to each of these bounds, rising.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Prometheus' word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// Bounds of `vllm:time_to_first_token_seconds`, so that dashboards for vLLM fit.
/// Source: `vllm/engine/metrics.py` and `vllm/v1/metrics/loggers.py` of vLLM.
pub const FIRST_TOKEN_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];

/// Bounds of `vllm:time_per_output_token_seconds`, which are also those of `vllm:inter_token_latency_seconds` and of
/// `vllm:request_time_per_output_token_seconds`. Source: as for [`FIRST_TOKEN_SECONDS`].
pub const OUTPUT_TOKEN_SECONDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];

/// From a loopback's round trip to an answer that is waited for in vain.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Finest where thresholds are.
const CONFIDENCES: &[f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0];

const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// Every metric of both roles. Where a process can tell the same of either, `role` says which it is.
pub const METRICS: &[Metric] = &[
    counts(
        "collm_tokens_total",
        &["source", "degraded"],
        "committed tokens by source, and whether the cloud was missing",
    ),
    histogram_of(
        "collm_confidence",
        &["exit"],
        CONFIDENCES,
        "what was scored: confidence of each exit, taken-back drafts included",
    ),
    counts("collm_answers_total", &["ended"], "answers by how they ended"),
    counts(
        "collm_requests_refused_total",
        &["reason"],
        "requests refused because the queue is full, or that cannot be served",
    ),
    counts("collm_prompt_tokens_total", &[], "tokens of prompts"),
    counts(
        "collm_cached_tokens_total",
        &[],
        "of them, what was kept of the session's last answer and not computed again",
    ),
    histogram_of(
        "collm_time_to_first_token_seconds",
        &[],
        FIRST_TOKEN_SECONDS,
        "from the request to the first token (TTFT)",
    ),
    histogram_of(
        "collm_time_per_output_token_seconds",
        &[],
        OUTPUT_TOKEN_SECONDS,
        "an answer's time per token after the first (TPOT)",
    ),
    counts("collm_asks_total", &[], "tokens asked of the cloud, repeated ones included"),
    counts("collm_rollbacks_total", &[], "guesses that the cloud corrected after the edge had asked"),
    counts("collm_discarded_tokens_total", &[], "drafts that a rollback took back before anyone saw them"),
    counts("collm_round_trips_waited_total", &[], "times the edge stood still for the cloud"),
    histogram_of("collm_waited_seconds", &[], SECONDS, "time an answer stood still for the cloud"),
    histogram_of(
        "collm_waited_network_seconds",
        &[],
        SECONDS,
        "of it, what the cloud did not spend computing or queueing",
    ),
    histogram_of(
        "collm_round_trip_seconds",
        &[],
        SECONDS,
        "from an ask to its answer, without what the cloud spent computing or queueing; of asks that are answered together, the oldest",
    ),
    gauges("collm_link_state", &["state"], "1 for what is known of the way to the cloud, 0 for what it is not"),
    counts("collm_connections_total", &[], "streams opened to the cloud"),
    counts("collm_fallbacks_total", &["reason"], "times the cloud was lost, by reason"),
    counts("collm_positions_uploaded_total", &[], "positions uploaded, repeated ones included"),
    counts("collm_positions_replayed_total", &[], "of them, what the cloud no longer held"),
    gauges("collm_requests_running", &[], "requests that are being answered"),
    gauges("collm_requests_waiting", &[], "requests that wait for a slot"),
    gauges("collm_sessions_parked", &[], "sessions that are kept for a follow-up"),
    counts(
        "collm_bytes_total",
        &["role", "direction"],
        "encoded messages, up and down as the edge sees it; at the edge when an answer ends",
    ),
    histogram_of("collm_batch_rows", &["role"], COUNTS, "positions in a batch"),
    histogram_of("collm_batch_sessions", &["role"], COUNTS, "sessions in a batch"),
    histogram_of("collm_batch_seconds", &["role"], SECONDS, "engine time of a batch"),
    counts("collm_batches_failed_total", &["role"], "batches that the engine failed, in part or whole"),
    counts(
        "collm_batches_interrupted_total",
        &["role"],
        "batches that were ended early, since nobody wanted them any more",
    ),
    gauges("collm_slots_used", &["role"], "key-value slots in use"),
    gauges("collm_slots", &["role"], "key-value slots in all"),
    gauges("collm_positions_used", &["role"], "positions whose keys and values are in a slot"),
    gauges("collm_positions", &["role"], "positions that all slots can hold"),
    gauges(
        "collm_states_bytes",
        &["role"],
        "hidden states held for all sessions: at the edge to replay, in the cloud to compute",
    ),
    gauges("collm_states_bytes_max", &[], "hidden states that the cloud may hold"),
    gauges("collm_contexts", &[], "sessions that the cloud holds"),
    gauges("collm_contexts_max", &[], "sessions that the cloud may hold"),
    gauges("collm_streams", &[], "streams of edges that are open"),
    gauges("collm_sessions_waiting", &[], "sessions with an ask that is not answered yet: the cloud's queue"),
    counts("collm_asks_answered_total", &[], "tokens that the cloud told"),
    histogram_of(
        "collm_ask_queued_seconds",
        &[],
        SECONDS,
        "time that an ask waited in the cloud before its batch began; of asks that are answered together, that of the oldest",
    ),
    counts("collm_refusals_total", &["reason"], "streams that the cloud refused or ended"),
];

const fn counts(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauges(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram_of(
    name: &'static str,
    labels: &'static [&'static str],
    bounds: &'static [f64],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram(bounds), labels, help }
}

/// Each histogram with its bounds, for the recorder to be made with.
pub fn histograms() -> impl Iterator<Item = (&'static str, &'static [f64])> {
    METRICS.iter().filter_map(|metric| match metric.kind {
        Kind::Histogram(bounds) => Some((metric.name, bounds)),
        Kind::Counter | Kind::Gauge => None,
    })
}

/// Tells the recorder what the numbers mean. Call once, after a recorder is installed.
pub fn describe() {
    for metric in METRICS {
        let unit = unit(metric.name);
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, unit, metric.help),
        }
    }
}

fn unit(name: &str) -> Unit {
    if name.ends_with("_seconds") {
        Unit::Seconds
    } else if name.contains("_bytes") {
        Unit::Bytes
    } else {
        Unit::Count
    }
}

/// Who computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Edge,
    Cloud,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Cloud => "cloud",
        }
    }
}

/// What a node's key-value memory can hold.
fn record_capacity(role: Role, slots: u32, context: u32) {
    gauge!("collm_slots", "role" => role.name()).set(slots);
    gauge!("collm_positions", "role" => role.name()).set(f64::from(slots) * f64::from(context));
}

/// What it and the states beside it hold now.
fn record_memory(role: Role, slots: usize, positions: usize, states_bytes: usize) {
    gauge!("collm_slots_used", "role" => role.name()).set(slots as f64);
    gauge!("collm_positions_used", "role" => role.name()).set(positions as f64);
    gauge!("collm_states_bytes", "role" => role.name()).set(states_bytes as f64);
}

/// A batch leaves for the engine.
fn record_batch_size(role: Role, rows: usize, sessions: usize) {
    histogram!("collm_batch_rows", "role" => role.name()).record(rows as f64);
    histogram!("collm_batch_sessions", "role" => role.name()).record(sessions as f64);
}

fn record_batch_time(role: Role, compute: Duration) {
    histogram!("collm_batch_seconds", "role" => role.name()).record(compute);
}

/// How sure an exit was of what it scored.
fn record_confidence<'a>(exit: Source, scored: impl Iterator<Item = &'a Scored>) {
    for scored in scored {
        histogram!("collm_confidence", "exit" => exit.name()).record(scored.choice.confidence);
    }
}

fn record_batch_failed(role: Role) {
    counter!("collm_batches_failed_total", "role" => role.name()).increment(1);
}

fn record_batch_interrupted(role: Role) {
    counter!("collm_batches_interrupted_total", "role" => role.name()).increment(1);
}

fn record_bytes(role: Role, direction: &'static str, bytes: u64) {
    counter!("collm_bytes_total", "role" => role.name(), "direction" => direction).increment(bytes);
}

fn refusal_label(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Protocol => "protocol",
        RefusalCode::Identity => "identity",
        RefusalCode::Feed => "feed",
        RefusalCode::Malformed => "malformed",
        RefusalCode::ContextLength => "context_length",
        RefusalCode::Busy => "busy",
        RefusalCode::Draining => "draining",
        RefusalCode::Internal => "internal",
        RefusalCode::Superseded => "superseded",
        RefusalCode::Key => "key",
    }
}
