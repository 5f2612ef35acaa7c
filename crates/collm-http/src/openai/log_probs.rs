//! Log-probabilities in OpenAI's words, which differ between its two endpoints.
//!
//! A token is called by the text that it adds. One that adds none, such as the end of an answer, is called `token_id:N`, and bytes
//! that are no character by themselves are called `bytes:\xNN`, so that no two have the same name.

use std::fmt::Write as _;

use collm_core::{
    ids::TokenId,
    sampling::{LogProb, LogProbs as Told},
};
use collm_node::{
    answer::AnswerToken,
    text::{Utf8Stream, Vocabulary},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::body::Form;

/// What is told about the tokens of a choice, or of a chunk of one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum LogProbs {
    Chat { content: Vec<ChatToken>, refusal: () },
    Text(TextTokens),
}

/// One token of a conversation's answer.
#[derive(Debug, Serialize)]
pub(super) struct ChatToken {
    #[serde(flatten)]
    own: Likely,
    top_logprobs: Vec<Likely>,
}

#[derive(Debug, Serialize)]
struct Likely {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

/// Tokens of a text, one entry a token in each list.
#[derive(Debug, Default, Serialize)]
pub(super) struct TextTokens {
    tokens: Vec<String>,
    /// `null` for a text's first token, which nothing comes before.
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    /// Characters before the token.
    text_offset: Vec<usize>,
}

/// A token on its way to being told: not before the text that it adds is shown, since a stop string may yet take that back.
#[derive(Debug)]
struct Waiting {
    id: TokenId,
    told: Option<Told>,
    offset: usize,
}

/// The tokens of one choice, in order.
#[derive(Debug, Default)]
pub(super) struct TokenLog {
    waiting: Vec<Waiting>,
    /// Characters of the tokens' text so far.
    length: usize,
    /// Characters shown.
    shown: usize,
}

impl TokenLog {
    /// One more token, with what is known about it.
    pub(super) fn push(&mut self, token: &AnswerToken) {
        if token.log_probs.is_some() {
            self.wait(TokenId(token.id), token.log_probs.clone());
        }
        self.length += token.text.chars().count();
    }

    /// The prompt's tokens, which come first and are shown as they are; `told` says something of all but the first.
    pub(super) fn push_prompt(&mut self, tokens: &[TokenId], told: Vec<Told>, vocabulary: &dyn Vocabulary) {
        let mut text = Utf8Stream::default();
        for (&id, told) in tokens.iter().zip(std::iter::once(None).chain(told.into_iter().map(Some))) {
            self.wait(id, told);
            self.length += text.push(vocabulary.token_bytes(id)).chars().count();
        }
        self.length += text.finish().chars().count();
        self.shown = self.length;
    }

    fn wait(&mut self, id: TokenId, told: Option<Told>) {
        self.waiting.push(Waiting { id, told, offset: self.length });
    }

    /// More of the text is shown.
    pub(super) fn show(&mut self, shown: &str) {
        self.shown += shown.chars().count();
    }

    /// What can be told by now and was not told before, if anything.
    pub(super) fn settled(&mut self, form: Form, vocabulary: &dyn Vocabulary) -> Option<LogProbs> {
        let is_shown =
            |token: &&Waiting| token.offset < self.shown || (token.offset == self.shown && vocabulary.is_end(token.id));
        let settled = self.waiting.iter().take_while(is_shown).count();
        let tokens: Vec<Waiting> = self.waiting.drain(..settled).collect();
        (!tokens.is_empty()).then(|| LogProbs::of(tokens, form, vocabulary))
    }
}

impl LogProbs {
    fn of(tokens: Vec<Waiting>, form: Form, vocabulary: &dyn Vocabulary) -> Self {
        match form {
            Form::Chat => {
                let content = tokens.iter().filter_map(|token| ChatToken::of(token, vocabulary)).collect();
                Self::Chat { content, refusal: () }
            }
            Form::Text => {
                let mut told = TextTokens::default();
                tokens.into_iter().for_each(|token| told.push(&token, vocabulary));
                Self::Text(told)
            }
        }
    }
}

impl ChatToken {
    fn of(token: &Waiting, vocabulary: &dyn Vocabulary) -> Option<Self> {
        let told = token.told.as_ref()?;
        let own = Likely::of(LogProb { token: token.id, log_prob: told.own }, vocabulary);
        Some(Self { own, top_logprobs: told.top.iter().map(|&entry| Likely::of(entry, vocabulary)).collect() })
    }
}

impl Likely {
    fn of(LogProb { token, log_prob }: LogProb, vocabulary: &dyn Vocabulary) -> Self {
        let bytes = vocabulary.token_bytes(token).to_vec();
        Self { token: name(token, vocabulary), logprob: log_prob.into(), bytes }
    }
}

impl TextTokens {
    fn push(&mut self, token: &Waiting, vocabulary: &dyn Vocabulary) {
        self.tokens.push(name(token.id, vocabulary));
        self.token_logprobs.push(token.told.as_ref().map(|told| told.own.into()));
        self.top_logprobs.push(token.told.as_ref().map(|told| top(token.id, told, vocabulary)));
        self.text_offset.push(token.offset);
    }
}

/// The most likely tokens, and the token itself if it is none of them.
fn top(own: TokenId, told: &Told, vocabulary: &dyn Vocabulary) -> Map<String, Value> {
    let own = LogProb { token: own, log_prob: told.own };
    let all = told.top.iter().chain([&own]);
    all.map(|entry| (name(entry.token, vocabulary), Value::from(f64::from(entry.log_prob)))).collect()
}

/// What a token is called.
fn name(token: TokenId, vocabulary: &dyn Vocabulary) -> String {
    let bytes = vocabulary.token_bytes(token);
    match std::str::from_utf8(bytes) {
        Ok("") => format!("token_id:{token}"),
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold(String::from("bytes:"), |mut name, byte| {
            write!(name, "\\x{byte:02x}").expect("strings take everything");
            name
        }),
    }
}
