//! What programs written for OpenAI's API rely on.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
};
use collm_http::{Api, Defaults, router};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::edge::{
    CONTEXT, Letters, answer, api, api_of, card, defaults, edge, failing_edge, get, post, refused, text,
};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// The data of all events, and whether the stream ended as it should.
async fn events(api: &Router, path: &str, body: Value) -> (Vec<Value>, bool) {
    let response = post(api, path, body.to_string()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    let stream = text(response).await;
    let mut data: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let done = data.pop_if(|last| *last == "[DONE]").is_some();
    (data.into_iter().map(|data| serde_json::from_str(data).expect("JSON")).collect(), done)
}

/// What the chunks say of one choice: its text and every reason for its end.
fn told(chunks: &[Value], index: u32) -> (String, Vec<&str>) {
    let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().expect("a list"));
    let mine: Vec<&Value> = choices.filter(|choice| choice["index"] == index).collect();
    let words = |choice: &Value| choice["text"].as_str().or(choice["delta"]["content"].as_str()).map(str::to_owned);
    let reasons = mine.iter().filter_map(|choice| choice["finish_reason"].as_str()).collect();
    (mine.iter().filter_map(|choice| words(choice)).collect(), reasons)
}

fn usage(prompt: u32, completion: u32) -> Value {
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    })
}

fn hello() -> Value {
    json!([{"role": "user", "content": "HELLO"}])
}

#[tokio::test]
async fn a_conversation_is_answered() {
    let api = api().await;
    let body = json!({"model": "letters", "messages": hello(), "temperature": 0, "max_tokens": 12, "user": "somebody"});
    let chat = answer(&api, CHAT, body).await;
    let own = answer(&api, "/v1/generate", json!({"prompt": "HELLO", "max_tokens": 12})).await;
    assert_eq!((&chat["object"], &chat["model"]), (&json!("chat.completion"), &json!("letters")));
    let choice = &chat["choices"][0];
    assert_eq!(choice["message"], json!({"role": "assistant", "content": own["text"]}));
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("length")));
    assert_eq!(chat["usage"], usage(5, 12));
    let (report, stats) = (&chat["collm"], &own["stats"]);
    assert_eq!((&report["mode"], &report["degraded"]), (&json!("standalone"), &json!(false)));
    assert_eq!(report["tokens"]["exit1"], stats["exit1_tokens"]);
    assert_eq!(report["tokens"]["exit2"], stats["exit2_tokens"]);
    assert_eq!((&report["bytes_up"], &report["waits"]["count"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_second_turn_says_what_was_kept_of_the_first() {
    let api = api().await;
    let asked = |messages: &Value| json!({"messages": messages, "temperature": 0, "max_tokens": 8});
    let cached = |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
    let mut messages = json!([{"role": "user", "content": "HELLOABCDEFGHIJKLMNOP"}]);
    let first = answer(&api, CHAT, asked(&messages)).await;
    assert_eq!(cached(&first), Some(0));
    let turns = messages.as_array_mut().expect("a list");
    turns.push(first["choices"][0]["message"].clone());
    turns.push(json!({"role": "user", "content": "ANDTHEN"}));
    let second = answer(&api, CHAT, asked(&messages)).await;
    assert_eq!(cached(&second), Some(16), "blocks of 8 of a prompt of 21");
    let fresh = answer(&self::api().await, CHAT, asked(&messages)).await;
    assert_eq!(cached(&fresh), Some(0));
    assert_eq!(second["choices"], fresh["choices"]);
}

#[tokio::test]
async fn an_answer_may_fill_the_context() {
    let api = api().await;
    let chat = answer(&api, CHAT, json!({"messages": hello(), "temperature": 0})).await;
    assert_eq!(chat["usage"]["total_tokens"], CONTEXT);
    assert_eq!(chat["choices"][0]["finish_reason"], "length");
    let text = answer(&api, TEXT, json!({"prompt": "HELLO", "temperature": 0})).await;
    assert_eq!(text["usage"]["completion_tokens"], 16, "what OpenAI documents for texts");
}

#[tokio::test]
async fn a_stream_says_the_same_in_chunks() {
    let api = api().await;
    let body = |stream: bool| json!({"messages": hello(), "temperature": 0, "max_tokens": 12, "stream": stream});
    let whole = answer(&api, CHAT, body(false)).await;
    let (chunks, done) = events(&api, CHAT, body(true)).await;
    assert!(done);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let content = whole["choices"][0]["message"]["content"].as_str().expect("a string").to_owned();
    assert_eq!(told(&chunks, 0), (content, vec!["length"]));
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"]));
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()), "nobody asked for the usage");
    let last = chunks.last().expect("chunks");
    assert_eq!(last["collm"]["tokens"], whole["collm"]["tokens"]);
}

#[tokio::test]
async fn usage_comes_last_when_asked_for() {
    let api = api().await;
    let options = json!({"include_usage": true, "continuous_usage_stats": null, "include_obfuscation": false});
    let body = json!({"prompt": "HELLO", "max_tokens": 3, "stream": true, "stream_options": options});
    let (chunks, done) = events(&api, TEXT, body).await;
    let (last, others) = chunks.split_last().expect("chunks");
    assert!(done && others.iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], usage(5, 3));
}

#[tokio::test]
async fn a_stop_string_ends_the_answer() {
    let api = api().await;
    let body = |stop: Value| json!({"prompt": "HELLO", "temperature": 0, "max_tokens": 12, "stop": stop});
    let whole = answer(&api, TEXT, body(Value::Null)).await;
    let words = whole["choices"][0]["text"].as_str().expect("a string");
    for stop in [json!(words[6..8]), json!([words[6..8], "never said"])] {
        let stopped = answer(&api, TEXT, body(stop)).await;
        let choice = &stopped["choices"][0];
        assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(words[..6]), &json!("stop")));
    }
}

#[tokio::test]
async fn a_seed_names_every_choice() {
    let api = api().await;
    let body = |n: u32, seed: u64| json!({"prompt": "HELLO", "n": n, "seed": seed, "temperature": 5});
    let words = |answer: &Value, index: usize| answer["choices"][index]["text"].as_str().expect("a string").to_owned();
    let three = answer(&api, TEXT, body(3, 7)).await;
    assert_eq!(three["usage"]["prompt_tokens"], 5, "one prompt, however many answers");
    for (index, seed) in [(0, 7), (1, 8), (2, 9)] {
        assert_eq!(three["choices"][index]["index"], index);
        assert_eq!(words(&three, index), words(&answer(&api, TEXT, body(1, seed)).await, 0));
    }
    assert_ne!(words(&three, 0), words(&three, 1));
}

#[tokio::test]
async fn choices_share_a_stream() {
    let api = api().await;
    let body = |stream: bool| json!({"messages": hello(), "n": 3, "seed": 7, "max_tokens": 9, "stream": stream});
    let whole = answer(&api, CHAT, body(false)).await;
    let (chunks, done) = events(&api, CHAT, body(true)).await;
    assert!(done);
    for index in 0..3 {
        let content = whole["choices"][index as usize]["message"]["content"].as_str().expect("a string").to_owned();
        assert_eq!(told(&chunks, index), (content, vec!["length"]));
    }
    assert_eq!(chunks.iter().filter(|chunk| chunk["collm"].is_object()).count(), 1);
}

#[tokio::test]
async fn answers_without_a_seed_differ() {
    let api = api().await;
    let body = json!({"prompt": "HELLO", "temperature": 5, "max_tokens": 30});
    let (one, other) = (answer(&api, TEXT, body.clone()).await, answer(&api, TEXT, body).await);
    assert_ne!(one["choices"][0]["text"], other["choices"][0]["text"]);
}

#[tokio::test]
async fn prompts_come_in_all_shapes() {
    let api = api().await;
    let expected = |words: &[&str]| -> Vec<Value> { words.iter().map(|&word| json!(word)).collect() };
    let plain = |prompt: Value| json!({"prompt": prompt, "temperature": 0});
    let of = |answer: Value| -> Vec<Value> {
        answer["choices"].as_array().expect("a list").iter().map(|choice| choice["text"].clone()).collect()
    };
    let hi = of(answer(&api, TEXT, plain(json!("HI"))).await);
    let yo = of(answer(&api, TEXT, plain(json!("YO"))).await);
    let both = expected(&[hi[0].as_str().expect("a string"), yo[0].as_str().expect("a string")]);
    assert_eq!(of(answer(&api, TEXT, plain(json!([8, 9]))).await), hi);
    assert_eq!(of(answer(&api, TEXT, plain(json!(["HI", "YO"]))).await), both);
    assert_eq!(of(answer(&api, TEXT, plain(json!([[8, 9], [25, 15]]))).await), both);
    let parts = json!([{"type": "text", "text": "H"}, {"type": "text", "text": "I"}]);
    let chat = json!({"messages": [{"role": "user", "content": parts}], "temperature": 0, "max_completion_tokens": 16});
    assert_eq!(answer(&api, CHAT, chat).await["choices"][0]["message"]["content"], hi[0]);
}

/// The log-probabilities of one choice, put together from all chunks.
fn log_probs(chunks: &[Value], index: u32, list: &str) -> Vec<Value> {
    let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().expect("a list"));
    let mine = choices.filter(|choice| choice["index"] == index);
    mine.filter_map(|choice| choice["logprobs"][list].as_array()).flatten().cloned().collect()
}

#[tokio::test]
async fn every_token_of_a_conversation_comes_with_its_log_probs() {
    let api = api().await;
    let body = |stream: bool| {
        json!({
            "messages": hello(), "temperature": 0, "max_tokens": 9, "logprobs": true, "top_logprobs": 3, "n": 2,
            "stream": stream,
        })
    };
    let whole = answer(&api, CHAT, body(false)).await;
    let content = whole["choices"][1]["logprobs"]["content"].as_array().expect("a list");
    let said: String = content.iter().map(|entry| entry["token"].as_str().expect("a token")).collect();
    assert_eq!(said, whole["choices"][1]["message"]["content"]);
    for entry in content {
        let top = entry["top_logprobs"].as_array().expect("a list");
        assert_eq!(top.len(), 3);
        assert_eq!(
            (&top[0]["token"], &top[0]["logprob"]),
            (&entry["token"], &entry["logprob"]),
            "greedy takes the first"
        );
        assert_eq!(entry["bytes"], json!(entry["token"].as_str().expect("a token").as_bytes()));
        assert!(entry["logprob"].as_f64().expect("a number") < 0.0);
    }
    let (chunks, done) = events(&api, CHAT, body(true)).await;
    assert!(done);
    assert_eq!(log_probs(&chunks, 1, "content"), *content);
    let none = answer(&api, CHAT, json!({"messages": hello(), "logprobs": false, "max_tokens": 2})).await;
    assert_eq!(none["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn an_echo_tells_how_likely_the_prompt_was() {
    let api = api().await;
    let body = |more: Value| {
        let mut body =
            json!({"prompt": ["HELLO", "HI"], "temperature": 0, "max_tokens": 3, "echo": true, "logprobs": 2});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let whole = answer(&api, TEXT, body(json!({}))).await;
    let choice = &whole["choices"][0];
    let words = choice["text"].as_str().expect("a string");
    assert!(words.starts_with("HELLO") && words.len() == 8, "{words}");
    let told = &choice["logprobs"];
    let list = |name: &str| told[name].as_array().expect("a list").clone();
    let tokens: Vec<String> = words.chars().map(String::from).collect();
    assert_eq!(told["tokens"], json!(tokens));
    assert_eq!(told["text_offset"], json!([0, 1, 2, 3, 4, 5, 6, 7]));
    let (own, top) = (list("token_logprobs"), list("top_logprobs"));
    assert_eq!((&own[0], &top[0]), (&Value::Null, &Value::Null), "nothing comes before the first");
    for (index, token) in tokens.iter().enumerate().skip(1) {
        assert_eq!(top[index][token], own[index], "the token itself is always told of");
        assert!(top[index].as_object().is_some_and(|top| (2..=3).contains(&top.len())), "{told}");
    }
    assert_eq!(whole["choices"][1]["logprobs"]["tokens"].as_array().expect("a list")[..2], [json!("H"), json!("I")]);
    let (chunks, done) = events(&api, TEXT, body(json!({"stream": true}))).await;
    assert!(done);
    assert_eq!(self::told(&chunks, 0).0, words);
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(log_probs(&chunks, 0, name), list(name), "{name}");
    }
    let alone = answer(&api, TEXT, body(json!({"max_tokens": 0}))).await;
    assert_eq!(alone["choices"][0]["text"], "HELLO");
    assert_eq!(alone["choices"][0]["logprobs"]["token_logprobs"], json!(own[..5]));
    let silent = answer(&api, TEXT, body(json!({"logprobs": null, "max_tokens": 0}))).await;
    assert_eq!(silent["choices"][0], json!({"index": 0, "text": "HELLO", "logprobs": null, "finish_reason": "length"}));
}

#[tokio::test]
async fn what_a_stop_string_takes_back_is_not_told() {
    let api = api().await;
    let body = |stop: Value, stream: bool| json!({"prompt": "HELLO", "temperature": 0, "max_tokens": 12, "logprobs": 0, "stop": stop, "stream": stream});
    let words = answer(&api, TEXT, body(Value::Null, false)).await["choices"][0]["text"].clone();
    let stop = json!(words.as_str().expect("a string")[6..8]);
    let stopped = answer(&api, TEXT, body(stop.clone(), false)).await;
    assert_eq!(stopped["choices"][0]["logprobs"]["text_offset"], json!([0, 1, 2, 3, 4, 5]));
    let (chunks, _) = events(&api, TEXT, body(stop, true)).await;
    assert_eq!(log_probs(&chunks, 0, "text_offset").len(), 6);
}

#[tokio::test]
async fn an_answer_has_the_form_that_it_must_have() {
    let api = api().await;
    // The letters of this model have brackets, but neither quotes nor commas.
    let schema = json!({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 1});
    let format = json!({"type": "json_schema", "json_schema": {"name": "one", "schema": schema, "strict": true}});
    for seed in 0..8 {
        let body =
            json!({"messages": hello(), "seed": seed, "temperature": 2, "response_format": format, "logprobs": true});
        let choice = answer(&api, CHAT, body).await["choices"][0].clone();
        let said = choice["message"]["content"].as_str().expect("a string");
        assert!(["[true]", "[false]"].contains(&said), "{said}");
        assert_eq!(choice["finish_reason"], "stop", "and then nothing follows");
    }
}

#[tokio::test]
async fn tokens_can_be_favoured_and_penalised() {
    let api = api().await;
    let said = async |more: Value| {
        let mut body = json!({"prompt": "HELLO", "temperature": 0, "max_tokens": 12});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        answer(&api, TEXT, body).await["choices"][0]["text"].as_str().expect("a string").to_owned()
    };
    assert_eq!(said(json!({"logit_bias": {"26": 100}})).await, "Z".repeat(12));
    let counted = |penalty: f32| json!({"logit_bias": {"26": 30}, "frequency_penalty": penalty, "max_tokens": 30});
    assert_eq!(said(counted(0.0)).await, "Z".repeat(30));
    let varied = said(counted(2.0)).await;
    assert!(varied.starts_with("ZZ") && varied != "Z".repeat(30), "{varied}");
}

#[tokio::test]
async fn models_are_named_with_their_modes() {
    let api = api().await;
    let list: Value = serde_json::from_str(&text(get(&api, "/v1/models").await).await).expect("JSON");
    let ids: Vec<&str> =
        list["data"].as_array().expect("a list").iter().map(|model| model["id"].as_str().expect("a string")).collect();
    assert_eq!(ids, ["letters", "letters@standalone"]);
    for id in ids {
        let model: Value =
            serde_json::from_str(&text(get(&api, &format!("/v1/models/{id}")).await).await).expect("JSON");
        assert_eq!((&model["id"], &model["collm"]["mode"]), (&json!(id), &json!("standalone")));
        assert_eq!(answer(&api, TEXT, json!({"model": id, "prompt": "HI"})).await["model"], id);
    }
    for unknown in ["gpt-5", "letters@cloud", "letters@", "lettersx"] {
        let (status, code, _) = refused(get(&api, &format!("/v1/models/{unknown}")).await).await;
        assert_eq!((status, code.as_str()), (StatusCode::NOT_FOUND, "model_not_found"));
        let body = json!({"model": unknown, "prompt": "HI"}).to_string();
        assert_eq!(refused(post(&api, TEXT, body).await).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn what_is_not_honoured_is_refused_by_name() {
    let api = api().await;
    let cases = [
        ("tools", json!([{"type": "function", "function": {"name": "f"}}])),
        ("tool_choice", json!("required")),
        ("best_of", json!(3)),
        ("suffix", json!("END")),
        ("modalities", json!(["text", "audio"])),
        ("stop_token_ids", json!([3])),
        ("bad_words", json!(["NO"])),
        ("use_beam_search", json!(true)),
        ("repetition_penalty", json!(1.1)),
        ("typical_p", json!(0.9)),
        ("skip_special_tokens", json!(false)),
    ];
    for (field, value) in cases {
        for (path, mut body) in [(TEXT, json!({"prompt": "HI"})), (CHAT, json!({"messages": hello()}))] {
            body[field] = value.clone();
            let response = post(&api, path, body.to_string()).await;
            let status = response.status();
            let error: Value = serde_json::from_str(&text(response).await).expect("JSON");
            assert_eq!(status, StatusCode::BAD_REQUEST, "{field}");
            assert_eq!(error["error"]["param"], field);
            assert_eq!(error["error"]["code"], "unsupported_parameter");
        }
    }
    let neutral = json!({
        "prompt": "HI", "logprobs": null, "echo": false, "response_format": {"type": "text"}, "tools": [],
        "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0, "best_of": 1, "suffix": "", "n": null,
        "metadata": {"who": "knows"}, "repetition_penalty": 1, "length_penalty": 1.0, "typical_p": null,
        "skip_special_tokens": true, "use_beam_search": false, "parallel_tool_calls": true, "user": "me",
    });
    answer(&api, TEXT, neutral).await;
}

#[tokio::test]
async fn budget_and_choice_are_told_of_each_choice() {
    let api = api().await;
    for budget in [json!("cloud=20%"), json!({"cloud": 0.2}), json!({"cloud": 0.2, "threshold_min": 0.0})] {
        let body = json!({"prompt": "HELLO", "n": 2, "max_tokens": 5, "collm": {"mode": "auto", "budget": budget}});
        let report = answer(&api, TEXT, body).await["collm"].take();
        assert_eq!(report["mode"], "auto");
        let choices = report["choices"].as_array().expect("a list");
        assert_eq!(choices.len(), 2);
        for (index, choice) in choices.iter().enumerate() {
            assert_eq!(choice["index"], index);
            assert_eq!((&choice["budget"]["target"], &choice["budget"]["kept"]), (&json!("cloud=20%"), &json!(true)));
            assert_eq!((&choice["auto"]["cloud"], &choice["auto"]["reason"]), (&json!(false), &json!("no_cloud")));
            assert_eq!(choice["comparison"], json!(null), "there is nothing to compare with");
        }
    }
}

#[tokio::test]
async fn the_budget_of_the_edge_is_for_requests_that_do_not_say() {
    let defaults = Defaults { budget: Some("cloud=20%".parse().expect("a target")), ..defaults() };
    let api = router(Api::new(edge().await, Arc::new(Letters::new()), card(), defaults));
    let target = async |collm: Value| {
        let body = json!({"prompt": "HELLO", "max_tokens": 2, "collm": collm});
        answer(&api, TEXT, body).await["collm"]["choices"][0]["budget"]["target"].take()
    };
    assert_eq!(target(json!({"mode": "auto"})).await, "cloud=20%");
    assert_eq!(target(json!({"mode": "auto", "budget": "tpot=60ms"})).await, "tpot=60ms");
    assert_eq!(target(json!({"mode": "auto", "threshold": 0.5})).await, json!(null));
    assert_eq!(target(json!({})).await, json!(null), "nothing is asked in standalone mode");
}

#[tokio::test]
async fn bad_requests_are_named() {
    let api = api().await;
    let messages = |message: Value| json!({"messages": [message]});
    let long = "A".repeat(CONTEXT as usize);
    let cases = [
        (TEXT, json!({"prompt": long}), json!(null), "context_length_exceeded"),
        (CHAT, messages(json!({"role": "user", "content": long})), json!(null), "context_length_exceeded"),
        (TEXT, json!({}), json!("prompt"), "invalid_request"),
        (TEXT, json!({"prompt": [64]}), json!("prompt"), "invalid_request"),
        (TEXT, json!({"prompt": []}), json!("prompt"), "invalid_request"),
        (TEXT, json!({"prompt": {"a": 1}}), json!("prompt"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "n": 0}), json!("n"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "n": 33}), json!("n"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "temperature": "hot"}), json!("temperature"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "temperature": -1}), json!("temperature"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "max_tokens": 0}), json!("max_tokens"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "stop": ["", "a"]}), json!("stop"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "stop": 3}), json!("stop"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "stream_options": {}}), json!("stream_options"), "invalid_request"),
        (
            TEXT,
            json!({"prompt": "A", "stream": true, "stream_options": {"continuous_usage_stats": true}}),
            json!("stream_options.continuous_usage_stats"),
            "unsupported_parameter",
        ),
        (TEXT, json!({"prompt": "A", "collm": {"mode": "magic"}}), json!("collm.mode"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "collm": {"budget": 1}}), json!("collm.budget"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "collm": {"budget": "60ms"}}), json!("collm.budget"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "collm": {"budget": {"cloud": 20}}}), json!("collm.budget"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "collm": {"budget": {}}}), json!("collm.budget"), "invalid_request"),
        (
            TEXT,
            json!({"prompt": "A", "collm": {"budget": {"cloud": 0.2, "tpot_ms": 60}}}),
            json!("collm.budget"),
            "invalid_request",
        ),
        (
            TEXT,
            json!({"prompt": "A", "collm": {"mode": "auto", "threshold": 0.8, "budget": "cloud=20%"}}),
            json!("collm.budget"),
            "invalid_request",
        ),
        (
            TEXT,
            json!({"prompt": "A", "collm": {"mode": "standalone", "budget": "cloud=20%"}}),
            json!("budget"),
            "invalid_request",
        ),
        (
            TEXT,
            json!({"prompt": "A", "response_format": {"type": "xml"}}),
            json!("response_format.type"),
            "invalid_request",
        ),
        (
            TEXT,
            json!({"prompt": "A", "response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}),
            json!("response_format.json_schema.schema"),
            "invalid_request",
        ),
        (
            TEXT,
            json!({"prompt": "A", "response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}),
            json!("response_format"),
            "invalid_request",
        ),
        (TEXT, json!({"prompt": "A", "logprobs": 21}), json!("top_logprobs"), "invalid_request"),
        (CHAT, json!({"messages": hello(), "top_logprobs": 2}), json!("top_logprobs"), "invalid_request"),
        (CHAT, json!({"messages": hello(), "logprobs": 2}), json!("logprobs"), "invalid_request"),
        (CHAT, json!({"messages": hello(), "echo": true}), json!("echo"), "unsupported_parameter"),
        (TEXT, json!({"prompt": "A", "presence_penalty": 2.5}), json!("presence_penalty"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "frequency_penalty": -3}), json!("frequency_penalty"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "logit_bias": {"B": 1}}), json!("logit_bias"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "logit_bias": {"3": 101}}), json!("logit_bias"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "logit_bias": {"64": 1}}), json!("logit_bias"), "invalid_request"),
        (TEXT, json!({"prompt": "A", "collm": {"mode": "collaborative"}}), json!("mode"), "no_cloud"),
        (
            TEXT,
            json!({"prompt": "A", "model": "letters@standalone", "collm": {"mode": "exact"}}),
            json!("collm.mode"),
            "invalid_request",
        ),
        (CHAT, json!({}), json!("messages"), "invalid_request"),
        (CHAT, messages(json!({"role": "user"})), json!("messages[0].content"), "invalid_request"),
        (
            CHAT,
            messages(json!({"role": "user", "content": [{"type": "image_url"}]})),
            json!("messages[0].content"),
            "invalid_request",
        ),
        (
            CHAT,
            messages(json!({"role": "user", "content": "A", "name": "Ann"})),
            json!("messages[0].name"),
            "unsupported_parameter",
        ),
        (
            CHAT,
            json!({"messages": hello(), "max_tokens": 1, "max_completion_tokens": 2}),
            json!("max_completion_tokens"),
            "invalid_request",
        ),
    ];
    for (path, body, param, code) in cases {
        let response = post(&api, path, body.to_string()).await;
        let status = response.status();
        let error: Value = serde_json::from_str(&text(response).await).expect("JSON");
        let error = &error["error"];
        assert_eq!((status, &error["code"]), (StatusCode::BAD_REQUEST, &json!(code)), "{body}: {error}");
        assert_eq!((&error["param"], &error["type"]), (&param, &json!("invalid_request_error")), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_failure_is_told_and_ends_the_stream() {
    let body = |stream: bool| json!({"messages": hello(), "max_tokens": 50, "stream": stream});
    let (chunks, done) = events(&api_of(failing_edge(9).await), CHAT, body(true)).await;
    let (last, others) = chunks.split_last().expect("chunks");
    assert!(!done, "half an answer is not done");
    assert_eq!(last["error"]["type"], "server_error");
    assert!(!told(others, 0).0.is_empty(), "what came before is told");
    let response = post(&api_of(failing_edge(9).await), CHAT, body(false).to_string()).await;
    let (status, code, _) = refused(response).await;
    assert_eq!((status, code.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "internal"));
}

#[tokio::test]
async fn a_client_that_leaves_withdraws_all_its_choices() {
    let api = api().await;
    // Two answers and two that wait fill the edge: later requests are served only if the earlier ones are gone.
    for _ in 0..20 {
        let body = json!({"messages": hello(), "n": 4, "stream": true});
        let response = post(&api, CHAT, body.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut events = response.into_body().into_data_stream();
        events.next().await.expect("an event").expect("no error");
    }
}

#[tokio::test]
async fn too_many_choices_are_refused_whole() {
    let api = api().await;
    for _ in 0..5 {
        let body = json!({"messages": hello(), "n": 5});
        let (status, code, _) = refused(post(&api, CHAT, body.to_string()).await).await;
        assert_eq!((status, code.as_str()), (StatusCode::TOO_MANY_REQUESTS, "busy"));
    }
    answer(&api, CHAT, json!({"messages": hello(), "n": 4, "max_tokens": 3})).await;
}

#[tokio::test]
async fn text_becomes_tokens_and_text_again() {
    let api = api().await;
    let tokens = answer(&api, "/tokenize", json!({"content": "HELLO"})).await;
    assert_eq!(tokens, json!({"tokens": [8, 5, 12, 12, 15], "count": 5, "max_model_len": CONTEXT}));
    assert_eq!(answer(&api, "/tokenize", json!({"messages": hello()})).await, tokens);
    assert_eq!(
        answer(&api, "/detokenize", json!({"tokens": tokens["tokens"]})).await,
        json!({"content": "HELLO", "prompt": "HELLO"})
    );
    let bare = json!({"prompt": "HELLO", "add_special_tokens": false});
    assert_eq!(answer(&api, "/tokenize", bare).await, tokens, "this model adds nothing anyway");
    let info: Value = serde_json::from_str(&text(get(&api, "/tokenizer_info").await).await).expect("JSON");
    assert_eq!(
        (&info["eos_token"], &info["bos_token"], &info["model_max_length"]),
        (&json!("@"), &json!(null), &json!(CONTEXT))
    );
    let props: Value = serde_json::from_str(&text(get(&api, "/props").await).await).expect("JSON");
    assert_eq!((&props["model"], &props["modes"]), (&json!("letters"), &json!(["standalone"])));
}
