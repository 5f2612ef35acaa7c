//! The API that programs written for OpenAI's speak: `/v1/chat/completions`, `/v1/completions` and `/v1/models`, as OpenAI
//! documents them, with one object of our own, `collm`, in requests and responses.
//!
//! A field that would change the answer and that nobody here honours is refused by name (`unsupported`). Deliberately
//! absent: grammars, tools.

mod body;
mod log_probs;
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
use collm_node::answer::{Answer, AnswerWriter};
use futures::future::try_join_all;

use self::{
    body::{Choice, Content, Form, Head, Tally},
    log_probs::TokenLog,
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
        return Ok(stream::respond(api, head, writers, tally, streaming));
    }
    let answers = try_join_all(writers.into_iter().map(AnswerWriter::complete)).await?;
    answers.iter().for_each(|answer| tally.add(answer));
    let choices = (0..).zip(answers).map(|(index, answer)| whole_choice(api, form, index, answer));
    Ok(Json(head.whole(choices.collect(), tally)).into_response())
}

fn whole_choice(api: &Api, form: Form, index: u32, answer: Answer) -> Choice {
    let mut log = TokenLog::default();
    answer.tokens.iter().for_each(|token| log.push(token));
    let log_probs = log.show(&answer.text, form, api.model.as_ref());
    Choice::finished(index, Content::whole(form, answer.text), answer.finish_reason).with_log_probs(log_probs)
}
