//! What is said: help, wrong usage, colours.

use crate::harness::{collm, run, run_err, run_ok, stderr, stdout};

const COMMANDS: [&str; 19] = [
    "demo",
    "run",
    "pull",
    "ls",
    "rm",
    "inspect",
    "split",
    "cloud",
    "edge",
    "link",
    "doctor",
    "bench",
    "config",
    "completions",
    "man",
    "chat",
    "ps",
    "eval",
    "calibrate",
];

#[test]
fn every_command_explains_itself() {
    let overview = run_ok(&["--help"]);
    for command in COMMANDS {
        assert!(overview.contains(&format!("\n  {command} ")), "the overview lacks {command}");
        let help = run_ok(&[command, "--help"]);
        assert!(help.contains("Usage: collm"), "{help}");
        // Bench is a family: its members have the examples.
        assert!(help.contains("Example") || command == "bench", "{command} shows no example");
    }
    assert!(run_ok(&["bench", "engine", "--help"]).contains("Example"));
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    for (arguments, expected) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (&["run"], "<PROMPT>"),
        (&["run", "hi", "--mode", "edge"], "the modes are whole, cloud, naive, standalone, collaborative"),
        (&["run", "hi", "--mode", "naive"], "add --cloud URL"),
        (&["run", "hi", "--threshold=-1"], "write a confidence"),
        (&["run", "hi", "--budget", "60ms"], "write a budget as tpot=60ms"),
        (&["run", "hi", "--budget", "cloud=120%"], "from 0% to 100%"),
        (&["run", "hi", "--budget", "cloud=20%", "--threshold", "0.9"], "cannot be used with"),
        (&["run", "hi", "--threshold-min", "0.5"], "--budget"),
        (&["edge", "--part", "e.gguf", "--budget", "tpot=60ms"], "--cloud"),
        (&["run", "hi", "--top-p", "0"], "top_p is 0; it must be above 0"),
        (&["run", "hi", "--system", "be brief", "--raw"], "cannot be used with"),
        (&["cloud"], "--part"),
        (&["cloud", "--part", "a", "--model", "b"], "cannot be used with"),
        (&["split", "m.gguf", "--tail", "1-2"], "--upload-at"),
        (&["split", "m.gguf", "--upload-at", "2", "--tail", "2-1"], "no list of layers"),
        (&["link", "--to", "127.0.0.1:1", "--up", "0"], "zero"),
    ] {
        let (message, code) = run_err(arguments);
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert_eq!(code, 2, "{arguments:?}: {message}");
    }
}

#[test]
fn failures_say_what_to_do_next() {
    for (arguments, expected) in [
        (&["pull", "smollm3"][..], "use smollm2-135m, gemma3-270m, hf:user/repo[:quant] or the path of a .gguf file"),
        (&["inspect", "/nowhere/model.gguf"], "there is no file /nowhere/model.gguf"),
        (&["run", "hi", "--edge", "http://127.0.0.1:1"], "is `collm edge` running there?"),
        (&["doctor", "--cloud", "http://127.0.0.1:1"], "is `collm cloud` running there?"),
        (&["rm", "no-such-thing"], "`collm ls` lists what is"),
        (&["link", "--to", "127.0.0.1:1", "--listen", "256.0.0.1:1"], "choose another --listen"),
    ] {
        let output = run(arguments);
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    }
}

#[test]
fn colours_can_be_turned_off_and_on() {
    let coloured = |arguments: &[&str], no_color: bool| {
        let mut command = collm(arguments);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let output = command.output().expect("the program starts");
        stderr(&output).contains('\u{1b}')
    };
    let failing = ["inspect", "/nowhere/model.gguf"];
    assert!(!coloured(&failing, false), "a pipe is no terminal");
    assert!(coloured(&[&failing[..], &["--color", "always"]].concat(), false));
    assert!(!coloured(&failing, true));
    assert!(!coloured(&[&failing[..], &["--color", "never"]].concat(), false));
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(run_ok(&["--version"]).trim(), concat!("collm ", env!("CARGO_PKG_VERSION")));
}
