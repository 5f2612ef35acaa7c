//! Files and prompts that cannot be used: a named error, exit code 1, no panic, and nothing that was good is lost.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::harness::{MODEL, Parts, Server, ask, model, question, run, run_err, run_ok, stderr};

/// A file that is gone with this value.
struct Made {
    _folder: TempDir,
    path: PathBuf,
}

impl Made {
    fn of(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("made.gguf");
        fs::write(&path, bytes).expect("room for a file");
        Self { _folder: folder, path }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Every command that opens a file refuses it with the same words.
#[track_caller]
fn refused_everywhere(file: &Made, expected: &str) {
    let name = file.name();
    for arguments in [
        &["inspect", &name][..],
        &["split", &name, "--upload-at", "1", "--exit-at", "2"],
        &["run", "hi", "--model", &name],
        &["cloud", "--part", &name],
        &["cloud", "--model", &name, "--upload-at", "1"],
        &["edge", "--part", &name],
    ] {
        let (message, code) = run_err(arguments);
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert_eq!(code, 1, "{arguments:?}: {message}");
    }
}

#[test]
fn truncated_models_are_refused() {
    let whole = fs::read(model()).expect("the model is there");
    for keep in [0, 3, 20, 4096, whole.len() / 2, whole.len() - 1] {
        refused_everywhere(&Made::of(&whole[..keep]), "made.gguf");
    }
}

#[test]
fn hostile_headers_are_refused_before_memory_is_taken() {
    let counts = |tensors: u64, keys: u64| {
        [b"GGUF".as_slice(), &3u32.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
    };
    let long_key = [counts(0, 1), u64::MAX.to_le_bytes().to_vec()].concat();
    for bytes in [counts(u64::MAX, 1), counts(1, u64::MAX), long_key, b"GGUF".repeat(64)] {
        refused_everywhere(&Made::of(&bytes), "made.gguf");
    }
}

#[test]
fn an_unknown_architecture_is_named_beside_the_supported_ones() {
    let mut bytes = fs::read(model()).expect("the model is there");
    let key = b"general.architecture";
    let start = bytes.windows(key.len()).position(|window| window == key).expect("the key is there");
    // The key is followed by the type and the length of its value.
    let value = start + key.len() + 4 + 8;
    assert_eq!(&bytes[value..value + 5], b"llama");
    bytes[value..value + 5].copy_from_slice(b"mamba");
    let file = Made::of(&bytes);
    refused_everywhere(&file, "mamba");
    let (message, _) = run_err(&["inspect", &file.name()]);
    for supported in ["llama", "qwen2", "qwen3", "gemma3"] {
        assert!(message.contains(supported), "{message}");
    }
}

#[test]
fn parts_are_not_taken_for_each_other_or_for_the_whole() {
    let parts = Parts::split();
    for (arguments, expected) in [
        (["cloud", "--part", &parts.edge()], "is no cloud part"),
        (["edge", "--part", &parts.cloud()], "is a cloud part"),
        (["split", "--upload-at=2", &parts.edge()], "add --tail"),
    ] {
        let (message, _) = run_err(&arguments);
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    let (message, code) = run_err(&["split", &parts.edge(), "--upload-at", "2", "--exit-at", "3"]);
    assert!(message.contains("already a part") && code == 1, "{message}");
}

#[test]
fn a_cloud_of_another_pair_is_refused_and_the_answer_is_not_lost() {
    let parts = Parts::split();
    let others = Parts::split_with(&["--upload-at", "12", "--tail", "20-29"]);
    let cloud = Server::start(&["cloud", "--part", &others.cloud(), "--listen", "127.0.0.1:0"]);
    let edge = Server::start(&["edge", "--part", &parts.edge(), "--cloud", &cloud.url(), "--listen", "127.0.0.1:0"]);
    let mut reasons = String::new();
    let answer =
        ask(&edge, &question("Say hello.", 12), |line| reasons.push_str(line["reason"].as_str().unwrap_or_default()));
    assert_eq!(answer["degraded"], true);
    assert!(reasons.contains("refused") && reasons.contains("pair"), "{reasons}");
    let alone =
        run_ok(&["run", "Say hello.", "--part", &parts.edge(), "--json", "--max-tokens", "12", "--threads", "1"]);
    let alone: serde_json::Value = serde_json::from_str(&alone).expect("a report is JSON");
    assert_eq!(answer["text"], alone["text"]);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_not_cut() {
    let prompt = "word ".repeat(100);
    let output = run(&["run", &prompt, "--model", MODEL, "--context", "64", "--threads", "1", "--quiet"]);
    let message = stderr(&output);
    assert!(message.contains("the prompt has 1") && message.contains("the context holds 64"), "{message}");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_failed_split_leaves_what_was_there() {
    let parts = Parts::split();
    let before = fs::read(parts.path("edge.gguf")).expect("the part is there");
    let out = parts.path("").display().to_string();
    let (message, _) = run_err(&["split", MODEL, "--out", &out, "--upload-at", "99", "--exit-at", "99"]);
    assert!(message.contains("between 1 and 29"), "{message}");
    assert_eq!(fs::read(parts.path("edge.gguf")).expect("the part is still there"), before);
}

#[test]
fn an_unknown_device_is_named_beside_those_there_are() {
    for command in [
        &["run", "hi", "--mode", "whole"][..],
        &["edge", "--listen", "127.0.0.1:0"],
        &["cloud", "--listen", "127.0.0.1:0"],
    ] {
        let (message, code) = run_err(&[command, &["--model", MODEL, "--device", "abacus", "--quiet"]].concat());
        assert!(message.contains("there is no device \"abacus\"; this machine has [\"CPU\""), "{command:?}: {message}");
        assert_eq!(code, 1, "{command:?}: {message}");
    }
    run_ok(&["run", "hi", "--model", MODEL, "--device", "CPU", "--max-tokens", "1", "--quiet"]);
}
