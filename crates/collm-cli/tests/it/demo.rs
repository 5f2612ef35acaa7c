//! The demo from its first line to its last, and that nothing of it is left when it is killed.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::harness::{collm, run_ok};

#[test]
fn the_demo_colours_an_answer_and_compares_the_modes() {
    let shown = run_ok(&["demo", "Say hello.", "--max-tokens", "6", "--rtt", "2ms", "--color", "always"]);
    // The colours of exit 2 and of the cloud stand in the legend, whoever decided which token.
    assert!(shown.contains("\u{1b}[36m") || shown.contains("\u{1b}[35m"), "{shown}");
    for mode in ["whole", "cloud", "naive", "standalone", "collaborative", "exact"] {
        assert!(shown.contains(mode), "no {mode} in {shown}");
    }
    let row =
        |name: &str| shown.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in {shown}"));
    // Whole, cloud, naive and exact compute what the whole model computes, to the last bit.
    assert!(row("agrees with whole").matches("100 %").count() >= 4, "{shown}");
    assert!(row("same text as whole").split_whitespace().filter(|word| *word == "yes").count() >= 4, "{shown}");
    assert!(row("bytes up").contains("0 B"), "standalone and whole send nothing: {shown}");
}

#[test]
#[cfg(target_os = "linux")]
fn no_process_outlives_a_demo_that_is_killed() {
    let mut command = collm(&["demo", "Count to one hundred.", "--max-tokens", "200", "--color", "never"]);
    let mut demo = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut stdout = BufReader::new(demo.stdout.take().expect("stdout is a pipe"));
    // Its first line comes when edge and cloud are running.
    stdout.read_line(&mut String::new()).expect("the demo speaks");
    let children = children_of(demo.id());
    assert_eq!(children.len(), 2, "an edge and a cloud");
    demo.kill().expect("it runs");
    demo.wait().expect("it ends");
    let patience = Instant::now() + Duration::from_secs(30);
    while children.iter().any(|child| is_running(child)) {
        assert!(Instant::now() < patience, "a child of the demo outlives it: {children:?}");
        sleep(Duration::from_millis(20));
    }
}

fn children_of(process: u32) -> Vec<String> {
    let path = format!("/proc/{process}/task/{process}/children");
    fs::read_to_string(path).expect("the process runs").split_whitespace().map(str::to_owned).collect()
}

/// A zombie has ended; whoever inherited it will collect it.
fn is_running(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
}
