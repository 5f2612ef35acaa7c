//! The edge's HTTP API: JSON in, JSON or a stream of events out.
//!
//! [`router`] builds it around a running edge and a model's text; [`serve`] listens. Each family of endpoints has a file of
//! its own with its own JSON types: `generate` is this project's, `openai` the one that existing programs speak; what they
//! share is in `answering`. What a server tells those who watch over it, the cloud's too, is [`watch`]. Errors become responses
//! in one place, `error`. Deliberately absent: tokenisers and templates (behind [`TextModel`]), sockets to the cloud.

mod answering;
mod aside;
mod error;
mod fields;
mod generate;
mod keys;
mod link;
mod openai;
mod page;
mod server;
mod state;
mod text;
mod text_model;
pub mod watch;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, Method},
    middleware,
    routing::{get, post},
};
use tower_http::{
    cors::{AllowHeaders, CorsLayer},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

pub use self::{
    server::{ServeError, serve},
    state::{Api, Defaults, ModelCard, Origin},
    text_model::{ChatMessage, Markup, TextModel, TextModelError, TokenizerInfo},
};

/// Bytes of a request's body. A prompt that fills the largest contexts is about half of this.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// Where requests and responses carry the name by which logs know them.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All endpoints.
pub fn router(api: Api) -> Router {
    guarded(&api)
        .merge(page::routes())
        .route("/health", get(watch::health))
        .route("/ready", get(server::ready))
        .fallback(error::no_such_endpoint)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(origins(&api))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .with_state(api)
}

/// What is only for those who have a key, where keys are asked for.
fn guarded(api: &Api) -> Router<Api> {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{id}", get(openai::model))
        .route("/v1/generate", post(generate::generate))
        .route("/tokenize", post(text::tokenize))
        .route("/detokenize", post(text::detokenize))
        .route("/tokenizer_info", get(text::tokenizer_info))
        .route("/props", get(text::props))
        .route("/metrics", get(server::metrics))
        .merge(api.emulated_link.clone().map_or_else(Router::new, link::routes))
        .route_layer(middleware::from_fn_with_state(api.clone(), keys::check))
}

/// Lets browsers show what the API says to pages of the configured origins, and of no others.
fn origins(api: &Api) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(api.origins.clone())
        .allow_methods([Method::GET, Method::POST])
        // Clients name themselves and what they run on in headers of their own.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID])
}
