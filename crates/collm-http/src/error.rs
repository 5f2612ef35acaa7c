//! Errors as responses, in one place: every failure of every endpoint becomes `{"error": {"code", "message"}}` here.

use axum::{
    Json,
    extract::rejection::JsonRejection,
    http::StatusCode,
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
    Field { field: &'static str, problem: String },
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
    #[error("there is no such endpoint; see /v1/generate")]
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
    /// For programs. Never changes its meaning.
    code: &'static str,
    /// For people.
    message: String,
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
            Self::Request(RequestError::Refused(refusal)) => status_and_code(refusal),
            Self::Request(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            Self::Session(_) | Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::NoSuchEndpoint => (StatusCode::NOT_FOUND, "no_such_endpoint"),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "wrong_method"),
        }
    }

    /// What clients read.
    pub(crate) fn body(&self) -> ErrorBody {
        let (_, code) = self.status_and_code();
        ErrorBody { error: ErrorContent { code, message: self.to_string() } }
    }
}

fn status_and_code(refusal: &SubmitError) -> (StatusCode, &'static str) {
    match refusal {
        SubmitError::PromptTooLong { .. } => (StatusCode::BAD_REQUEST, "prompt_too_long"),
        SubmitError::NoCloud(_) => (StatusCode::BAD_REQUEST, "no_cloud"),
        SubmitError::WrongPart(_) => (StatusCode::BAD_REQUEST, "wrong_part"),
        SubmitError::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        // Session ids and tokens are made here, not by the requester.
        SubmitError::Duplicate(_) | SubmitError::UnknownToken { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, _) = self.status_and_code();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            error!(error = %self, "a request failed");
        }
        (status, Json(self.body())).into_response()
    }
}

pub(crate) async fn no_such_endpoint() -> ApiError {
    ApiError::NoSuchEndpoint
}

pub(crate) async fn wrong_method() -> ApiError {
    ApiError::WrongMethod
}
