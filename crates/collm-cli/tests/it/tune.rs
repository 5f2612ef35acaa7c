//! `collm tune` from nothing to a file of exits that promises something, in one command.

use collm_model::{Architecture, ExitsFile, synthetic::SyntheticModel};
use serde_json::Value;

use crate::harness::{run, run_err, run_ok, stderr};

/// A model that is so small that its text is written in seconds.
fn model(folder: &std::path::Path) -> String {
    let path = folder.join("model.gguf");
    SyntheticModel::new(Architecture::Llama).write(&path).expect("the folder is writable");
    path.display().to_string()
}

fn inspect(file: &str) -> Value {
    serde_json::from_str(&run_ok(&["inspect", file, "--json"])).expect("JSON")
}

#[test]
fn one_command_makes_exits_and_another_refits_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, work, made, refitted) = (model(folder.path()), path("work"), path("made.gguf"), path("refitted.gguf"));
    let tune = |options: &[&str]| {
        let common = ["tune", &model, "--work", &work, "--tokens", "8000", "--threads", "1", "--shortlist-rank", "32"];
        run_ok(&[&common, options].concat())
    };

    // With all layers in the tail, exit 2 is the whole model, and has earned its promise.
    let shown = tune(&["--upload-at", "2", "--tail", "2-5", "--out", &made, "--shortlist", "64"]);
    assert!(shown.contains("exit 1 has the whole model's token at") && shown.contains("kept"), "{shown}");
    let first = inspect(&made);
    assert_eq!((&first["tail"], &first["exits"][1]["shortlist"]), (&"2-5".into(), &64.into()), "{first}");
    assert_eq!(first["exits"][1]["promise"]["target"], 0.97);

    tune(&["--refit", &made, "--out", &refitted, "--shortlist", "32", "--target-agreement", "0.9"]);
    let second = inspect(&refitted);
    assert_eq!((&second["tail"], &second["exits"][1]["shortlist"]), (&"2-5".into(), &32.into()), "{second}");
    assert_eq!(second["exits"][1]["promise"]["target"], 0.9);
}

#[test]
fn a_tail_that_was_looked_for_is_fitted_and_a_promise_out_of_reach_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, work, out) = (model(folder.path()), path("work"), path("exits.gguf"));
    let options =
        ["--tokens", "6000", "--threads", "1", "--shortlist-rank", "32", "--upload-at", "2", "--edge-cost", "0.7"];
    let searched = ["--search-tail", "--beam", "1", "--positions", "200", "--out", &out];
    let output = run(&[&["tune", &model, "--work", &work][..], &options, &searched].concat());
    // Layers of a random model cannot be left out.
    let message = stderr(&output);
    assert!(
        message.contains("exits.gguf has no threshold") && message.contains("no threshold of any exit keeps"),
        "{message}"
    );
    assert_eq!(output.status.code(), Some(1));
    let tail = inspect(&out)["tail"].as_str().expect("a list of layers").to_owned();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains(&format!("--upload-at 2 --tail {tail}")), "{tail}: {shown}");
}

#[test]
fn a_tail_is_healed_for_its_budget_and_what_was_learnt_is_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, work, out) = (model(folder.path()), path("work"), path("exits.gguf"));
    let options = ["--tokens", "4000", "--threads", "1", "--shortlist-rank", "32", "--upload-at", "2", "--tail", "2-4"];
    let heal = ["--heal", "--budget", "2s", "--rank", "4", "--out", &out];
    let tune = || stderr(&run(&[&["tune", &model, "--work", &work][..], &options, &heal].concat()));
    let message = tune();
    assert!(message.contains("% of held-back tokens agree"), "{message}");
    assert_eq!(inspect(&out)["tail"], "2-4");
    // Its budget is spent: the next run takes what it had.
    let first = std::fs::read(&out).expect("it was written");
    tune();
    assert!(std::fs::read(&out).expect("it was written") == first, "the same checkpoint makes the same exits");
}

/// The head alone, with everything that it may have: as healing, and nothing of the layers.
#[test]
fn a_head_is_fitted_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, work, out) = (model(folder.path()), path("work"), path("exits.gguf"));
    let options = ["--tokens", "4000", "--threads", "1", "--shortlist-rank", "32", "--upload-at", "2", "--tail", "2-4"];
    let head = ["--fit-head", "--map", "--mlp", "32", "--budget", "2s", "--out", &out];
    let message = stderr(&run(&[&["tune", &model, "--work", &work][..], &options, &head].concat()));
    assert!(message.contains("fitting the exit's head (") && !message.contains("healing"), "{message}");
    let file = ExitsFile::open(std::path::Path::new(&out)).expect("it was written");
    let holds = |name: &str| file.gguf().tensor(name).is_some();
    for tensor in ["norm.weight", "map.weight", "map.bias", "mlp.up.weight", "mlp.down.weight"] {
        assert!(holds(&format!("exit.2.{tensor}")), "{tensor}");
    }
    assert!(file.delta(0, "attn_q.weight").is_none());
}

#[test]
fn what_to_fit_is_said_once() {
    for options in [
        &["--out", "x.gguf"][..],
        &["--out", "x.gguf", "--tail", "3", "--search-tail"],
        &["--heal"],
        &["--out", "x.gguf", "--tail", "3", "--heal", "--fit-head"],
        &["--out", "x.gguf", "--tail", "3", "--fit-head", "--rank", "8"],
        &["--out", "x.gguf", "--tail", "3", "--mlp", "32"],
    ] {
        let (message, code) = run_err(&[&["tune", "nowhere.gguf"], options].concat());
        assert_eq!(code, 2, "{options:?}: {message}");
    }
}
