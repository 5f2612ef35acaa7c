//! The program on a terminal: what is typed, edited and interrupted there, and colours.

use std::{
    fs,
    process::{Command, Stdio},
};

use rexpect::{
    process::WaitStatus,
    session::{PtySession, spawn_command},
};
use tempfile::TempDir;

use crate::harness::{MODEL, Server, collm};

/// A terminal that is silent for so long has stopped for good.
const PATIENCE_MS: u64 = 120_000;

/// What the editor says when it leaves a line.
const LINE_LEFT: &str = "\u{1b}[?2004l";

/// Colour of a token of the whole model.
const BLUE: &str = "\u{1b}[34m";

const UP: &str = "\u{1b}[A";

fn on_terminal(mut command: Command) -> PtySession {
    command.env("TERM", "xterm-256color").stdin(Stdio::inherit());
    spawn_command(command, Some(PATIENCE_MS)).expect("a terminal")
}

/// All that a command says until it ends.
fn said_on_terminal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = collm(arguments);
    command.envs(environment.iter().copied());
    on_terminal(command).exp_eof().expect("it ends")
}

/// A conversation with an edge, and the folder that keeps what was typed.
struct Chat {
    terminal: PtySession,
    folder: TempDir,
}

impl Chat {
    fn with(edge: &Server) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = collm(&["chat", "--edge", &edge.url(), "--max-tokens", "300"]);
        command.env("XDG_DATA_HOME", folder.path());
        let mut chat = Self { terminal: on_terminal(command), folder };
        chat.sees("ctrl-d leaves");
        chat.sees("> ");
        chat
    }

    fn sees(&mut self, text: &str) -> String {
        self.terminal.exp_string(text).unwrap_or_else(|error| panic!("no {text:?}: {error}"))
    }

    fn types(&mut self, keys: &str) {
        self.terminal.send(keys).expect("it listens");
        self.terminal.flush().expect("it listens");
    }

    /// Leaves, and what the next conversation could recall.
    fn leaves(mut self) -> String {
        self.terminal.send_control('d').expect("it listens");
        self.terminal.exp_eof().expect("it ends");
        let status = self.terminal.process().wait().expect("it ended");
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        fs::read_to_string(self.folder.path().join("collm/chat-history")).expect("what was typed is kept")
    }
}

#[test]
fn a_conversation_is_led_by_keys() {
    let edge = Server::start(&["edge", "--model", MODEL, "--listen", "127.0.0.1:0"]);
    let mut chat = Chat::with(&edge);
    chat.types("/stats\r");
    chat.sees("no answer yet");
    chat.types("/mode whole\r");
    chat.sees("\nmode whole\r\n");

    // Ctrl-c ends the answer and nothing else.
    chat.types("Write a long story about a fox.\r");
    chat.sees(BLUE);
    chat.terminal.send_control('c').expect("it listens");
    chat.sees("cancelled");
    chat.sees("> ");
    // Where a line is typed, it drops the line.
    chat.types("/clear but not really");
    chat.terminal.send_control('c').expect("it listens");
    // What is typed before the next prompt may be dropped with the line.
    chat.sees(LINE_LEFT);
    chat.sees("> ");
    chat.types("/threshold 0.5\r");
    chat.sees("\nthreshold 0.5\r\n");

    // Earlier lines come back, over what was dropped.
    chat.types(&format!("{UP}{UP}{UP}\r"));
    chat.sees("\nmode whole\r\n");
    chat.types("/clear\r");
    chat.sees("\na new conversation");

    // A line that is longer than the terminal is wide is one line.
    chat.types(&format!("Say hello.{}\r", " Say hello.".repeat(20)));
    chat.sees("whole model");
    chat.sees("> ");
    chat.types("/stats\r");
    chat.sees("eval rate:");
    chat.sees("> ");
    let history = chat.leaves();
    assert!(history.contains("/mode whole") && history.contains("a fox."), "{history}");
    assert!(history.lines().any(|line| line.matches("Say hello.").count() == 21), "{history}");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    // Quiet, since a bar clears its line whatever is said of colours.
    let failing = ["inspect", "/nowhere/model.gguf", "--quiet"];
    assert!(said_on_terminal(&failing, &[]).contains("\u{1b}["));
    for (environment, option) in [(("NO_COLOR", "1"), "auto"), (("TERM_IS", "colourful"), "never")] {
        let arguments = [&failing[..], &["--color", option]].concat();
        let said = said_on_terminal(&arguments, &[environment]);
        assert!(!said.contains("\u{1b}["), "{environment:?} {option}: {said:?}");
    }
}
