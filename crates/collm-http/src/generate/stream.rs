//! An answer as lines of JSON, one an event, the last one `finished` or `error`.

use std::convert::Infallible;

use axum::{
    body::Body,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use collm_node::answer::{Answer, AnswerFailed, AnswerToken, AnswerWriter, Progress};
use futures::{StreamExt as _, future::ready};
use serde::Serialize;

use crate::{
    answering::progress,
    error::{ApiError, ErrorBody},
};

/// Of a stream of JSON lines.
const MEDIA_TYPE: &str = "application/x-ndjson";

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    /// One more token.
    Token {
        /// The token.
        token: AnswerToken,
        /// Text to show now; held back while it may become a stop string.
        text: String,
    },
    /// The cloud is not there; the answer goes on at the edge.
    Degraded {
        /// Why.
        reason: String,
    },
    /// The answer is complete.
    Finished {
        /// Text to show now: what was held back.
        text: String,
        /// The report.
        answer: Box<Answer>,
    },
    /// The answer could not be completed.
    Error(ErrorBody),
}

impl Event {
    /// What is told of it, if anything.
    fn of(progress: Progress) -> Option<Self> {
        Some(match progress {
            // Nobody can ask about the prompt here.
            Progress::Prompt(_) => return None,
            Progress::Token { token, shown } => Self::Token { token, text: shown },
            Progress::Degraded(loss) => Self::Degraded { reason: loss.to_string() },
            Progress::Finished { shown, answer } => Self::Finished { text: shown, answer },
            Progress::Failed(why) => Self::Error(ApiError::from(AnswerFailed(why)).body()),
        })
    }
}

pub(super) fn respond(writer: AnswerWriter) -> Response {
    let events = progress(writer).filter_map(|progress| ready(Event::of(progress)));
    let lines = events.map(|event| Ok::<_, Infallible>(line(&event)));
    ([(CONTENT_TYPE, MEDIA_TYPE)], Body::from_stream(lines)).into_response()
}

fn line(event: &Event) -> String {
    let mut line = serde_json::to_string(event).expect("events are text, numbers and lists");
    line.push('\n');
    line
}
