//! Conversations, scripted: every line of stdin is said in turn.

use std::{io::Write as _, process::Output, process::Stdio};

use crate::harness::{MODEL, Server, collm, stderr, stdout};

fn chat(edge: &Server, options: &[&str], script: &str) -> Output {
    let url = edge.url();
    let arguments = [&["chat", "--edge", &url, "--max-tokens", "8"], options].concat();
    let mut command = collm(&arguments);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // It may end before it has read everything.
    let _ = stdin.write_all(script.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends with its input")
}

#[test]
fn a_scripted_conversation_is_answered_line_by_line() {
    let edge = Server::start(&["edge", "--model", MODEL, "--listen", "127.0.0.1:0"]);
    let once = chat(&edge, &[], "Say hello.\n");
    assert!(once.status.success(), "{}", stderr(&once));
    let answer = stdout(&once);
    assert!(!answer.trim().is_empty());

    let script = "/threshold 0.5\n\nSay hello.\n/stats\n/clear\nSay hello.\n/mode whole\n/help\n";
    let more = chat(&edge, &["-v"], script);
    assert!(more.status.success(), "{}", stderr(&more));
    assert_eq!(stdout(&more), answer.repeat(2), "a new conversation knows nothing of the one before");
    let said = stderr(&more);
    for expected in
        ["threshold 0.5", "eval rate:", "tokens by source:     whole model 8", "a new conversation", "mode whole"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn turns_are_remembered_and_mistakes_end_a_script() {
    let edge = Server::start(&["edge", "--model", MODEL, "--listen", "127.0.0.1:0"]);
    let twice = stdout(&chat(&edge, &[], "Say hello.\nSay hello.\n"));
    let once = stdout(&chat(&edge, &[], "Say hello.\n"));
    assert!(twice.starts_with(&once) && twice != once.repeat(2), "the second answer knows the first: {twice:?}");
    for (script, expected, code) in
        [("/moed exact\nSay hello.\n", "/help shows", 2), ("/mode exact\nSay hello.\n", "mode", 1)]
    {
        let output = chat(&edge, &[], script);
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert_eq!((stdout(&output).trim(), output.status.code()), ("", Some(code)));
    }
}
