//! Answers as server-sent events: chunks as they come, a comment now and then while there are none, `[DONE]` at the end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response, Sse,
    sse::{Event, KeepAlive},
};
use collm_core::sampling::LogProbs;
use collm_node::{
    answer::{AnswerFailed, AnswerWriter, Progress},
    text::Vocabulary,
};
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use serde::Serialize;

use super::{
    body::{Body, Choice, Content, Form, Head, Tally},
    log_probs::TokenLog,
    request::{Echo, Streaming},
};
use crate::{Api, TextModel, answering::progress, error::ApiError};

/// Silence after which a comment tells clients and proxies that the answer is still being made.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The event after the last chunk.
const DONE: &str = "[DONE]";

/// Writes the answers of all writers into one stream of events. A client that leaves withdraws them all.
pub(super) fn respond(
    api: &Api,
    head: Head,
    answers: Vec<(AnswerWriter, Option<Echo>)>,
    tally: Tally,
    streaming: Streaming,
) -> Response {
    let (writers, echoes): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    let chunks = Chunks {
        model: api.model.clone(),
        head,
        unfinished: writers.len(),
        told: echoes.into_iter().map(Told::of).collect(),
        answers: merged(writers),
        tally,
        streaming,
    };
    let opening = stream::iter(chunks.opening());
    let rest = stream::unfold(chunks, |mut chunks| async { Some((stream::iter(chunks.next().await?), chunks)) });
    events(opening.chain(rest.flatten())).into_response()
}

fn events(lines: impl Stream<Item = String> + Send + 'static) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = lines.map(|line| Ok(Event::default().data(line)));
    Sse::new(events).keep_alive(KeepAlive::new().interval(SILENCE_MAX))
}

/// What is still to be told of one answer.
#[derive(Default)]
struct Told {
    log: TokenLog,
    /// The prompt, until it is told.
    echo: Option<Echo>,
    /// How likely its tokens were.
    prompt: Vec<LogProbs>,
}

impl Told {
    fn of(echo: Option<Echo>) -> Self {
        Self { echo, ..Self::default() }
    }

    /// The prompt's text, the first time it is asked for. Everything about the prompt is known by then.
    fn prompt(&mut self, vocabulary: &dyn Vocabulary) -> Option<String> {
        let echo = self.echo.take()?;
        self.log.push_prompt(&echo.tokens, std::mem::take(&mut self.prompt), vocabulary);
        Some(echo.text)
    }
}

/// What happens to the answers under way, with the index of each.
type Answers = SelectAll<BoxStream<'static, (u32, Progress)>>;

fn merged(writers: Vec<AnswerWriter>) -> Answers {
    let answers = (0..).zip(writers);
    stream::select_all(answers.map(|(index, writer)| progress(writer).map(move |step| (index, step)).boxed()))
}

/// The answers under way, and what is told of them.
struct Chunks {
    model: Arc<dyn TextModel>,
    head: Head,
    answers: Answers,
    /// What is told of each.
    told: Vec<Told>,
    unfinished: usize,
    tally: Tally,
    streaming: Streaming,
}

impl Chunks {
    /// Before anything is known.
    fn opening(&self) -> Vec<String> {
        match self.head.form {
            Form::Chat => {
                let opened = |index| self.chunk(Choice::unfinished(index, Content::opening()));
                (0..self.unfinished as u32).map(|index| json(&opened(index))).collect()
            }
            Form::Text => Vec::new(),
        }
    }

    /// The next lines, perhaps none; `None` after the last.
    async fn next(&mut self) -> Option<Vec<String>> {
        let (index, step) = self.answers.next().await?;
        Some(match step {
            Progress::Prompt(token) => {
                self.told[index as usize].prompt.push(token.log_probs);
                Vec::new()
            }
            Progress::Token { token, shown } => {
                let mut lines = self.prompt(index);
                self.told[index as usize].log.push(&token);
                lines.extend(self.text(index, &shown).iter().map(json));
                lines
            }
            // Told at the end, with how many tokens it was about.
            Progress::Degraded(_) => Vec::new(),
            Progress::Finished { shown, answer } => {
                self.tally.add(index, &answer);
                let mut lines = self.prompt(index);
                lines.extend(self.text(index, &shown).iter().map(json));
                lines.extend(self.end(index, answer.finish_reason));
                lines
            }
            Progress::Failed(why) => {
                // Half an answer is none: the others end too.
                self.answers.clear();
                vec![json(&ApiError::from(AnswerFailed(why)).body())]
            }
        })
    }

    /// The prompt, if it is still to be told.
    fn prompt(&mut self, index: u32) -> Vec<String> {
        let text = self.told[index as usize].prompt(self.model.as_ref());
        text.and_then(|text| self.chunk_of(index, text)).iter().map(json).collect()
    }

    /// More of an answer, if this is more.
    fn text(&mut self, index: u32, shown: &str) -> Option<Body> {
        self.told[index as usize].log.show(shown);
        self.chunk_of(index, shown.to_owned())
    }

    /// A text, and what can be told of its tokens.
    fn chunk_of(&mut self, index: u32, text: String) -> Option<Body> {
        let form = self.head.form;
        let log_probs = self.told[index as usize].log.settled(form, self.model.as_ref());
        let is_something = !text.is_empty() || log_probs.is_some();
        is_something.then(|| self.chunk(Choice::unfinished(index, Content::more(form, text)).with_log_probs(log_probs)))
    }

    /// One answer is complete; with the last of them, everything.
    fn end(&mut self, index: u32, ended: &'static str) -> Vec<String> {
        self.unfinished -= 1;
        let mut last = self.chunk(Choice::finished(index, Content::nothing_more(self.head.form), ended));
        if self.unfinished > 0 {
            return vec![json(&last)];
        }
        last.collm = Some(self.tally.report.clone());
        let mut lines = vec![json(&last)];
        if self.streaming.include_usage {
            let mut usage = self.head.chunk(Vec::new());
            usage.usage = Some(self.tally.usage);
            lines.push(json(&usage));
        }
        lines.push(DONE.to_owned());
        lines
    }

    fn chunk(&self, choice: Choice) -> Body {
        self.head.chunk(vec![choice])
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("chunks are text, numbers and lists")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let mut body = events(stream::pending()).into_response().into_body().into_data_stream();
        for _ in 0..3 {
            let comment = body.next().await.expect("it does not end").expect("no error");
            assert!(comment.starts_with(b":") && comment.ends_with(b"\n\n"), "{comment:?}");
        }
    }
}
