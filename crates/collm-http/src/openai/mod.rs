//! The API that programs written for OpenAI's speak: `/v1/chat/completions`, `/v1/completions` and `/v1/models`, as OpenAI
//! documents them, with one object of our own, `collm`, in requests and responses.
//!
//! A field that would change the answer and that nobody here honours is refused by name (`unsupported`). Deliberately
//! absent: tools.

mod body;
mod json;
mod log_probs;
mod models;
mod prompt;
mod request;
mod stream;
mod unsupported;

use std::iter::zip;

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
    prompt::Prompt,
    request::{CompletionRequest, Echo},
};
pub(crate) use self::{
    models::{model, models},
    prompt::conversation,
};
use crate::{Api, answering::Terms, aside::aside, error::ApiError, fields::Fields};

/// `POST /v1/chat/completions`
pub(crate) async fn chat_completions(State(api): State<Api>, fields: Fields) -> Result<Response, ApiError> {
    complete(&api, fields, Form::Chat).await
}

/// `POST /v1/completions`
pub(crate) async fn completions(State(api): State<Api>, fields: Fields) -> Result<Response, ApiError> {
    complete(&api, fields, Form::Text).await
}

async fn complete(api: &Api, fields: Fields, form: Form) -> Result<Response, ApiError> {
    let reader = api.clone();
    let request = aside(move || CompletionRequest::parse(fields, form, &reader)).await?;
    let mut tally = Tally::new(request.mode(), request.prompt_tokens());
    // All of them or none: what has begun is withdrawn when a later one is refused.
    let writers = try_join_all(request.choices().map(|(terms, prompt)| begin(api, terms, prompt))).await?;
    let echoes = request.echoes(api);
    let head = Head::new(form, request.model)?;
    if let Some(streaming) = request.streaming {
        return Ok(stream::respond(api, head, zip(writers, echoes).collect(), tally, streaming));
    }
    let answers = try_join_all(writers.into_iter().map(AnswerWriter::complete)).await?;
    (0..).zip(&answers).for_each(|(index, answer)| tally.add(index, answer));
    let told = zip(answers, echoes);
    let choices = (0..).zip(told).map(|(index, (answer, echo))| whole_choice(api, form, index, answer, echo));
    Ok(Json(head.whole(choices.collect(), tally)).into_response())
}

async fn begin(api: &Api, terms: Terms, prompt: &Prompt) -> Result<AnswerWriter, ApiError> {
    terms.begin(api, prompt.tokens.clone()).await
}

fn whole_choice(api: &Api, form: Form, index: u32, answer: Answer, echo: Option<Echo>) -> Choice {
    let mut log = TokenLog::default();
    let mut text = String::new();
    if let Some(echo) = echo {
        text = echo.text;
        let told = answer.prompt.into_iter().map(|token| token.log_probs).collect();
        log.push_prompt(&echo.tokens, told, api.model.as_ref());
    }
    answer.tokens.iter().for_each(|token| log.push(token));
    log.show(&answer.text);
    let log_probs = log.settled(form, api.model.as_ref());
    text.push_str(&answer.text);
    Choice::finished(index, Content::whole(form, text), answer.finish_reason).with_log_probs(log_probs)
}
