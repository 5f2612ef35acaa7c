//! What a cloud counts.

use collm_core::{
    cloud::{Batch, BatchInput, BatchOutcome, CloudConfig, Occupancy},
    edge::Source,
    frame::ToEdge,
};
use metrics::{counter, gauge, histogram};

use super::{
    Role, record_batch_failed, record_batch_interrupted, record_batch_size, record_batch_time, record_bytes,
    record_capacity, record_confidence, record_memory, refusal_label,
};

/// What stays as it is while the cloud runs.
pub(crate) fn record_start(config: &CloudConfig) {
    record_capacity(Role::Cloud, config.slots, config.context);
    gauge!("collm_contexts_max").set(config.contexts_max);
    gauge!("collm_states_bytes_max").set(config.states_bytes_max as f64);
}

/// A message of an edge came in.
pub(crate) fn record_received(bytes: usize) {
    record_bytes(Role::Cloud, "up", bytes as u64);
}

/// A message to an edge goes out.
pub(crate) fn record_sent(bytes: usize) {
    record_bytes(Role::Cloud, "down", bytes as u64);
}

/// What the core tells an edge.
pub(crate) fn record_told(frame: &ToEdge) {
    match frame {
        ToEdge::Answer(answer) => {
            counter!("collm_asks_answered_total").increment(answer.asks() as u64);
            histogram!("collm_ask_queued_seconds").record_many(answer.queued, answer.asks());
        }
        ToEdge::Refused(refusal) => record_refused(refusal_label(refusal.code)),
        ToEdge::Opened { .. } | ToEdge::Scores(_) | ToEdge::Missing { .. } => {}
    }
}

/// A stream was turned away or ended.
pub(crate) fn record_refused(reason: &'static str) {
    counter!("collm_refusals_total", "reason" => reason).increment(1);
}

/// A batch leaves for the engine.
pub(crate) fn record_batch(batch: &Batch) {
    let rows = batch.parts.iter().map(|part| rows(&part.input)).sum();
    record_batch_size(Role::Cloud, rows, batch.parts.len());
}

fn rows(input: &BatchInput) -> usize {
    match input {
        BatchInput::States(blocks) => blocks.iter().map(|block| block.rows() as usize).sum(),
        BatchInput::Tokens(tokens) => tokens.len(),
    }
}

/// A batch came back.
pub(crate) fn record_outcome(outcome: &BatchOutcome) {
    let (scored, compute) = match outcome {
        BatchOutcome::Done { scored, compute } => (scored, *compute),
        BatchOutcome::Interrupted { compute } => {
            record_batch_time(Role::Cloud, *compute);
            return record_batch_interrupted(Role::Cloud);
        }
        BatchOutcome::Failed(_) => return record_batch_failed(Role::Cloud),
    };
    record_batch_time(Role::Cloud, compute);
    record_confidence(Source::Cloud, scored.iter().flatten().flatten());
    if scored.iter().any(Result::is_err) {
        record_batch_failed(Role::Cloud);
    }
}

/// What the cloud holds now.
pub(crate) fn record_occupancy(held: Occupancy) {
    record_memory(Role::Cloud, held.slots, held.positions, held.states_bytes);
    gauge!("collm_contexts").set(held.contexts as f64);
    gauge!("collm_streams").set(held.peers as f64);
    gauge!("collm_sessions_waiting").set(held.waiting as f64);
}
