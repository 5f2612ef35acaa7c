//! `POST /v1/generate`: this project's own endpoint, which shows everything about an answer.

mod request;
mod stream;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    response::{IntoResponse, Response},
};
use collm_node::{answer::AnswerWriter, fresh_session};

use self::request::GenerateRequest;
use crate::{Api, error::ApiError};

/// Answers with the report of a finished answer, or with its events as they come.
pub(crate) async fn generate(
    State(api): State<Api>,
    body: Result<Json<GenerateRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(body) = body?;
    let streams = body.stream;
    let writer = begin(&api, body).await?;
    if streams {
        return Ok(stream::respond(writer));
    }
    Ok(Json(writer.complete().await?).into_response())
}

/// Submits a request. Dropping the writer, as happens when the client leaves, withdraws it.
async fn begin(api: &Api, body: GenerateRequest) -> Result<AnswerWriter, ApiError> {
    let (request, stop) = body.parse(fresh_session()?, api.model.as_ref(), &api.defaults)?;
    let stream = api.edge.submit(request).await?;
    Ok(AnswerWriter::new(stream, api.model.clone(), stop))
}
