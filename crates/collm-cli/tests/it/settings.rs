//! What files and the environment decide, and what is said about it.

use std::{fs, path::PathBuf, process::Output};

use tempfile::TempDir;

use crate::harness::{collm, run_ok, stderr, stdout};

/// A file of settings, gone with this value.
struct Settings {
    _folder: TempDir,
    path: PathBuf,
}

impl Settings {
    fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("config.toml");
        fs::write(&path, text).expect("room for a file");
        Self { _folder: folder, path }
    }

    fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = collm(arguments);
        command.env("COLLM_CONFIG", &self.path).envs(environment.iter().copied());
        command.output().expect("the program starts")
    }
}

/// The row of an option, its words joined by single spaces.
fn row(output: &Output, option: &str) -> String {
    let text = stdout(output);
    let found = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = found.into_iter().find(|words| words.first() == Some(&option));
    row.unwrap_or_else(|| panic!("no {option} in {text}{}", stderr(output))).join(" ")
}

#[test]
fn every_value_says_where_it_came_from() {
    let settings = Settings::of("[edge]\nmodel = 'smollm2-135m'\nslots = 2\nthreads = 1\ncontext = 512\n");
    let environment = [("COLLM_EDGE_THREADS", "3"), ("COLLM_API_KEY", "s3cret")];
    let output = settings.run(&["config", "show", "edge", "--context", "256"], &environment);
    let file = settings.path.display();
    for (option, expected) in [
        ("model", format!("model smollm2-135m {file}")),
        ("slots", format!("slots 2 {file}")),
        ("threads", "threads 3 environment: COLLM_EDGE_THREADS".to_owned()),
        ("context", "context 256 flag".to_owned()),
        ("listen", "listen 127.0.0.1:8080 default".to_owned()),
        ("cloud", "cloud – default".to_owned()),
        ("api-key", "api-key (not shown) environment: COLLM_API_KEY".to_owned()),
    ] {
        assert_eq!(row(&output, option), expected);
    }
    assert!(!stdout(&output).contains("s3cret"));
}

#[test]
fn what_is_typed_replaces_what_it_contradicts() {
    let settings = Settings::of("[edge]\npart = '/nowhere/edge.gguf'\n");
    let output = settings.run(&["edge"], &[]);
    assert!(stderr(&output).contains("/nowhere/edge.gguf"), "{}", stderr(&output));
    let output = settings.run(&["edge", "--model", "/nowhere/whole.gguf"], &[]);
    assert!(stderr(&output).contains("/nowhere/whole.gguf"), "{}", stderr(&output));
}

#[test]
fn mistakes_in_the_file_are_wrong_usage_with_the_nearest_name() {
    let settings = Settings::of("[edge]\ntreads = 2\n");
    let output = settings.run(&["ls"], &[]);
    assert!(stderr(&output).contains("did you mean threads?"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(2));
    assert!(settings.run(&["config", "path"], &[]).status.success(), "this one must work while the file is wrong");
}

#[test]
fn a_value_that_the_parser_refuses_is_told_with_its_place() {
    let settings = Settings::of("[edge]\nmodel = 'smollm2-135m'\nslots = 'many'\n");
    let output = settings.run(&["edge"], &[]);
    let said = stderr(&output);
    assert!(said.contains("invalid value 'many'") && said.contains("--slots is set by"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn shells_and_manuals_know_every_command() {
    let shells = ["bash", "zsh", "fish"].map(|shell| run_ok(&["completions", shell]));
    let folder = tempfile::tempdir().expect("a temporary folder");
    run_ok(&["man", "--out", &folder.path().display().to_string()]);
    for command in ["edge", "cloud", "run", "config"] {
        assert!(shells.iter().all(|script| script.contains(command)), "{command}");
        assert!(folder.path().join(format!("collm-{command}.1")).exists(), "{command}");
    }
    assert!(run_ok(&["man"]).contains(".TH collm 1"));
}
