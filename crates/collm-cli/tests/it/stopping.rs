//! SIGTERM: what is under way may end within the deadline, what is new is not taken, and the process ends.
#![cfg(unix)]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{MODEL, Parts, Server, ask, question};

fn terminate(server: &Server) {
    let id = Pid::from_raw(i32::try_from(server.id()).expect("a process id")).expect("not zero");
    kill_process(id, Signal::TERM).expect("it runs");
}

/// Asks an edge, and does something once the first token is there.
fn interrupted(edge: &Server, tokens: u32, once: impl FnOnce()) -> Value {
    let mut once = Some(once);
    ask(edge, &question("Write a long story about a fox.", tokens), |line| {
        if line["type"] == "token"
            && let Some(once) = once.take()
        {
            once();
        }
    })
}

#[test]
fn an_edge_finishes_its_answer_and_ends() {
    let mut edge = Server::start(&["edge", "--model", MODEL, "--listen", "127.0.0.1:0", "--drain", "60s"]);
    let answer = interrupted(&edge, 48, || terminate(&edge));
    assert_eq!(answer["finish_reason"], "length", "{answer}");
    assert!(edge.wait().success());
}

#[test]
fn an_edge_that_is_not_done_in_time_ends_all_the_same() {
    let mut edge = Server::start(&["edge", "--model", MODEL, "--listen", "127.0.0.1:0", "--drain", "1ms"]);
    let url = format!("{}/v1/generate", edge.url());
    let mut question = question("Write a long story about a fox.", 400);
    question["stop"] = json!([]);
    // The headers come before the first token, so the answer is under way when the request returns.
    let response = ureq::post(&url).send_json(question).expect("the edge answers");
    terminate(&edge);
    assert!(edge.wait().success());
    let text = response.into_body().read_to_string();
    assert!(!text.is_ok_and(|text| text.contains("\"finished\"")), "400 tokens take longer than that");
}

#[test]
fn a_cloud_finishes_what_an_edge_asks_and_ends() {
    let parts = Parts::split();
    let mut cloud = Server::start(&["cloud", "--part", &parts.cloud(), "--listen", "127.0.0.1:0", "--drain", "60s"]);
    let edge = Server::start(&["edge", "--part", &parts.edge(), "--cloud", &cloud.url(), "--listen", "127.0.0.1:0"]);
    let answer = interrupted(&edge, 48, || terminate(&cloud));
    assert_eq!(answer["degraded"], false, "{answer}");
    assert!(cloud.wait().success());
}
