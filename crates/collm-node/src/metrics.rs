//! What a node counts, in one place. Recorded through the `metrics` facade; the binary decides where the numbers go.

use std::time::Duration;

use collm_core::{
    cloud::{Batch, BatchInput, BatchOutcome, Occupancy},
    edge::{Loss, Stats},
    frame::RefusalCode,
};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{AnswerEvent, Traffic, answer::finish_name};

/// Tells the recorder what the numbers mean. Call once, after a recorder is installed.
pub fn describe() {
    describe_counter!("collm_tokens_total", "committed tokens by source, and whether the cloud was missing");
    describe_counter!("collm_answers_total", "answers by how they ended");
    describe_counter!("collm_asks_total", "tokens asked of the cloud");
    describe_counter!("collm_round_trips_waited_total", "times the edge stood still for the cloud");
    describe_counter!("collm_fallbacks_total", "times the cloud was lost, by reason");
    describe_counter!("collm_bytes_total", Unit::Bytes, "encoded messages by direction, seen from the edge");
    describe_histogram!("collm_waited_seconds", Unit::Seconds, "time an answer stood still for the cloud");
    describe_histogram!("collm_first_token_seconds", Unit::Seconds, "from the request to the first token");
    describe_histogram!("collm_token_seconds", Unit::Seconds, "time per token after the first");
    describe_histogram!("collm_batch_rows", "positions in a batch of the cloud");
    describe_histogram!("collm_batch_sessions", "sessions in a batch of the cloud");
    describe_histogram!("collm_batch_seconds", Unit::Seconds, "engine time of a batch of the cloud");
    describe_counter!("collm_batches_failed_total", "batches that the cloud's engine failed");
    describe_gauge!("collm_contexts", "sessions that the cloud holds");
    describe_gauge!("collm_slots_used", "key-value slots that hold a context");
    describe_gauge!("collm_states_bytes", Unit::Bytes, "hidden states held for all sessions");
    describe_gauge!("collm_sessions_waiting", "sessions with an ask that is not answered yet");
}

/// Everything an edge counts comes past here.
pub(crate) fn record_event(event: &AnswerEvent) {
    match event {
        AnswerEvent::Prompt(_) => {}
        AnswerEvent::Token(token) => {
            let degraded = if token.degraded { "true" } else { "false" };
            counter!("collm_tokens_total", "source" => token.source.name(), "degraded" => degraded).increment(1);
        }
        AnswerEvent::Degraded(loss) => counter!("collm_fallbacks_total", "reason" => loss_label(loss)).increment(1),
        AnswerEvent::Finished(finished) => {
            let ended = finish_name(finished.reason);
            counter!("collm_answers_total", "ended" => ended).increment(1);
            record_cost(&finished.stats, finished.traffic);
        }
        AnswerEvent::Failed(_) => counter!("collm_answers_total", "ended" => "failed").increment(1),
    }
}

fn record_cost(stats: &Stats, traffic: Traffic) {
    counter!("collm_asks_total").increment(stats.asks.into());
    counter!("collm_round_trips_waited_total").increment(stats.round_trips_waited.into());
    counter!("collm_bytes_total", "direction" => "up").increment(traffic.bytes_up);
    counter!("collm_bytes_total", "direction" => "down").increment(traffic.bytes_down);
    histogram!("collm_waited_seconds").record(stats.waited);
    record_some("collm_first_token_seconds", stats.first_token);
    record_some("collm_token_seconds", stats.time_per_token());
}

fn record_some(name: &'static str, duration: Option<Duration>) {
    if let Some(duration) = duration {
        histogram!(name).record(duration);
    }
}

/// A batch leaves for the engine.
pub(crate) fn record_batch(batch: &Batch) {
    let rows: usize = batch.parts.iter().map(|part| rows(&part.input)).sum();
    histogram!("collm_batch_rows").record(rows as f64);
    histogram!("collm_batch_sessions").record(batch.parts.len() as f64);
}

fn rows(input: &BatchInput) -> usize {
    match input {
        BatchInput::States(blocks) => blocks.iter().map(|block| block.rows() as usize).sum(),
        BatchInput::Tokens(tokens) => tokens.len(),
    }
}

/// A batch came back.
pub(crate) fn record_outcome(outcome: &BatchOutcome) {
    match outcome {
        BatchOutcome::Done { compute, .. } => histogram!("collm_batch_seconds").record(*compute),
        BatchOutcome::Failed(_) => counter!("collm_batches_failed_total").increment(1),
    }
}

/// What the cloud holds now.
pub(crate) fn record_occupancy(occupancy: Occupancy) {
    gauge!("collm_contexts").set(occupancy.contexts as f64);
    gauge!("collm_slots_used").set(occupancy.slots as f64);
    gauge!("collm_states_bytes").set(occupancy.states_bytes as f64);
    gauge!("collm_sessions_waiting").set(occupancy.waiting as f64);
}

fn loss_label(loss: &Loss) -> &'static str {
    match loss {
        Loss::Deadline(_) => "deadline",
        Loss::Link(_) => "link",
        Loss::Refused(refusal) => refusal_label(refusal.code),
        Loss::BreakerOpen => "breaker_open",
        Loss::Unsendable(_) => "unsendable",
        Loss::Protocol(_) => "protocol",
    }
}

fn refusal_label(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Protocol => "refused_protocol",
        RefusalCode::Identity => "refused_identity",
        RefusalCode::Feed => "refused_feed",
        RefusalCode::Malformed => "refused_malformed",
        RefusalCode::ContextLength => "refused_context_length",
        RefusalCode::Busy => "refused_busy",
        RefusalCode::Draining => "refused_draining",
        RefusalCode::Internal => "refused_internal",
        RefusalCode::Superseded => "refused_superseded",
        RefusalCode::Key => "refused_key",
    }
}
