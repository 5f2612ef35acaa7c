//! Who may ask an edge, as its arguments say.

use serde_json::{Value, json};

use crate::harness::{MODEL, Server, run_err};

/// The status of an edge's list of models, and its body.
fn models(edge: &Server, headers: &[(&str, &str)]) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = agent.get(format!("{}/v1/models", edge.url()));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let mut response = request.call().expect("the edge answers");
    (response.status().as_u16(), response.body_mut().read_json().expect("JSON"))
}

#[test]
fn an_edge_with_keys_answers_those_who_have_one() {
    let edge = Server::start(&["edge", "--model", MODEL, "--listen", "127.0.0.1:0", "--api-key", "one,two"]);
    for key in ["Bearer one", "Bearer two"] {
        let (status, models) = models(&edge, &[("authorization", key)]);
        assert_eq!((status, &models["data"][0]["id"]), (200, &json!("smollm2-135m")));
    }
    for headers in [&[][..], &[("authorization", "Bearer one,two")]] {
        let (status, body) = models(&edge, headers);
        assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")));
    }
}

#[test]
fn an_empty_key_is_no_key() {
    let (message, _) = run_err(&["edge", "--model", MODEL, "--api-key", ""]);
    assert!(message.contains("--api-key"), "{message}");
}
