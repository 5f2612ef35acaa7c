//! `/v1/generate`.

use axum::http::{StatusCode, header::CONTENT_TYPE};
use collm_http::BODY_BYTES_MAX;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::edge::{CONTEXT, answer, api, get, post, refused, text};

const PATH: &str = "/v1/generate";

#[tokio::test]
async fn an_answer_comes_with_its_report() {
    let api = api().await;
    let answer = answer(&api, PATH, json!({"prompt": "HELLO", "max_tokens": 12})).await;
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
    let chat = answer(&api, PATH, json!({"messages": messages})).await;
    let plain = answer(&api, PATH, json!({"prompt": "HELLO"})).await;
    assert_eq!(chat["text"], plain["text"]);
}

#[tokio::test]
async fn a_stream_says_the_same_line_by_line() {
    let api = api().await;
    let whole = answer(&api, PATH, json!({"prompt": "HELLO"})).await;
    let stop = &whole["text"].as_str().expect("a string")[6..8];
    let response = post(&api, PATH, json!({"prompt": "HELLO", "stream": true, "stop": [stop]}).to_string()).await;
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
        let response = post(&api, PATH, body).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut lines = response.into_body().into_data_stream();
        lines.next().await.expect("a line").expect("no error");
    }
    assert_eq!(answer(&api, PATH, json!({"prompt": "HELLO"})).await["finish_reason"], "length");
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
        (json!({"prompt": "A".repeat(CONTEXT as usize)}), "context_length_exceeded", "has 128 tokens"),
        (json!({"prompt": "A", "mode": "telepathy"}), "invalid_request", "\"telepathy\" is none of whole,"),
        (json!({"prompt": "A", "mode": "collaborative"}), "no_cloud", "needs a cloud"),
        (json!({"prompt": "A", "mode": "whole"}), "wrong_part", "does not fit the file"),
        (json!({"prompt": "A", "threshold": -1}), "invalid_request", "-1 is not 0 or more"),
        (json!({"prompt": "A", "max_tokens": 0}), "invalid_request", "0 tokens"),
        (json!({"prompt": "A", "temperature": -1}), "invalid_request", "temperature is -1"),
        (json!({"prompt": "A", "stop": [""]}), "invalid_request", "a stop string is empty"),
        (json!({"prompt": "A", "stopp": []}), "invalid_request", "stopp: there is no such field"),
    ];
    for (body, code, message) in cases {
        let (status, refused_code, refused_message) = refused(post(&api, PATH, body.to_string()).await).await;
        assert_eq!((status, refused_code.as_str()), (StatusCode::BAD_REQUEST, code), "{body}: {refused_message}");
        assert!(refused_message.contains(message), "{refused_message:?} lacks {message:?}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_named() {
    let api = api().await;
    let (status, code, _) = refused(post(&api, PATH, "{").await).await;
    assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "invalid_request"));
    let large = json!({"prompt": "A".repeat(BODY_BYTES_MAX)}).to_string();
    let (status, code, _) = refused(post(&api, PATH, large).await).await;
    assert_eq!((status, code.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    let (status, code, _) = refused(get(&api, "/v1/generate").await).await;
    assert_eq!((status, code.as_str()), (StatusCode::METHOD_NOT_ALLOWED, "wrong_method"));
    let (status, code, _) = refused(get(&api, "/v2").await).await;
    assert_eq!((status, code.as_str()), (StatusCode::NOT_FOUND, "no_such_endpoint"));
}
