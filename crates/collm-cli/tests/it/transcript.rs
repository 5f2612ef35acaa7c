//! What a person sees who types one command after the other, compared with a file in `snapshots`.
//!
//! The person has a machine of their own: nothing cached but the model, no settings, nothing running. What differs from run to run is replaced by a word in brackets, and only that. docs/testing.md has the command that writes the
//! files anew.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use insta::{Settings, assert_snapshot};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{MODEL, Server, collm, model, stderr, stdout};

/// Replaced wherever it stands.
const HIDDEN: [(&str, &str); 6] = [
    (r"\b\d+(\.\d+)? (ms|s)\b", "[time]"),
    // What was faster is a matter of time, too.
    (r"(did it help:  )(the network helped|the network did not help: [^:]*|the cloud alone [^:]*):", "${1}[verdict]:"),
    (r"\b\d+\.\d+ tokens/s", "[rate]"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
    (r"localhost:\d+", "localhost:[port]"),
    // Those who read the file see where colours begin and end.
    ("\u{1b}", "␛"),
];

/// Commands and what they said, in turn.
pub(crate) struct Transcript {
    home: TempDir,
    text: String,
    hidden: Vec<(String, String)>,
}

impl Transcript {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut transcript = Self { home, text: String::new(), hidden: Vec::new() };
        let folder = transcript.path("").display().to_string();
        transcript.hide_text(folder.trim_end_matches('/'), "[home]");
        transcript
    }

    /// On a machine that has the model already.
    pub(crate) fn with_model() -> Self {
        let transcript = Self::new();
        let cached = model();
        let folder = transcript.path("cache/models").join(MODEL);
        fs::create_dir_all(&folder).expect("room");
        let name = cached.file_name().expect("a file");
        let place = folder.join(name);
        fs::hard_link(&cached, &place).or_else(|_| fs::copy(&cached, &place).map(drop)).expect("room");
        transcript
    }

    /// A file of this machine.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// From now on `pattern`, a regular expression, is replaced too.
    pub(crate) fn hide(&mut self, pattern: &str, word: &str) -> &mut Self {
        self.hidden.push((pattern.to_owned(), word.to_owned()));
        self
    }

    /// As [`Self::hide`], for text that means itself.
    pub(crate) fn hide_text(&mut self, text: &str, word: &str) -> &mut Self {
        let is_special = |character: char| !character.is_alphanumeric() && character.is_ascii();
        let escape = |character| if is_special(character) { format!(r"\{character}") } else { String::from(character) };
        self.hide(&text.chars().map(escape).collect::<String>(), word)
    }

    /// The program on this machine.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = collm(arguments);
        command.current_dir(self.home.path()).env_remove("COLUMNS");
        for (name, folder) in [
            ("COLLM_CACHE", "cache"),
            ("HF_HUB_CACHE", "hub"),
            ("XDG_RUNTIME_DIR", "runtime"),
            ("XDG_DATA_HOME", "data"),
        ] {
            command.env(name, self.path(folder));
        }
        command
    }

    /// A server that goes on while more is typed.
    pub(crate) fn start(&mut self, arguments: &[&str]) -> Server {
        writeln!(self.text, "$ collm {} &\n", arguments.join(" ")).expect("memory");
        Server::spawn(self.command(&[arguments, &["--threads", "1", "--context", "512", "--quiet"]].concat()))
    }

    /// Runs the program to its end.
    pub(crate) fn run(&mut self, arguments: &[&str]) -> &mut Self {
        self.run_in(&[], "", arguments)
    }

    /// Runs it with this on stdin.
    pub(crate) fn run_with(&mut self, input: &str, arguments: &[&str]) -> &mut Self {
        self.run_in(&[], input, arguments)
    }

    /// Runs it in an environment, with this on stdin.
    pub(crate) fn run_in(&mut self, environment: &[(&str, &str)], input: &str, arguments: &[&str]) -> &mut Self {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        // It may end before it has read everything.
        let _ = child.stdin.take().expect("stdin is a pipe").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        self.said(&typed(environment, input, arguments), &output)
    }

    /// Runs it to its end and keeps what its JSON is made of: numbers and words differ from machine to machine, names do not.
    pub(crate) fn shape(&mut self, arguments: &[&str]) -> &mut Self {
        let output = self.command(arguments).output().expect("the program starts");
        let printed = serde_json::from_str(&stdout(&output)).expect("JSON");
        let shape = serde_json::to_string_pretty(&shape_of(&printed)).expect("it was JSON");
        writeln!(self.text, "$ {}\n{shape}\n", typed(&[], "", arguments)).expect("memory");
        self
    }

    /// A command line, and what came of it.
    fn said(&mut self, command: &str, output: &Output) -> &mut Self {
        assert!(!stderr(output).contains("panicked"), "{command}: {}", stderr(output));
        writeln!(self.text, "$ {command}").expect("memory");
        for line in stdout(output).lines() {
            writeln!(self.text, "{line}").expect("memory");
        }
        for line in stderr(output).lines().filter(|line| !is_progress(line)) {
            writeln!(self.text, "2> {line}").expect("memory");
        }
        match output.status.code() {
            Some(0) => self.text.push('\n'),
            code => writeln!(self.text, "exit code {}\n", code.expect("it ended by itself")).expect("memory"),
        }
        self
    }

    /// Compares all of it with `snapshots/NAME.snap`.
    #[track_caller]
    pub(crate) fn check(&self, name: &str) {
        check("snapshots", name, &self.text, &self.hidden);
    }
}

/// What is only said where something takes long, as on a busy machine.
fn is_progress(line: &str) -> bool {
    line.contains(" took ") || line.starts_with("fetching")
}

/// Compares text with `FOLDER/NAME.snap`.
#[track_caller]
pub(crate) fn check(folder: &str, name: &str, text: &str, hidden: &[(String, String)]) {
    let mut settings = Settings::new();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    // What a test hides is more special than what all hide.
    for (pattern, word) in hidden {
        settings.add_filter(pattern, word);
    }
    for (pattern, word) in HIDDEN {
        settings.add_filter(pattern, word);
    }
    settings.bind(|| assert_snapshot!(name, text));
}

/// A command line as a person would type it.
fn typed(environment: &[(&str, &str)], input: &str, arguments: &[&str]) -> String {
    let quoted = |word: &&str| {
        let plain = !word.is_empty() && !word.contains(char::is_whitespace);
        if plain { (*word).to_owned() } else { format!("{word:?}") }
    };
    let input = if input.is_empty() { String::new() } else { format!("printf {input:?} | ") };
    let environment: String = environment.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let arguments = arguments.iter().map(quoted).collect::<Vec<_>>().join(" ");
    format!("{input}{environment}collm {arguments}")
}

/// What kind of value each one is; of a list, its first.
fn shape_of(value: &Value) -> Value {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(_) => "yes or no".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "text".into(),
        Value::Array(values) => values.first().map(shape_of).into_iter().collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape_of(value))).collect(),
    }
}
