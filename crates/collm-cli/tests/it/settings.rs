//! What files and the environment decide, and what is said about it.

use std::{fs, path::PathBuf, process::Output};

use tempfile::TempDir;

use crate::{
    harness::{collm, run_ok, stderr, stdout},
    help::commands,
};

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

/// Of each command that has one, an option with a value.
const VALUED: [(&str, &str); 12] = [
    ("demo", "max-tokens"),
    ("run", "max-tokens"),
    ("chat", "max-tokens"),
    ("split", "upload-at"),
    ("cloud", "slots"),
    ("edge", "slots"),
    ("link", "seed"),
    ("doctor", "part"),
    ("tune", "seed"),
    ("calibrate", "max-tokens"),
    ("eval", "max-tokens"),
    ("man", "out"),
];

#[test]
fn every_command_hears_the_flag_before_the_environment_before_the_file_before_the_default() {
    let tables: String = VALUED.iter().map(|(command, option)| format!("[{command}]\n{option} = 11\n")).collect();
    let (file, nothing) = (Settings::of(&tables), Settings::of(""));
    for (command, option) in VALUED {
        let variable = format!("COLLM_{command}_{option}").to_uppercase().replace('-', "_");
        let (environment, flag) = ([(variable.as_str(), "12")], format!("--{option}=13"));
        let show = |settings: &Settings, environment: &[(&str, &str)], typed: &[&str]| {
            row(&settings.run(&[&["config", "show", command], typed].concat(), environment), option)
        };
        assert_eq!(show(&file, &environment, &[&flag]), format!("{option} 13 flag"), "{command}");
        assert_eq!(show(&file, &environment, &[]), format!("{option} 12 environment: {variable}"), "{command}");
        assert_eq!(show(&file, &[], &[]), format!("{option} 11 {}", file.path.display()), "{command}");
        let default = show(&nothing, &[], &[]);
        assert!(default.ends_with(" default") && !default.contains(" 11 "), "{command}: {default}");
    }
}

#[test]
fn no_command_with_values_is_left_out_of_that() {
    let nothing = Settings::of("");
    for command in commands(&run_ok(&["--help"])) {
        let shown = nothing.run(&["config", "show", command], &[]);
        // Families are refused, and switches have nothing to be decided between.
        let has_values = stdout(&shown).lines().skip(1).any(|line| !line.split_whitespace().any(|word| word == "json"));
        let expected = VALUED.iter().any(|(valued, _)| *valued == command);
        assert_eq!(has_values, expected, "{command}: {}", stdout(&shown));
    }
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
    let shown = settings.run(&["config", "show", "edge"], &[]);
    assert!(stderr(&shown).contains("did you mean threads?"), "{}", stderr(&shown));
    assert_eq!(shown.status.code(), Some(2));
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
