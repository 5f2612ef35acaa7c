//! The edge's HTTP API: JSON in, JSON or a stream of JSON lines out.
//!
//! [`router`] builds it around a running edge and a model's text; [`serve`] listens. Each family of endpoints has a file of
//! its own with its own JSON types: `generate` is this project's, others can stand beside it. Errors become responses in
//! one place, `error`. Deliberately absent: tokenisers and templates (behind [`TextModel`]), sockets to the cloud.

mod error;
mod generate;
mod server;
mod state;
mod text_model;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};

pub use self::{
    server::{ServeError, serve},
    state::{Api, Defaults},
    text_model::{ChatMessage, Markup, TextModel, TextModelError},
};

/// Bytes of a request's body. A prompt that fills the largest contexts is about half of this.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// All endpoints.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/generate", post(generate::generate))
        .route("/health", get(server::health))
        .route("/ready", get(server::ready))
        .route("/metrics", get(server::metrics))
        .fallback(error::no_such_endpoint)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}
