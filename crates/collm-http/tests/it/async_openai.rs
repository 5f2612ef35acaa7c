//! The Rust client that others wrote, over a real socket. Its types are stricter about our JSON than Python's.

use std::sync::Arc;

use async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    types::{
        chat::{
            ChatCompletionRequestUserMessageArgs, ChatCompletionStreamOptions, CreateChatCompletionRequest,
            CreateChatCompletionRequestArgs, FinishReason, ResponseFormat, ResponseFormatJsonSchema,
        },
        completions::{CreateCompletionRequest, CreateCompletionRequestArgs},
    },
};
use collm_http::{Api, router, serve};
use collm_node::access::Access;
use futures::StreamExt;
use tokio::net::TcpListener;

use crate::edge::{CONTEXT, Letters, card, defaults, edge};

const KEY: &str = "the key";

/// A client of an edge that wants a key. The edge ends with the test's runtime.
async fn client() -> Client<OpenAIConfig> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let api = Api::new(edge().await, Arc::new(Letters::new()), card(), defaults()).with_keys([KEY.to_owned()]);
    tokio::spawn(serve(listener, router(api), Access::default(), std::future::pending()));
    Client::with_config(OpenAIConfig::new().with_api_base(base).with_api_key(KEY))
}

fn chat(content: &str) -> CreateChatCompletionRequest {
    let message = ChatCompletionRequestUserMessageArgs::default().content(content).build().expect("a message");
    CreateChatCompletionRequestArgs::default()
        .model("letters@standalone")
        .messages([message.into()])
        .temperature(0.0)
        .max_completion_tokens(12u32)
        .build()
        .expect("a request")
}

fn text(prompt: &str) -> CreateCompletionRequest {
    let mut request = CreateCompletionRequestArgs::default();
    request.model("letters").prompt(prompt).temperature(0.0).max_tokens(12u32).build().expect("a request")
}

fn code(error: OpenAIError) -> Option<String> {
    match error {
        OpenAIError::ApiError(response) => response.api_error.code,
        other => panic!("{other} is no answer of the API"),
    }
}

#[tokio::test]
async fn it_reads_models() {
    let client = client().await;
    let models = client.models().list().await.expect("a list");
    let ids: Vec<&str> = models.data.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["letters", "letters@standalone"]);
    assert_eq!(client.models().retrieve("letters").await.expect("a model").owned_by, "collm");
}

#[tokio::test]
async fn it_reads_answers() {
    let client = client().await;
    let answer = client.chat().create(chat("HELLO")).await.expect("an answer");
    let usage = answer.usage.expect("usage");
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (5, 12, 17));
    assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Length));
    let continued = client.completions().create(text("HELLO")).await.expect("an answer");
    assert_eq!(answer.choices[0].message.content.as_ref(), Some(&continued.choices[0].text));
}

#[tokio::test]
async fn it_reads_streams() {
    let client = client().await;
    let whole = client.chat().create(chat("HELLO")).await.expect("an answer");
    let options = ChatCompletionStreamOptions { include_usage: Some(true), include_obfuscation: None };
    let request = CreateChatCompletionRequest { stream_options: Some(options), ..chat("HELLO") };
    let mut stream = client.chat().create_stream(request).await.expect("a stream");
    let (mut words, mut usage) = (String::new(), None);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.expect("a chunk");
        words.extend(chunk.choices.iter().filter_map(|choice| choice.delta.content.as_deref()));
        usage = chunk.usage;
    }
    assert_eq!(Some(words), whole.choices[0].message.content);
    assert_eq!(usage, whole.usage);
}

#[tokio::test]
async fn it_reads_log_probs() {
    let client = client().await;
    let asked = CreateChatCompletionRequest { logprobs: Some(true), top_logprobs: Some(2), ..chat("HELLO") };
    let answer = client.chat().create(asked.clone()).await.expect("an answer");
    let told = answer.choices[0].logprobs.clone().expect("asked for").content.expect("of content");
    let said: String = told.iter().map(|entry| entry.token.as_str()).collect();
    assert_eq!(Some(said), answer.choices[0].message.content);
    assert!(told.iter().all(|entry| entry.top_logprobs.len() == 2 && entry.logprob <= entry.top_logprobs[0].logprob));
    let mut stream = client.chat().create_stream(asked).await.expect("a stream");
    let mut streamed = Vec::new();
    while let Some(chunk) = stream.next().await {
        let choices = chunk.expect("a chunk").choices;
        streamed.extend(choices.into_iter().filter_map(|choice| choice.logprobs?.content).flatten());
    }
    assert_eq!(streamed, told);
    let scored = CreateCompletionRequest { echo: Some(true), logprobs: Some(1), ..text("HELLO") };
    let told = client.completions().create(scored).await.expect("an answer").choices[0].logprobs.clone().expect("told");
    assert_eq!(told.tokens[..5], ["H", "E", "L", "L", "O"]);
    assert!(told.token_logprobs[0].is_none() && told.token_logprobs[1..].iter().all(Option::is_some));
}

#[tokio::test]
async fn it_asks_for_forms() {
    let client = client().await;
    let schema = serde_json::json!({"enum": [true, false]});
    let json_schema = ResponseFormatJsonSchema { name: "either".into(), schema, ..Default::default() };
    let format = ResponseFormat::JsonSchema { json_schema };
    let asked = CreateChatCompletionRequest { response_format: Some(format), ..chat("HELLO") };
    let answer = client.chat().create(asked).await.expect("an answer");
    let said = answer.choices[0].message.content.clone().expect("something");
    assert!(["true", "false"].contains(&said.as_str()), "{said}");
    assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Stop));
}

#[tokio::test]
async fn it_reads_errors() {
    let client = client().await;
    let long = "A".repeat(CONTEXT as usize);
    let too_long = client.chat().create(chat(&long)).await.expect_err("it does not fit");
    assert_eq!(code(too_long).as_deref(), Some("context_length_exceeded"));
    let stranger = client.config().clone().with_api_key("another");
    let refused = Client::with_config(stranger).models().list().await.expect_err("not its key");
    assert_eq!(code(refused).as_deref(), Some("invalid_api_key"));
}
