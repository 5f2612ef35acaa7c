//! Experiments on real weights, small: every way answers, rows are kept, and an interrupted run goes on.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{run, run_err, run_ok, stderr};

fn prompts(folder: &TempDir) -> String {
    let path = folder.path().join("prompts.jsonl");
    let lines = [json!({ "prompt": "Say hello.", "reference": "Hello." }), json!({ "prompt": "Name two colours." })];
    fs::write(&path, lines.map(|line| line.to_string()).join("\n")).expect("room");
    path.display().to_string()
}

fn rows(out: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{out}/rows.jsonl")).expect("rows");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

#[test]
fn the_papers_table_is_made_and_goes_on_where_it_was_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (prompts, out) = (prompts(&folder), folder.path().join("paper").display().to_string());
    let quick =
        ["bench", "paper", "--quick", "--prompts", &prompts, "--limit", "1", "--max-tokens", "6", "--out", &out];
    run_ok(&quick);
    let made = rows(&out);
    let of = |variant: &str| made.iter().find(|row| row["variant"] == variant).expect("a row");
    // Whatever computes what the whole model computes says the same.
    for variant in ["exact", "naive split"] {
        assert_eq!(of(variant)["tokens"], of("cloud-only")["tokens"], "{variant}");
    }
    let bytes_up = |variant: &str| of(variant)["stats"]["bytes_up"].as_u64().expect("a number");
    assert_eq!(bytes_up("standalone"), 0);
    let paper = bytes_up("collaborative 0.8, standing still");
    assert!(bytes_up("without f16") > paper * 3 / 2, "twice the bytes a state");
    assert!(bytes_up("naive split") > 2 * paper, "everything for every token");
    for name in ["machine.txt", "commit.txt", "command.txt", "summary.json", "judged.jsonl", "time.svg", "bytes.svg"] {
        assert!(folder.path().join("paper").join(name).is_file(), "{name} is missing");
    }

    // As if it had been killed in the middle of its last row but one.
    let text = fs::read_to_string(format!("{out}/rows.jsonl")).expect("rows");
    let kept: Vec<&str> = text.lines().take(made.len() - 2).collect();
    fs::write(format!("{out}/rows.jsonl"), format!("{}\n{{\"prompt\": 0, \"rtt", kept.join("\n"))).expect("room");
    run_ok(&quick);
    let again = rows(&out);
    let there = kept.len();
    assert_eq!((again.len(), &again[..there]), (made.len(), &made[..there]), "what was there is not measured again");

    let other = [&quick[..8], &["7", "--out", &out]].concat();
    let (message, _) = run_err(&other);
    assert!(message.contains("max-tokens 6") && message.contains("max-tokens 7"), "{message}");
}

#[test]
fn exact_answers_are_compared_and_that_goes_on_where_it_was_interrupted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (prompts, out) = (prompts(&folder), folder.path().join("exact").display().to_string());
    let quick =
        ["bench", "exact", "--quick", "--prompts", &prompts, "--max-tokens", "6", "--also", "f16", "--out", &out];
    run_ok(&quick);
    let made = rows(&out);
    // Two prompts, greedy and drawn, by edge and cloud and by the whole model, as it is and converted.
    assert_eq!(made.len(), 16);
    let summary = || -> Value {
        serde_json::from_str(&fs::read_to_string(format!("{out}/summary.json")).expect("a summary")).expect("JSON")
    };
    let first = summary();
    // The bits of F16 weights may differ; those of quantised ones may not.
    for drawn in first.as_array().expect("a list").iter().filter(|drawn| drawn["weights"] == "as it is") {
        assert_eq!((&drawn["answers"], &drawn["answers_equal"]), (&json!(2), &json!(2)), "{drawn}");
    }
    let text = fs::read_to_string(format!("{out}/rows.jsonl")).expect("rows");
    let kept: Vec<&str> = text.lines().take(3).collect();
    fs::write(format!("{out}/rows.jsonl"), format!("{}\n", kept.join("\n"))).expect("room");
    run_ok(&quick);
    assert_eq!((rows(&out).len(), &rows(&out)[..3]), (16, &made[..3]), "what was there is not asked again");
    assert_eq!(summary()[0]["tokens"], first[0]["tokens"]);
}

#[test]
fn bookkeeping_is_measured_without_a_model() {
    let report: Value =
        serde_json::from_str(&run_ok(&["bench", "core", "--answers", "2", "--max-tokens", "50", "--json"]))
            .expect("JSON");
    let ways = report.as_array().expect("a list");
    assert_eq!(ways.len(), 5);
    assert!(ways.iter().all(|way| way["edge_us_per_token"].as_f64().is_some_and(|us| us > 0.0)), "{report}");
}

#[test]
fn prompts_that_are_not_there_are_named() {
    for command in ["paper", "rtt", "clients", "exact"] {
        let output = run(&["bench", command, "--prompts", "nowhere.jsonl"]);
        assert!(
            !output.status.success() && stderr(&output).contains("nowhere.jsonl"),
            "{command}: {}",
            stderr(&output)
        );
    }
}
