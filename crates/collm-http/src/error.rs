//! Errors as responses, in one place: every failure of every endpoint becomes
//! `{"error": {"message", "type", "param", "code"}}` here, as clients of OpenAI's API expect.

use axum::{
    Json,
    extract::rejection::JsonRejection,
    http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use collm_core::edge::SubmitError;
use collm_node::{RequestError, SessionIdError, answer::AnswerFailed, text::StopError};
use serde::Serialize;
use tracing::error;

use crate::TextModelError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Not the JSON that was asked for, or too much of it.
    #[error("{}", .0.body_text())]
    Body(#[from] JsonRejection),
    /// A field with an impossible value.
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
    /// A field that other servers honour.
    #[error("{0} is not supported here; leave it out")]
    Unsupported(String),
    #[error("there is no model {name:?} here; the models are {known}")]
    NoSuchModel { name: String, known: String },
    #[error("this server wants a key; send it as `Authorization: Bearer KEY`")]
    NoKey,
    #[error("this is no key of this server")]
    WrongKey,
    #[error("stop: {0}")]
    Stop(#[from] StopError),
    #[error(transparent)]
    Prompt(#[from] TextModelError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Session(#[from] SessionIdError),
    #[error(transparent)]
    Failed(#[from] AnswerFailed),
    #[error(
        "there is no such endpoint; the models are at /v1/models, answers at /v1/chat/completions and /v1/generate"
    )]
    NoSuchEndpoint,
    #[error("this endpoint does not have that method")]
    WrongMethod,
}

/// The body of every error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    error: ErrorContent,
}

#[derive(Debug, Serialize)]
struct ErrorContent {
    /// For people.
    message: String,
    /// Whose fault it is, in OpenAI's words.
    r#type: &'static str,
    /// The field at fault, where it is one.
    param: Option<String>,
    /// For programs. Never changes its meaning.
    code: &'static str,
}

impl ApiError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Body(JsonRejection::BytesRejection(rejection))
                if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE =>
            {
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")
            }
            Self::Body(JsonRejection::MissingJsonContentType(_)) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json"),
            Self::Body(_) | Self::Field { .. } | Self::Stop(_) | Self::Prompt(_) => {
                (StatusCode::BAD_REQUEST, "invalid_request")
            }
            Self::Unsupported(_) => (StatusCode::BAD_REQUEST, "unsupported_parameter"),
            Self::NoSuchModel { .. } => (StatusCode::NOT_FOUND, "model_not_found"),
            Self::NoKey | Self::WrongKey => (StatusCode::UNAUTHORIZED, "invalid_api_key"),
            Self::Request(RequestError::Refused(refusal)) => status_and_code(refusal),
            Self::Request(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            Self::Session(_) | Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::NoSuchEndpoint => (StatusCode::NOT_FOUND, "no_such_endpoint"),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "wrong_method"),
        }
    }

    /// What clients read.
    pub(crate) fn body(&self) -> ErrorBody {
        let (status, code) = self.status_and_code();
        let (message, param) = (self.to_string(), self.param().map(str::to_owned));
        ErrorBody { error: ErrorContent { message, r#type: kind(status), param, code } }
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Field { field, .. } | Self::Unsupported(field) => Some(field),
            Self::Stop(_) => Some("stop"),
            Self::NoSuchModel { .. } => Some("model"),
            Self::Request(RequestError::Refused(refusal)) => param(refusal),
            _ => None,
        }
    }
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

fn param(refusal: &SubmitError) -> Option<&'static str> {
    match refusal {
        SubmitError::NoTokens => Some("max_tokens"),
        SubmitError::Sampling(error) => Some(error.name),
        SubmitError::UnknownBias { .. } => Some("logit_bias"),
        SubmitError::NoCloud(_) | SubmitError::WrongPart(_) | SubmitError::Private(_) => Some("mode"),
        SubmitError::NoBudget(_) => Some("budget"),
        SubmitError::EmptyPrompt | SubmitError::UnknownToken { .. } => Some("prompt"),
        _ => None,
    }
}

fn status_and_code(refusal: &SubmitError) -> (StatusCode, &'static str) {
    match refusal {
        SubmitError::PromptTooLong { .. } => (StatusCode::BAD_REQUEST, "context_length_exceeded"),
        SubmitError::NoCloud(_) => (StatusCode::BAD_REQUEST, "no_cloud"),
        SubmitError::Private(_) => (StatusCode::BAD_REQUEST, "private"),
        SubmitError::WrongPart(_) => (StatusCode::BAD_REQUEST, "wrong_part"),
        SubmitError::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        // Session ids are made here, not by the requester.
        SubmitError::Duplicate(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, _) = self.status_and_code();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            error!(error = %self, "a request failed");
        }
        let mut response = (status, Json(self.body())).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(crate) async fn no_such_endpoint() -> ApiError {
    ApiError::NoSuchEndpoint
}

pub(crate) async fn wrong_method() -> ApiError {
    ApiError::WrongMethod
}
