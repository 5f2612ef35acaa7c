//! What edge and cloud count, as Prometheus reads it, and that docs/metrics.md says so.

use std::{collections::BTreeSet, convert::Infallible};

use collm_core::{
    edge::SubmitError,
    policy::{Mode, RunAhead},
};
use collm_engine::scripted::ScriptedEngine;
use collm_node::{
    CloudNode, RequestError,
    metrics::{METRICS, Metric, describe, histograms},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use tokio::net::TcpListener;

use crate::world::{CONTEXT, LOCAL, answer, cloud_options, edge_config, edge_of, edge_with, request, script, sizes};

fn recorder() -> PrometheusRecorder {
    let builder = histograms().fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds).expect("there are bounds")
    });
    builder.build_recorder()
}

/// A cloud on this thread, where the numbers are counted.
async fn cloud() -> String {
    let listener = TcpListener::bind(LOCAL).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let engine = || Ok::<_, Infallible>(ScriptedEngine::cloud(script(), sizes()));
    tokio::spawn(CloudNode::serve(listener, cloud_options(), engine, std::future::pending()));
    url
}

#[track_caller]
fn assert_line(page: &str, line: &str) {
    assert!(page.lines().any(|found| found == line), "no {line:?} in\n{page}");
}

#[tokio::test]
async fn answers_and_batches_are_counted() {
    let recorder = recorder();
    // Of this thread, on which the test's runtime runs edge and cloud.
    let _counting = metrics::set_default_local_recorder(&recorder);
    describe();
    let url = cloud().await;
    let ended = answer(&edge_of(Some(url)).await, request(1, Mode::Collaborative)).await;
    answer(&edge_of(None).await, request(2, Mode::Standalone)).await;

    let (stats, traffic) = (&ended.finished.stats, ended.finished.traffic);
    let page = recorder.handle().render();
    let asks = stats.asks;
    let expected = [
        format!("collm_tokens_total{{source=\"cloud\",degraded=\"false\"}} {}", stats.cloud_tokens),
        "collm_answers_total{ended=\"length\"} 2".into(),
        format!("collm_asks_total {asks}"),
        format!("collm_bytes_total{{role=\"edge\",direction=\"up\"}} {}", traffic.bytes_up),
        format!("collm_bytes_total{{role=\"edge\",direction=\"down\"}} {}", traffic.bytes_down),
        format!("collm_bytes_total{{role=\"cloud\",direction=\"down\"}} {}", traffic.bytes_down),
        format!("collm_batch_sessions_sum{{role=\"cloud\"}} {asks}"),
        format!("collm_asks_answered_total {asks}"),
        format!("collm_ask_queued_seconds_count {asks}"),
        format!("collm_confidence_count{{exit=\"cloud\"}} {asks}"),
        format!("collm_round_trip_seconds_count {asks}"),
        format!("collm_round_trips_waited_total {asks}"),
        "collm_prompt_tokens_total 40".into(),
        "collm_time_to_first_token_seconds_count 2".into(),
        "collm_time_per_output_token_seconds_count 2".into(),
        "collm_waited_seconds_count 2".into(),
        "collm_slots{role=\"edge\"} 4".into(),
        format!("collm_positions{{role=\"cloud\"}} {}", 4 * CONTEXT),
        "collm_requests_waiting 0".into(),
        "# HELP collm_waited_seconds time an answer stood still for the cloud".into(),
        "# TYPE collm_contexts gauge".into(),
    ];
    for line in expected {
        assert_line(&page, &line);
    }
}

/// The link is told as the last answer found it, one state at a time.
#[tokio::test]
async fn the_state_of_the_link_is_told() {
    let recorder = recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let state = |page: &str| {
        let known =
            page.lines().filter_map(|line| line.strip_prefix("collm_link_state{state=\"")?.strip_suffix("\"} 1"));
        known.map(str::to_owned).collect::<Vec<_>>()
    };
    let edge = edge_of(Some(cloud().await)).await;
    assert_eq!(state(&recorder.handle().render()), ["untried"]);
    answer(&edge, request(1, Mode::Collaborative)).await;
    assert_eq!(state(&recorder.handle().render()), ["up"]);
    let nobody = TcpListener::bind(LOCAL).await.expect("a free port").local_addr().expect("bound");
    let edge = edge_of(Some(format!("http://{nobody}"))).await;
    answer(&edge, request(2, Mode::Collaborative)).await;
    assert_eq!(state(&recorder.handle().render()), ["down"]);
    assert_line(&recorder.handle().render(), "collm_fallbacks_total{reason=\"link\"} 1");
}

/// While an answer is made, what both sides hold of it is told, and after it that nothing is left.
#[tokio::test]
async fn memory_is_told_while_it_is_held() {
    let recorder = recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let edge = edge_of(Some(cloud().await)).await;
    let mut stream = edge.submit(request(1, Mode::Exact)).await.expect("the edge takes it");
    stream.next().await.expect("a token");
    let page = recorder.handle().render();
    assert_line(&page, "collm_requests_running 1");
    for role in ["edge", "cloud"] {
        assert_line(&page, &format!("collm_slots_used{{role=\"{role}\"}} 1"));
        for name in ["positions_used", "states_bytes"] {
            let prefix = format!("collm_{name}{{role=\"{role}\"}} ");
            let told = page.lines().find_map(|line| line.strip_prefix(prefix.as_str())?.parse::<f64>().ok());
            assert!(told.is_some_and(|told| told > 0.0), "{name} at the {role} is {told:?} in\n{page}");
        }
    }
    drop(stream);
    loop {
        let page = recorder.handle().render();
        let empty = |line: &str| page.lines().any(|found| found == line);
        let at = |role: &str| {
            ["slots_used", "positions_used", "states_bytes"]
                .into_iter()
                .all(|name| empty(&format!("collm_{name}{{role=\"{role}\"}} 0")))
        };
        if at("edge") && at("cloud") && empty("collm_requests_running 0") && empty("collm_contexts 0") {
            break;
        }
        tokio::task::yield_now().await;
    }
}

/// Every metric is recorded by something, with the labels that it is said to have.
#[tokio::test]
async fn what_is_recorded_is_what_is_described() {
    let recorder = recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    describe();
    let url = cloud().await;
    let mut request_ahead = request(1, Mode::Collaborative);
    request_ahead.run_ahead = RunAhead::DEFAULT;
    answer(&edge_of(Some(url.clone())).await, request_ahead).await;
    // A cloud of another pair refuses; the edge goes on alone.
    let mut config = edge_config();
    config.identity.pair = "no pair".repeat(2);
    let edge = edge_with(config, Some(url)).await;
    answer(&edge, request(2, Mode::Collaborative)).await;
    let refused = edge.submit(request(3, Mode::Whole)).await;
    assert!(matches!(refused, Err(RequestError::Refused(SubmitError::WrongPart(_)))));

    let page = recorder.handle().render();
    // Engines here do not fail, and are interrupted by chance.
    let is_certain = |name: &&str| !["collm_batches_failed_total", "collm_batches_interrupted_total"].contains(name);
    let recorded = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).filter(is_certain);
    let described = METRICS.iter().map(|metric| metric.name).filter(is_certain);
    assert_eq!(recorded.collect::<BTreeSet<&str>>(), described.collect());
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, labels) = sample(line);
        let metric = METRICS.iter().find(|metric| name == metric.name).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(labels, metric.labels, "{line}");
    }
}

/// The metric of a sample, and its own labels.
fn sample(line: &str) -> (&str, Vec<&str>) {
    let (head, _) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split('=').next());
    let is_family = |name: &str| METRICS.iter().any(|metric| metric.name == name);
    let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| name.strip_suffix(part));
    let name = parts.into_iter().find(|name| is_family(name)).unwrap_or(name);
    (name, labels.filter(|label| !label.is_empty() && *label != "le").collect())
}

#[test]
fn every_metric_is_in_the_documentation_and_no_other() {
    let page = include_str!("../../../../docs/metrics.md");
    let told: Vec<&str> = page.lines().filter(|line| line.starts_with("| `collm_")).collect();
    let expected: Vec<String> = METRICS.iter().map(row).collect();
    assert_eq!(told, expected, "the table must be\n{}", expected.join("\n"));
}

fn row(metric: &Metric) -> String {
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {} | {} | {} |", metric.name, metric.kind.name(), labels.join(", "), metric.help)
}

/// As vLLM's source has them.
#[tokio::test]
async fn times_of_tokens_are_counted_in_vllms_buckets() {
    let recorder = recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    answer(&edge_of(None).await, request(1, Mode::Standalone)).await;
    let page = recorder.handle().render();
    let bounds = |name: &str| {
        let bounds = page.lines().filter_map(|line| {
            line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?.split('"').next().map(str::to_owned)
        });
        bounds.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        bounds("collm_time_to_first_token_seconds"),
        "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560 +Inf"
    );
    assert_eq!(
        bounds("collm_time_per_output_token_seconds"),
        "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80 +Inf"
    );
}

#[test]
fn bounds_rise() {
    for (name, bounds) in histograms() {
        assert!(!bounds.is_empty() && bounds.is_sorted_by(|one, next| one < next), "{name}");
    }
}
