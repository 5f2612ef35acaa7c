//! The API over an edge with a scripted engine.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header::CONTENT_TYPE},
};
use collm_core::{
    edge::{BreakerConfig, EdgeConfig, ExactUpload, SecondStage},
    frame::Identity,
    ids::TokenId,
    limits::Limits,
    policy::{Mode, Threshold},
    states::Encoding,
};
use collm_engine::scripted::{Script, ScriptedEngine, Sizes, WIDTH};
use collm_http::{
    Api, BODY_BYTES_MAX, ChatMessage, Defaults, Markup, ServeError, TextModel, TextModelError, router, serve,
};
use collm_node::{EdgeHandle, EdgeNode, EdgeOptions, text::Vocabulary};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tower::ServiceExt;

const VOCABULARY: u32 = 64;
const CONTEXT: u32 = 128;

/// Tokens are letters: token 1 is `A`, 26 is `Z`, and so on; token 0 ends a turn.
struct Letters(Vec<u8>);

impl Letters {
    fn new() -> Self {
        Self((0..VOCABULARY as u8).map(|token| b'@' + token).collect())
    }
}

impl Vocabulary for Letters {
    fn token_bytes(&self, token: TokenId) -> &[u8] {
        std::slice::from_ref(&self.0[token.0 as usize])
    }

    fn is_end(&self, token: TokenId) -> bool {
        token.0 == 0
    }
}

impl TextModel for Letters {
    fn render_chat(&self, messages: &[ChatMessage]) -> Result<String, TextModelError> {
        match messages {
            [] => Err(TextModelError("there are no messages".into())),
            messages => Ok(messages.iter().map(|message| message.content.as_str()).collect()),
        }
    }

    fn tokenize(&self, text: &str, _markup: Markup) -> Result<Vec<TokenId>, TextModelError> {
        let token = |letter: u8| letter.checked_sub(b'@').filter(|token| u32::from(*token) < VOCABULARY);
        let tokens: Option<_> = text.bytes().map(|letter| token(letter).map(|token| TokenId(token.into()))).collect();
        tokens.ok_or_else(|| TextModelError("only letters".into()))
    }

    fn end_tokens(&self) -> &[TokenId] {
        &[TokenId(0)]
    }
}

async fn edge() -> EdgeHandle {
    let script = Script { turn_ends: 0.0, ..Script::default() };
    let sizes = Sizes { slots: 2, context: CONTEXT as usize, batch_rows_max: 32 };
    let identity = Identity {
        pair: "5c".repeat(8),
        source: "a0".repeat(32),
        upload_at: 10,
        width: WIDTH as u32,
        vocabulary: VOCABULARY,
    };
    let config = EdgeConfig {
        identity,
        second: SecondStage::Tail,
        has_exit1: true,
        has_cloud: false,
        context: CONTEXT,
        slots: 2,
        waiting_max: 2,
        job_rows_max: 32,
        upload_rows_max: 32,
        encoding: Encoding::F16,
        exact_upload: ExactUpload::States,
        ask_deadline: Duration::from_secs(60),
        breaker: BreakerConfig::default(),
    };
    let options = EdgeOptions { config, cloud: None, limits: Limits::DEFAULT };
    let engine = move || Ok::<_, Infallible>(ScriptedEngine::edge(script, sizes));
    EdgeNode::start(options, engine).await.expect("a scripted engine always loads")
}

async fn api() -> Router {
    router(Api::new(edge().await, Arc::new(Letters::new()), defaults()).with_metrics(|| "collm_up 1\n".into()))
}

fn defaults() -> Defaults {
    Defaults { mode: Mode::Standalone, threshold: Threshold::DEFAULT, tokens_max: 10 }
}

async fn get(api: &Router, path: &str) -> Response<Body> {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    api.clone().oneshot(request).await.expect("infallible")
}

async fn post(api: &Router, body: impl Into<Body>) -> Response<Body> {
    let request = Request::post("/v1/generate").header(CONTENT_TYPE, "application/json");
    api.clone().oneshot(request.body(body.into()).expect("a request")).await.expect("infallible")
}

async fn text(response: Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

async fn answer(api: &Router, body: Value) -> Value {
    let response = post(api, body.to_string()).await;
    let status = response.status();
    let text = text(response).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

async fn refused(response: Response<Body>) -> (StatusCode, String, String) {
    let status = response.status();
    let body: Value = serde_json::from_str(&text(response).await).expect("JSON");
    let part = |name: &str| body["error"][name].as_str().expect("a string").to_owned();
    (status, part("code"), part("message"))
}

#[tokio::test]
async fn an_answer_comes_with_its_report() {
    let api = api().await;
    let answer = answer(&api, json!({"prompt": "HELLO", "max_tokens": 12})).await;
    assert_eq!(answer["finish_reason"], "length");
    assert_eq!(answer["degraded"], false);
    assert_eq!(answer["stats"]["prompt_tokens"], 5);
    let tokens = answer["tokens"].as_array().expect("a list");
    assert_eq!(tokens.len(), 12);
    let joined: String = tokens.iter().map(|token| token["text"].as_str().expect("a string")).collect();
    assert_eq!(answer["text"], joined);
}

#[tokio::test]
async fn a_conversation_goes_through_the_template() {
    let api = api().await;
    let messages = json!([{"role": "system", "content": "HE"}, {"role": "user", "content": "LLO"}]);
    let chat = answer(&api, json!({"messages": messages})).await;
    let plain = answer(&api, json!({"prompt": "HELLO"})).await;
    assert_eq!(chat["text"], plain["text"]);
}

#[tokio::test]
async fn a_stream_says_the_same_line_by_line() {
    let api = api().await;
    let whole = answer(&api, json!({"prompt": "HELLO"})).await;
    let stop = &whole["text"].as_str().expect("a string")[6..8];
    let response = post(&api, json!({"prompt": "HELLO", "stream": true, "stop": [stop]}).to_string()).await;
    assert_eq!(response.headers()[CONTENT_TYPE], "application/x-ndjson");
    let lines: Vec<Value> =
        text(response).await.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (last, tokens) = lines.split_last().expect("lines");
    assert!(tokens.iter().all(|line| line["type"] == "token"));
    let shown: String = lines.iter().map(|line| line["text"].as_str().expect("a string")).collect();
    assert_eq!(shown, whole["text"].as_str().expect("a string")[..6]);
    assert_eq!((&last["type"], &last["answer"]["finish_reason"]), (&json!("finished"), &json!("stop")));
    assert_eq!(last["answer"]["text"], shown);
}

#[tokio::test]
async fn a_client_that_leaves_makes_room() {
    let api = api().await;
    // More than two answers and two requests that wait: the later ones are served only if the earlier ones are gone.
    for _ in 0..20 {
        let body = json!({"prompt": "HELLO", "stream": true, "max_tokens": 100}).to_string();
        let response = post(&api, body).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut lines = response.into_body().into_data_stream();
        lines.next().await.expect("a line").expect("no error");
    }
    assert_eq!(answer(&api, json!({"prompt": "HELLO"})).await["finish_reason"], "length");
}

#[tokio::test]
async fn bad_requests_are_named() {
    let api = api().await;
    let cases = [
        (json!({}), "invalid_request", "give either prompt or messages"),
        (json!({"prompt": "A", "messages": []}), "invalid_request", "and not both"),
        (json!({"messages": []}), "invalid_request", "there are no messages"),
        (json!({"prompt": "A4"}), "invalid_request", "only letters"),
        (json!({"prompt": ""}), "invalid_request", "the prompt is empty"),
        (json!({"prompt": "A".repeat(CONTEXT as usize)}), "prompt_too_long", "has 128 tokens"),
        (json!({"prompt": "A", "mode": "telepathy"}), "invalid_request", "\"telepathy\" is none of whole,"),
        (json!({"prompt": "A", "mode": "collaborative"}), "no_cloud", "needs a cloud"),
        (json!({"prompt": "A", "mode": "whole"}), "wrong_part", "does not fit the file"),
        (json!({"prompt": "A", "threshold": -1}), "invalid_request", "-1 is not 0 or more"),
        (json!({"prompt": "A", "max_tokens": 0}), "invalid_request", "0 tokens"),
        (json!({"prompt": "A", "temperature": -1}), "invalid_request", "temperature is -1"),
        (json!({"prompt": "A", "stop": [""]}), "invalid_request", "a stop string is empty"),
        (json!({"prompt": "A", "stopp": []}), "invalid_request", "unknown field `stopp`"),
    ];
    for (body, code, message) in cases {
        let (status, refused_code, refused_message) = refused(post(&api, body.to_string()).await).await;
        assert_eq!((status, refused_code.as_str()), (StatusCode::BAD_REQUEST, code), "{body}: {refused_message}");
        assert!(refused_message.contains(message), "{refused_message:?} lacks {message:?}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_named() {
    let api = api().await;
    let (status, code, _) = refused(post(&api, "{").await).await;
    assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "invalid_request"));
    let large = json!({"prompt": "A".repeat(BODY_BYTES_MAX)}).to_string();
    let (status, code, _) = refused(post(&api, large).await).await;
    assert_eq!((status, code.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    let (status, code, _) = refused(get(&api, "/v1/generate").await).await;
    assert_eq!((status, code.as_str()), (StatusCode::METHOD_NOT_ALLOWED, "wrong_method"));
    let (status, code, _) = refused(get(&api, "/v2").await).await;
    assert_eq!((status, code.as_str()), (StatusCode::NOT_FOUND, "no_such_endpoint"));
}

#[tokio::test]
async fn watchers_learn_how_it_is() {
    let edge = edge().await;
    let api =
        router(Api::new(edge.clone(), Arc::new(Letters::new()), defaults()).with_metrics(|| "collm_up 1\n".into()));
    assert_eq!(get(&api, "/health").await.status(), StatusCode::OK);
    assert_eq!(get(&api, "/ready").await.status(), StatusCode::OK);
    assert_eq!(text(get(&api, "/metrics").await).await, "collm_up 1\n");
    edge.drain().await;
    // The driver has told the drain of its end before its queue closes.
    while get(&api, "/ready").await.status() == StatusCode::OK {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&api, "/health").await.status(), StatusCode::OK);
    let (status, code, _) = refused(post(&api, json!({"prompt": "A"}).to_string()).await).await;
    assert_eq!((status, code.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "stopping"));
}

#[tokio::test]
async fn it_serves_until_told_to_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, api().await, false, async { drop(stopped.await) }));
    let mut client = TcpStream::connect(address).await.expect("it listens");
    client.write_all(b"GET /health HTTP/1.1\r\nhost: collm\r\nconnection: close\r\n\r\n").await.expect("it reads");
    let mut reply = String::new();
    client.read_to_string(&mut reply).await.expect("it answers");
    assert!(reply.starts_with("HTTP/1.1 200 OK") && reply.ends_with("ok"), "{reply}");
    stop.send(()).expect("it runs");
    serving.await.expect("no panic").expect("it stops");
}

#[tokio::test]
async fn it_is_not_exposed_by_accident() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
    let served = serve(listener, api().await, false, std::future::pending()).await;
    assert!(matches!(served, Err(ServeError::Remote(_))));
}
