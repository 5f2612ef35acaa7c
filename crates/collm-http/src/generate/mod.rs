//! `POST /v1/generate`: this project's own endpoint, which shows everything about an answer.

mod request;
mod stream;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};

use self::request::GenerateRequest;
use crate::{Api, aside::aside, error::ApiError, fields::Fields};

/// Answers with the report of a finished answer, or with its events as they come.
pub(crate) async fn generate(State(api): State<Api>, fields: Fields) -> Result<Response, ApiError> {
    let reader = api.clone();
    let request = aside(move || GenerateRequest::parse(fields, &reader)).await?;
    let writer = request.terms.begin(&api, request.prompt).await?;
    if request.stream {
        return Ok(stream::respond(writer));
    }
    Ok(Json(writer.complete().await?).into_response())
}
