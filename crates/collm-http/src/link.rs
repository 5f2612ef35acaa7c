//! `/link`: the emulated way to the cloud, where the edge has one. Shows it, cuts it and mends it, so that one can see what
//! becomes of an answer meanwhile. For demonstrations: an edge with a real cloud does not have this endpoint.

use axum::{
    Json, Router,
    extract::State,
    routing::{MethodRouter, get},
};
use collm_link::LinkControl;
use serde::Serialize;

use crate::{error::ApiError, fields::Fields};

/// The endpoint at `/link`, which commands this link.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(link: LinkControl) -> Router<S> {
    let methods: MethodRouter<LinkControl> = get(show).post(switch);
    Router::new().route("/link", methods.with_state(link))
}

/// `GET /link`
async fn show(State(link): State<LinkControl>) -> Json<LinkReport> {
    Json(LinkReport::of(&link))
}

/// `POST /link`: `{"cut": true}` breaks all connections to the cloud and lets no other through, `{"cut": false}` mends it.
async fn switch(State(link): State<LinkControl>, mut fields: Fields) -> Result<Json<LinkReport>, ApiError> {
    let cut = fields.require("cut")?;
    fields.refuse_rest()?;
    if cut {
        link.cut();
    } else {
        link.restore();
    }
    Ok(Json(LinkReport::of(&link)))
}

/// What the emulated link is like.
#[derive(Debug, Serialize)]
pub(crate) struct LinkReport {
    /// Whether nothing passes.
    cut: bool,
    rtt_ms: f64,
    /// Bits a second as people write them: `30mbit`.
    up: String,
    down: String,
}

impl LinkReport {
    pub(crate) fn of(link: &LinkControl) -> Self {
        let spec = link.spec();
        Self {
            cut: link.is_cut(),
            rtt_ms: spec.rtt.as_secs_f64() * 1e3,
            up: spec.up.to_string(),
            down: spec.down.to_string(),
        }
    }
}
