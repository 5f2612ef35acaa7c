//! Models as clients name them: `NAME` answers as the edge does by default, `NAME@MODE` in that mode.

use axum::{
    Json,
    extract::{Path, State},
};
use collm_core::policy::Mode;
use serde::Serialize;

use super::body::unix_seconds;
use crate::{Api, error::ApiError};

/// `GET /v1/models`
pub(crate) async fn models(State(api): State<Api>) -> Json<ModelList> {
    let named =
        api.modes().iter().map(|&mode| ModelEntry::new(&api, format!("{}@{}", api.card.name, mode.name()), mode));
    let plain = ModelEntry::new(&api, api.card.name.clone(), api.defaults.mode);
    Json(ModelList { object: "list", data: std::iter::once(plain).chain(named).collect() })
}

/// `GET /v1/models/{id}`
pub(crate) async fn model(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<ModelEntry>, ApiError> {
    let mode = mode_of(&api, &id)?.unwrap_or(api.defaults.mode);
    Ok(Json(ModelEntry::new(&api, id, mode)))
}

/// The mode that a model's name asks for, if it does.
pub(super) fn mode_of(api: &Api, model: &str) -> Result<Option<Mode>, ApiError> {
    let unknown = || ApiError::NoSuchModel { name: model.to_owned(), known: known(api) };
    let rest = model.strip_prefix(&api.card.name).ok_or_else(unknown)?;
    if rest.is_empty() {
        return Ok(None);
    }
    let mode = rest.strip_prefix('@').and_then(|name| api.modes().iter().find(|mode| mode.name() == name));
    mode.copied().map(Some).ok_or_else(unknown)
}

fn known(api: &Api) -> String {
    let name = &api.card.name;
    let modes = api.modes().iter().map(|mode| format!("{name}@{}", mode.name()));
    std::iter::once(name.clone()).chain(modes).collect::<Vec<_>>().join(", ")
}

#[derive(Debug, Serialize)]
pub(crate) struct ModelList {
    object: &'static str,
    data: Vec<ModelEntry>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ModelEntry {
    id: String,
    object: &'static str,
    /// When this process began to serve it.
    created: u64,
    owned_by: &'static str,
    /// Tokens of prompt and answer together.
    max_model_len: u32,
    collm: ModelReport,
}

#[derive(Debug, Serialize)]
struct ModelReport {
    mode: &'static str,
}

impl ModelEntry {
    fn new(api: &Api, id: String, mode: Mode) -> Self {
        Self {
            id,
            object: "model",
            created: unix_seconds(api.started),
            owned_by: "collm",
            max_model_len: api.card.context,
            collm: ModelReport { mode: mode.name() },
        }
    }
}
