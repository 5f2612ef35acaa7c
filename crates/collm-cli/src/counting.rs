//! Counting: where the numbers that nodes record go, for servers that somebody can ask for them.

use std::time::Duration;

use anyhow::Context as _;
use collm_node::metrics::{describe, histograms};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::sleep;

/// How often what was recorded is added up, so that it does not pile up where nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Counts from now on, once a process. Returns what renders the numbers for Prometheus.
pub(crate) fn start() -> anyhow::Result<impl Fn() -> String + Clone + Send + Sync> {
    let handle = builder()?.install_recorder().context("cannot start counting")?;
    describe();
    tokio::spawn(add_up(handle.clone()));
    Ok(move || handle.render())
}

fn builder() -> anyhow::Result<PrometheusBuilder> {
    histograms().try_fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
        let builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds);
        builder.with_context(|| format!("{name} has no bounds"))
    })
}

async fn add_up(handle: PrometheusHandle) {
    loop {
        sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}
