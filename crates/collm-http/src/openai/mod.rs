//! The API that programs written for OpenAI's speak: `/v1/chat/completions`, `/v1/completions` and `/v1/models`, as OpenAI
//! documents them, with one object of our own, `collm`, in requests and responses.
//!
//! A field that would change the answer and that nobody here honours is refused by name (`unsupported`). Deliberately
//! absent: log-probabilities, grammars, tools.

mod body;
mod models;
mod prompt;
mod request;
mod stream;
mod unsupported;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use collm_node::answer::AnswerWriter;
use futures::future::try_join_all;

use self::{
    body::{Choice, Content, Form, Head, Tally},
    request::CompletionRequest,
};
pub(crate) use self::{
    models::{model, models},
    prompt::conversation,
};
use crate::{Api, error::ApiError, fields::Fields};

/// `POST /v1/chat/completions`
pub(crate) async fn chat_completions(State(api): State<Api>, fields: Fields) -> Result<Response, ApiError> {
    complete(&api, fields, Form::Chat).await
}

/// `POST /v1/completions`
pub(crate) async fn completions(State(api): State<Api>, fields: Fields) -> Result<Response, ApiError> {
    complete(&api, fields, Form::Text).await
}

async fn complete(api: &Api, fields: Fields, form: Form) -> Result<Response, ApiError> {
    let request = CompletionRequest::parse(fields, form, api)?;
    let mut tally = Tally::new(request.mode(), request.prompt_tokens());
    // All of them or none: what has begun is withdrawn when a later one is refused.
    let writers =
        try_join_all(request.choices().map(|(terms, prompt)| async move { terms.begin(api, prompt).await })).await?;
    let head = Head::new(form, request.model)?;
    if let Some(streaming) = request.streaming {
        return Ok(stream::respond(head, writers, tally, streaming));
    }
    let answers = try_join_all(writers.into_iter().map(AnswerWriter::complete)).await?;
    answers.iter().for_each(|answer| tally.add(answer));
    let choices = (0..)
        .zip(answers)
        .map(|(index, answer)| Choice::finished(index, Content::whole(form, answer.text), answer.finish_reason));
    Ok(Json(head.whole(choices.collect(), tally)).into_response())
}
