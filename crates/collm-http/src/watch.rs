//! What those who watch over a process are told: `/health`, `/ready` and `/metrics`. The edge's API has them among its endpoints,
//! a server without an API of its own has [`router`] on a port of its own.

use std::sync::Arc;

use axum::{
    Json, Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use serde::Serialize;
use tokio::sync::watch;

/// Gives all numbers in the Prometheus text format.
pub(crate) type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not yet serving.
    Loading,
    /// Serving.
    Ready,
    /// Finishing what is under way, and taking nothing new.
    Stopping,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }
}

/// The endpoints for those who watch over a server that is as far as `phase` says. None of them asks for a key: they tell numbers,
/// and nothing of what is asked and answered.
pub fn router(phase: watch::Receiver<Phase>, render: impl Fn() -> String + Send + Sync + 'static) -> Router {
    let render: RenderMetrics = Arc::new(render);
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(move || std::future::ready(readiness(*phase.borrow(), None))))
        .route("/metrics", get(move || std::future::ready(metrics(&render))))
        .fallback((StatusCode::NOT_FOUND, "here are /health, /ready and /metrics"))
}

/// The process is alive.
pub(crate) async fn health() -> &'static str {
    "ok"
}

/// Whether requests can be served, and in the edge how the last answer found the way to the cloud.
pub(crate) fn readiness(phase: Phase, cloud: Option<&'static str>) -> (StatusCode, Json<Readiness>) {
    let code = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Readiness { status: phase.name(), cloud }))
}

#[derive(Debug, Serialize)]
pub(crate) struct Readiness {
    status: &'static str,
    /// `none`, `untried`, `up` or `down`. No condition: without a cloud answers are degraded, not absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud: Option<&'static str>,
}

pub(crate) fn metrics(render: &RenderMetrics) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], render())
}
