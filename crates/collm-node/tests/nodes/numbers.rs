//! What edge and cloud count, as Prometheus reads it.

use std::convert::Infallible;

use collm_core::policy::Mode;
use collm_engine::scripted::ScriptedEngine;
use collm_node::{CloudNode, metrics::describe};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;

use crate::world::{LOCAL, answer, cloud_options, edge_of, request, script, sizes};

#[tokio::test]
async fn answers_and_batches_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    // Of this thread, on which the test's runtime runs edge and cloud.
    let _counting = metrics::set_default_local_recorder(&recorder);
    describe();
    let listener = TcpListener::bind(LOCAL).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let engine = || Ok::<_, Infallible>(ScriptedEngine::cloud(script(), sizes()));
    tokio::spawn(CloudNode::serve(listener, cloud_options(), engine, std::future::pending()));
    let ended = answer(&edge_of(Some(url)).await, request(1, Mode::Collaborative)).await;
    answer(&edge_of(None).await, request(2, Mode::Standalone)).await;

    let (stats, traffic) = (&ended.finished.stats, ended.finished.traffic);
    let page = recorder.handle().render();
    let expected = [
        format!("collm_tokens_total{{source=\"cloud\",degraded=\"false\"}} {}", stats.cloud_tokens),
        "collm_answers_total{ended=\"length\"} 2".into(),
        format!("collm_asks_total {}", stats.asks),
        format!("collm_bytes_total{{direction=\"up\"}} {}", traffic.bytes_up),
        format!("collm_bytes_total{{direction=\"down\"}} {}", traffic.bytes_down),
        format!("collm_batch_sessions_sum {}", stats.asks),
        "collm_first_token_seconds_count 2".into(),
        "# HELP collm_waited_seconds time an answer stood still for the cloud".into(),
        "# TYPE collm_contexts gauge".into(),
    ];
    for line in expected {
        assert!(page.lines().any(|found| found == line), "no {line:?} in\n{page}");
    }
}
