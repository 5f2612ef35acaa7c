//! What an edge counts.

use std::time::Duration;

use collm_core::edge::{
    Batch, BatchOutcome, EdgeConfig, JobError, Loss, Occupancy, SecondStage, Source, Stage, Stats, SubmitError,
};
use metrics::{counter, gauge, histogram};

use super::{
    Role, record_batch_failed, record_batch_interrupted, record_batch_size, record_batch_time, record_bytes,
    record_capacity, record_confidence, record_memory, refusal_label,
};
use crate::{AnswerEvent, LinkState, Traffic, answer::finish_name};

/// What stays as it is while the edge runs.
pub(crate) fn record_start(config: &EdgeConfig, link: LinkState) {
    record_capacity(Role::Edge, config.slots, config.context);
    record_link(link);
}

/// What is known of the way to the cloud.
pub(crate) fn record_link(now: LinkState) {
    for state in LinkState::ALL {
        gauge!("collm_link_state", "state" => state.name()).set(u8::from(state == now));
    }
}

/// A request was not taken.
pub(crate) fn record_refused(refusal: &SubmitError) {
    let reason = if matches!(refusal, SubmitError::Busy(_)) { "busy" } else { "unusable" };
    counter!("collm_requests_refused_total", "reason" => reason).increment(1);
}

/// Everything that requesters hear comes past here.
pub(crate) fn record_event(event: &AnswerEvent) {
    match event {
        AnswerEvent::Prompt(_) => {}
        AnswerEvent::Token(token, _) => {
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
    counter!("collm_prompt_tokens_total").increment(stats.prompt_tokens.into());
    counter!("collm_cached_tokens_total").increment(stats.cached_tokens.into());
    counter!("collm_asks_total").increment(stats.asks.into());
    counter!("collm_rollbacks_total").increment(stats.rollbacks.into());
    counter!("collm_discarded_tokens_total").increment(stats.tokens_discarded.into());
    counter!("collm_round_trips_waited_total").increment(stats.round_trips_waited.into());
    counter!("collm_connections_total").increment(stats.connections.into());
    counter!("collm_positions_uploaded_total").increment(stats.positions_uploaded.into());
    counter!("collm_positions_replayed_total").increment(stats.positions_replayed.into());
    record_bytes(Role::Edge, "up", traffic.bytes_up);
    record_bytes(Role::Edge, "down", traffic.bytes_down);
    histogram!("collm_waited_seconds").record(stats.waited);
    histogram!("collm_waited_network_seconds").record(stats.waited_network);
    record_some("collm_time_to_first_token_seconds", stats.first_token);
    record_some("collm_time_per_output_token_seconds", stats.time_per_token());
}

fn record_some(name: &'static str, duration: Option<Duration>) {
    if let Some(duration) = duration {
        histogram!(name).record(duration);
    }
}

/// An ask was answered: how far away the cloud is.
pub(crate) fn record_round_trip(round_trip: Duration) {
    histogram!("collm_round_trip_seconds").record(round_trip);
}

/// A batch leaves for the engine.
pub(crate) fn record_batch(batch: &Batch) {
    let rows = batch.jobs.iter().map(|(_, job)| job.rows() as usize).sum();
    record_batch_size(Role::Edge, rows, batch.jobs.len());
}

/// Which exit scores a batch.
pub(crate) fn exit_of(batch: &Batch, second: SecondStage) -> Source {
    match (batch.jobs.first().map(|(_, job)| &job.stage), second) {
        (Some(Stage::First { .. }) | None, _) => Source::Exit1,
        (Some(Stage::Second { .. }), SecondStage::Tail) => Source::Exit2,
        (Some(Stage::Second { .. }), SecondStage::Whole) => Source::Whole,
    }
}

/// A batch came back that `exit` has scored.
pub(crate) fn record_outcome(outcome: &BatchOutcome, exit: Source) {
    record_batch_time(Role::Edge, outcome.compute);
    record_confidence(exit, outcome.jobs.iter().flatten().flat_map(|job| &job.scored));
    if outcome.jobs.iter().any(|job| matches!(job, Err(JobError::Failed(_)))) {
        record_batch_failed(Role::Edge);
    }
    if outcome.jobs.contains(&Err(JobError::Interrupted)) {
        record_batch_interrupted(Role::Edge);
    }
}

/// What the edge holds now.
pub(crate) fn record_occupancy(held: Occupancy) {
    record_memory(Role::Edge, held.slots, held.positions, held.states_bytes);
    gauge!("collm_requests_running").set(held.answering as f64);
    gauge!("collm_requests_waiting").set(held.waiting as f64);
    gauge!("collm_sessions_parked").set(held.parked as f64);
}

fn loss_label(loss: &Loss) -> String {
    match loss {
        Loss::Deadline(_) => "deadline".into(),
        Loss::Link(_) => "link".into(),
        Loss::Refused(refusal) => format!("refused_{}", refusal_label(refusal.code)),
        Loss::BreakerOpen => "breaker_open".into(),
        Loss::Unsendable(_) => "unsendable".into(),
        Loss::Protocol(_) => "protocol".into(),
    }
}
