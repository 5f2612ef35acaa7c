//! Runs the program: to its end, or as a server that is killed with its handle.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The model of all tests on real weights.
pub(crate) const MODEL: &str = "smollm2-135m";

/// Small, so that its memory is not what takes time or space.
pub(crate) const CONTEXT: usize = 512;

/// The program, without what the environment of the test would change about it.
pub(crate) fn collm(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collm"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env("COLLM_CONFIG", "")
        .env_remove("COLLM_LOG")
        .env_remove("COLLM_API_KEY")
        .env_remove("COLLM_CLOUD_KEY")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE");
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    collm(arguments).output().expect("the program starts")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is text")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is text")
}

/// What it prints when it succeeds.
#[track_caller]
pub(crate) fn run_ok(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?} failed: {}", stderr(&output));
    stdout(&output)
}

/// The message and exit code of a failure, which must be no panic.
#[track_caller]
pub(crate) fn run_err(arguments: &[&str]) -> (String, i32) {
    let output = run(arguments);
    let message = stderr(&output);
    assert!(!output.status.success(), "{arguments:?} succeeded: {}", stdout(&output));
    assert!(!message.contains("panicked"), "{arguments:?} panicked: {message}");
    (message, output.status.code().expect("it ended by itself"))
}

/// The default model on this machine, fetched if it is not there yet.
pub(crate) fn model() -> PathBuf {
    PathBuf::from(run_ok(&["pull", MODEL]).trim())
}

/// Both parts of the default model, as it is, gone with this value.
pub(crate) struct Parts {
    folder: TempDir,
}

impl Parts {
    pub(crate) fn split() -> Self {
        // Without fitted exits, so that what an exit says can be computed from the model alone.
        Self::split_with(&["--exits", "none"])
    }

    pub(crate) fn split_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().display().to_string();
        run_ok(&[["split", MODEL, "--out", &out].as_slice(), options].concat());
        Self { folder }
    }

    pub(crate) fn edge(&self) -> String {
        self.path("edge.gguf").display().to_string()
    }

    pub(crate) fn cloud(&self) -> String {
        self.path("cloud.gguf").display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A server that is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it with one thread, a small context and results that do not depend on batches, and waits until it serves.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let context = CONTEXT.to_string();
        Self::spawn(collm(&[arguments, &["--threads", "1", "--context", &context, "--quiet"]].concat()))
    }

    /// Runs a prepared command, and waits until it serves.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the server's first line");
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{command:?} said {line:?}"));
        let address = ready["listening"].as_str().and_then(|address| address.parse().ok()).expect("an address");
        Self { child, address, _stdout: stdout }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it without a farewell.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it was started here");
        self.child.wait().expect("it was started here");
    }

    /// How it ended, once it has.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it was started here")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // As a machine that loses power: no farewell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago, for a server that is started several times.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

/// Asks an edge and hands each line to `see` as it comes; the report of the answer.
pub(crate) fn ask(edge: &Server, question: &Value, mut see: impl FnMut(&Value)) -> Value {
    let mut response = ureq::post(format!("{}/v1/generate", edge.url())).send_json(question).expect("the edge answers");
    for line in BufReader::new(response.body_mut().as_reader()).lines() {
        let line: Value = serde_json::from_str(&line.expect("the stream goes on")).expect("a line is JSON");
        see(&line);
        match line["type"].as_str() {
            Some("finished") => return line["answer"].clone(),
            Some("error") => panic!("the answer failed: {line}"),
            _ => {}
        }
    }
    panic!("the stream ended without an answer")
}

/// A greedy question through the chat template.
pub(crate) fn question(prompt: &str, max_tokens: u32) -> Value {
    json!({ "messages": [{ "role": "user", "content": prompt }], "max_tokens": max_tokens, "stream": true })
}

pub(crate) fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).expect("the file is there").len()
}
