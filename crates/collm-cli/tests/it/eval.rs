//! How good an edge part is, measured and promised on real weights.

use std::fs;

use collm_model::{
    Alias, ExitNumber,
    exits::{ExitsDraft, ExitsFile, FittedCut},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{MODEL, run, run_err, run_ok, stderr, stdout};

fn prompts(folder: &TempDir) -> String {
    let path = folder.path().join("prompts.jsonl");
    let lines = [
        json!({ "prompt": "Count from one to five.", "reference": "1 2 3 4 5", "category": "counting" }),
        json!({ "prompt": "What is the capital of France?", "category": "asking" }),
    ];
    fs::write(&path, lines.map(|line| line.to_string()).join("\n")).expect("room");
    path.display().to_string()
}

/// A tail, and nothing fitted.
fn exits(folder: &TempDir) -> String {
    let path = folder.path().join("model.exits.gguf");
    let cut = FittedCut {
        source_sha256: Alias::SmolLm2_135m.digest(),
        upload_at: 10,
        tail: (10..12).chain(16..30).collect(),
        exit1: false,
        tail_type: None,
    };
    let mut draft = ExitsDraft::new(cut);
    // Says at least something about the exit, so that there is an exit to calibrate.
    draft.exit_mut(ExitNumber::Two).threshold = None;
    draft.write(&path).expect("room");
    path.display().to_string()
}

/// An answer's line with its first tokens alone.
fn cut(line: &str, count: usize) -> String {
    let mut answer: Value = serde_json::from_str(line).expect("an answer");
    answer["tokens"].as_array_mut().expect("tokens").truncate(count);
    answer.to_string()
}

#[test]
fn an_edge_part_is_measured_along_and_beside_the_whole_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let (prompts, out) = (prompts(&folder), folder.path().join("result"));
    let out = out.display().to_string();
    let arguments =
        ["eval", MODEL, "--prompts", &prompts, "--max-tokens", "12", "--context", "512", "--json", "--exits", "none"];
    let text = folder.path().join("text.txt");
    fs::write(&text, "The cat sat on the mat. The dog sat on the log. The cat saw the dog.").expect("room");
    let text = text.display().to_string();
    let more = ["--mode", "whole,standalone,collaborative", "--threshold", "0.5", "--text", &text, "--out", &out];
    let report: Value = serde_json::from_str(&run_ok(&[&arguments[..], &more].concat())).expect("JSON");

    let exit = &report["teacher_forced"][0];
    assert_eq!((&report["answers"], &exit["exit"]), (&json!(2), &json!(2)));
    assert!(exit["agreement"]["value"].as_f64().expect("a share") > 0.3, "{exit}");
    assert_eq!(exit["measures"].as_array().map(Vec::len), Some(3), "no gate was fitted: {exit}");
    let running = report["free_running"].as_array().expect("a list");
    let names: Vec<&Value> = running.iter().map(|summary| &summary["mode"]).collect();
    assert_eq!(names, ["whole", "standalone", "collaborative"]);
    assert_eq!(running[0]["agreement"]["value"], json!(1.0));
    assert_eq!(running[1]["sources"][0]["source"], "exit2");
    assert!(running[0]["to_reference"]["rouge_l"]["value"].is_number(), "one of the prompts has a reference");
    assert!(report["perplexity"]["whole"]["value"].as_f64().expect("a number") > 1.0);
    assert!(report["perplexity"]["edge"]["value"].as_f64().expect("a number") > 1.0);
    for name in ["machine.txt", "answers.jsonl", "summary.json", "exit2-risk-coverage.svg", "exit2-reliability.svg"] {
        assert!(folder.path().join("result").join(name).is_file(), "{name} is missing");
    }
    let rows = fs::read_to_string(folder.path().join("result/rows.jsonl")).expect("rows");
    assert_eq!(rows.lines().count(), 2 + 3 * 2);

    // The same answers again, without the whole model making them: of answers cut to three tokens, no more is read.
    let answers = folder.path().join("result/answers.jsonl");
    let text = fs::read_to_string(&answers).expect("answers");
    let again = |given: &[String]| -> (Value, String) {
        fs::write(&answers, given.join("\n")).expect("room");
        let output = run(&[&arguments[..], &["--answers", &answers.display().to_string()]].concat());
        (serde_json::from_str(&stdout(&output)).expect("JSON"), stderr(&output))
    };
    let mut short: Vec<String> = text.lines().map(|line| cut(line, 3)).collect();
    let (report, said) = again(&short);
    assert_eq!(report["teacher_forced"][0]["positions"], json!(2 * 3));
    assert!(!said.contains("made anew"), "{said}");
    // One that the model would not say.
    let mut wrong: Value = serde_json::from_str(&short[0]).expect("an answer");
    wrong["tokens"][2] = json!(5);
    short[0] = wrong.to_string();
    let (report, said) = again(&short);
    assert!(report["teacher_forced"][0]["positions"].as_u64().expect("a count") > 2 * 3, "{report}");
    assert!(said.contains("1 of the answers given"), "{said}");
}

#[test]
fn a_promise_that_cannot_be_kept_is_refused_and_one_that_can_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (prompts, exits) = (prompts(&folder), exits(&folder));
    let before = fs::read(&exits).expect("the file");
    let calibrate = |target: &str| {
        let arguments = ["calibrate", MODEL, "--exits", &exits, "--prompts", &prompts];
        [&arguments[..], &["--target-agreement", target, "--max-tokens", "24", "--context", "512"]].concat().join("\n")
    };
    let arguments = calibrate("0.999");
    let (message, code) = run_err(&arguments.split('\n').collect::<Vec<_>>());
    assert!(message.contains("no threshold of any exit keeps 99.9 %"), "{message}");
    assert_eq!((code, fs::read(&exits).expect("the file")), (1, before), "a refusal changes nothing");

    // A third of the tokens, which even this little text can show.
    let arguments = calibrate("0.33");
    run_ok(&arguments.split('\n').collect::<Vec<_>>());
    let file = ExitsFile::open(exits.as_ref()).expect("still a file of exits");
    let exit = file.exit(ExitNumber::Two).expect("calibrated");
    assert!(exit.threshold.is_some());
    assert!(exit.promise.bound().is_some_and(|bound| bound >= 0.33), "{:?}", exit.promise);
    assert!(exit.promise.positions().is_some_and(|positions| positions > 10.0), "{:?}", exit.promise);
}

#[test]
fn wrong_inputs_of_measurements_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let prompts = prompts(&folder);
    for (arguments, expected) in [
        (
            &["eval", MODEL, "--prompts", &prompts, "--category", "cooking"][..],
            "no prompts of the category \"cooking\"",
        ),
        (&["eval", MODEL], "--prompts"),
        (&["calibrate", MODEL, "--exits", &prompts, "--prompts", &prompts], "prompts.jsonl"),
        (&["calibrate", MODEL, "--exits", "x", "--prompts", "y", "--target-agreement", "1.5"], "the agreement is"),
    ] {
        let output = run(arguments);
        assert!(!output.status.success() && stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}
