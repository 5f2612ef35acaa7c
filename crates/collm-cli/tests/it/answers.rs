//! Answers in every mode, on real weights, by real processes.

use std::{io::Write as _, process::Stdio};

use serde_json::Value;

use crate::harness::{MODEL, Parts, Server, ask, collm, question, run_ok};

const PROMPT: &str = "Name three colours of the rainbow.";

fn answer(arguments: &[&str]) -> Value {
    answer_of(24, arguments)
}

fn answer_of(tokens: u32, arguments: &[&str]) -> Value {
    let tokens = tokens.to_string();
    let common = ["--json", "--max-tokens", &tokens, "--threads", "1", "--context", "512", "--quiet"];
    let output = run_ok(&[["run", PROMPT].as_slice(), arguments, &common].concat());
    serde_json::from_str(&output).expect("a report is JSON")
}

/// The report says what happened, in full.
#[track_caller]
fn check_report(report: &Value, sources: &[&str]) {
    let tokens = report["tokens"].as_array().expect("a list of tokens");
    assert!(!tokens.is_empty());
    for token in tokens {
        let confidence = token["confidence"].as_f64().expect("a confidence");
        assert!((0.0..=1.0).contains(&confidence), "{token}");
        assert!(sources.contains(&token["source"].as_str().expect("a source")), "{token}");
        assert!(token["id"].is_u64() && token["text"].is_string(), "{token}");
    }
    assert!(["stop", "length"].contains(&report["finish_reason"].as_str().expect("a reason")));
    assert_eq!(report["degraded"], false, "{report}");
    let joined: String = tokens.iter().map(|token| token["text"].as_str().expect("text")).collect();
    assert_eq!(report["text"], joined);
    let stats = &report["stats"];
    assert_eq!(stats["answer_tokens"], tokens.len());
    for column in [
        "total_ms",
        "first_token_ms",
        "time_per_token_ms",
        "edge_compute_ms",
        "cloud_compute_ms",
        "network_ms",
        "bytes_up",
        "bytes_down",
        "cloud_share",
        "round_trips_waited",
    ] {
        assert!(stats[column].is_number(), "no {column} in {stats}");
    }
}

fn bytes_up(report: &Value) -> u64 {
    report["stats"]["bytes_up"].as_u64().expect("a count")
}

/// Bytes of states for each position that was uploaded, and what goes with them.
fn bytes_per_position(report: &Value) -> f64 {
    bytes_up(report) as f64 / report["stats"]["positions_uploaded"].as_f64().expect("a count")
}

#[test]
fn states_are_uploaded_as_precisely_as_asked() {
    let parts = Parts::split();
    let cloud = Server::start(&["cloud", "--part", &parts.cloud(), "--listen", "127.0.0.1:0"]);
    let uploading = |options: &[&str]| {
        bytes_per_position(&answer(&[&["--part", &parts.edge(), "--cloud", &cloud.url()], options].concat()))
    };
    // 576 floats a position.
    let (auto, half, single) = (uploading(&[]), uploading(&["--upload", "f16"]), uploading(&["--upload", "f32"]));
    assert!((2.0 * 576.0..4.0 * 576.0).contains(&half) && single >= 4.0 * 576.0, "{half} {single}");
    assert!(auto < 4.0 * 576.0, "this model's states are small: {auto}");
}

#[test]
fn every_mode_answers_and_cloud_mode_says_what_the_whole_model_says() {
    let parts = Parts::split();
    let cloud = Server::start(&["cloud", "--model", MODEL, "--listen", "127.0.0.1:0"]);
    let url = cloud.url();
    let of_part = |mode: &str| answer(&["--mode", mode, "--part", &parts.edge(), "--cloud", &url]);

    let whole = answer(&["--mode", "whole", "--model", MODEL]);
    check_report(&whole, &["whole"]);
    let from_cloud = of_part("cloud");
    check_report(&from_cloud, &["cloud"]);
    assert_eq!(from_cloud["text"], whole["text"]);
    let naive = of_part("naive");
    check_report(&naive, &["cloud"]);
    // All states are sent in full precision: nothing is lost on the way.
    assert_eq!(naive["text"], whole["text"]);
    let exact = of_part("exact");
    check_report(&exact, &["exit2", "cloud"]);
    assert_eq!(exact["text"], whole["text"]);
    let of_tokens = answer(&["--mode", "exact", "--exact-upload", "tokens", "--part", &parts.edge(), "--cloud", &url]);
    assert_eq!(of_tokens["text"], whole["text"]);
    assert!(10 * bytes_up(&of_tokens) < bytes_up(&exact), "{of_tokens}");
    let together = of_part("collaborative");
    check_report(&together, &["exit2", "cloud"]);
    assert!(bytes_up(&together) < bytes_up(&naive));

    let stalled = answer(&["--stall", "--part", &parts.edge(), "--cloud", &url]);
    assert_eq!(stalled["text"], together["text"]);
    let stats = &stalled["stats"];
    assert!(stats["asks"].as_u64() > Some(0), "{stats}");
    assert_eq!(stats["round_trips_waited"], stats["asks"]);

    let alone = answer(&["--mode", "standalone", "--part", &parts.edge()]);
    check_report(&alone, &["exit2"]);
    assert_eq!(alone["stats"]["bytes_up"], 0);
}

#[test]
fn a_running_edge_answers_as_one_started_for_the_answer() {
    let parts = Parts::split();
    let cloud = Server::start(&["cloud", "--part", &parts.cloud(), "--listen", "127.0.0.1:0"]);
    let edge = Server::start(&["edge", "--part", &parts.edge(), "--cloud", &cloud.url(), "--listen", "127.0.0.1:0"]);
    let running = run_ok(&["run", PROMPT, "--edge", &edge.url(), "--json", "--max-tokens", "24"]);
    let running: Value = serde_json::from_str(&running).expect("a report is JSON");
    check_report(&running, &["exit2", "cloud"]);
    let here = answer(&["--part", &parts.edge(), "--cloud", &cloud.url()]);
    assert_eq!(running["text"], here["text"]);
    let mut streamed = String::new();
    let report = ask(&edge, &question(PROMPT, 24), |line| streamed.push_str(line["text"].as_str().unwrap_or_default()));
    assert_eq!(streamed, report["text"]);
}

#[test]
fn a_seed_names_a_text_and_stop_strings_end_it() {
    let sampled = |seed: &str| answer(&["--model", MODEL, "--temperature", "1.5", "--seed", seed])["text"].clone();
    assert_eq!(sampled("7"), sampled("7"));
    assert_ne!(sampled("7"), sampled("8"));

    let greedy = answer(&["--model", MODEL]);
    let text = greedy["text"].as_str().expect("text");
    let word = text.split_whitespace().nth(2).expect("three words");
    let stopped = answer(&["--model", MODEL, "--stop", word]);
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"], text[..text.find(word).expect("it is in there")]);
}

#[test]
fn prompts_come_from_stdin_and_text_goes_to_stdout_alone() {
    let mut command = collm(&["run", "-", "--model", MODEL, "--max-tokens", "8", "--threads", "1", "--quiet"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(PROMPT.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let expected = answer_of(8, &["--model", MODEL]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text, format!("{}\n", expected["text"].as_str().expect("text")));
    let legend = String::from_utf8(output.stderr).expect("text");
    assert!(legend.contains("whole model 100 %"), "{legend}");
}
