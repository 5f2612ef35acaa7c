//! The demo from its first line to its last, and that nothing of it is left when it is killed.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Parts, collm, run_err, run_ok};

#[test]
fn the_demo_colours_an_answer_and_compares_the_modes() {
    let shown = run_ok(&["demo", "Say hello.", "--max-tokens", "6", "--rtt", "2ms", "--color", "always"]);
    // The legend has the colours, too.
    let answer = shown.split('■').next().expect("a first part");
    assert!(coloured(answer, CYAN) + coloured(answer, MAGENTA) > 0, "{shown}");
    // Whole, cloud, naive and exact compute what the whole model computes, to the last bit.
    for mode in ["whole", "cloud", "naive", "exact"] {
        assert_eq!(cell(&shown, "agrees with whole", mode), "100 %", "{mode}: {shown}");
        assert_eq!(cell(&shown, "same text as whole", mode), "yes", "{mode}: {shown}");
    }
    for mode in ["whole", "standalone"] {
        assert_eq!(cell(&shown, "bytes up", mode), "0 B", "{mode}: {shown}");
        assert_eq!(cell(&shown, "decided by the cloud", mode), "0 %", "{mode}: {shown}");
    }
    for mode in ["cloud", "naive", "collaborative", "exact"] {
        assert_ne!(cell(&shown, "bytes up", mode), "0 B", "{mode}: {shown}");
    }
}

const CYAN: &str = "\u{1b}[36m";
const MAGENTA: &str = "\u{1b}[35m";

/// How often text that is not empty stands in this colour.
fn coloured(shown: &str, colour: &str) -> usize {
    shown.split(colour).skip(1).filter(|rest| !rest.starts_with('\u{1b}')).count()
}

/// What stands in a row of the table under a mode. Cells are two spaces apart at least, and have one inside at most.
#[track_caller]
fn cell<'a>(shown: &'a str, row: &str, mode: &str) -> &'a str {
    let cells = |line: &'a str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
    let header = shown.lines().find(|line| cells(line).eq(MODES)).unwrap_or_else(|| panic!("no header in {shown}"));
    let column = cells(header).position(|cell| cell == mode).expect("a mode");
    let row =
        shown.lines().find(|line| cells(line).next() == Some(row)).unwrap_or_else(|| panic!("no {row} in {shown}"));
    cells(row).nth(1 + column).unwrap_or_else(|| panic!("no {mode} in {row}"))
}

/// The table's columns.
const MODES: [&str; 6] = ["whole", "cloud", "naive", "standalone", "collaborative", "exact"];

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

#[test]
fn the_demo_serves_a_page_whose_link_can_be_cut() {
    let demo = Page::open();
    assert_eq!(demo.get("/props")["link"]["cut"], false);
    // The cloud of this demo holds the whole model: it serves every mode.
    for mode in ["cloud", "exact"] {
        assert_eq!(demo.answer(mode)["degraded"], false, "{mode}");
    }
    demo.cut(true);
    let alone = demo.answer("exact");
    assert_eq!((&alone["degraded"], &alone["stats"]["cloud_tokens"]), (&json!(true), &json!(0)));
    demo.cut(false);
    // The edge leaves a cloud that failed alone for a while.
    let patience = Instant::now() + Duration::from_secs(60);
    while demo.answer("exact")["degraded"] == true {
        assert!(Instant::now() < patience, "the cloud is not asked again");
    }
}

#[test]
fn only_this_machine_may_cut_a_link() {
    let parts = Parts::split();
    let cloud = ["--cloud", "http://127.0.0.1:1", "--emulate-link", "20ms,30mbit"];
    let (message, code) =
        run_err(&[["edge", "--part", &parts.edge(), "--listen", "0.0.0.0:0"].as_slice(), &cloud].concat());
    assert!(message.contains("for this machine alone"), "{message}");
    assert_eq!(code, 2);
}

/// `collm demo --page`, killed with this value.
struct Page {
    demo: Child,
    url: String,
}

impl Page {
    fn open() -> Self {
        let mut command = collm(&["demo", "--page", "--rtt", "2ms", "--color", "never"]);
        let mut demo = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let stdout = BufReader::new(demo.stdout.take().expect("stdout is a pipe"));
        let mut lines = stdout.lines().map(|line| line.expect("the demo speaks").trim().to_owned());
        let url = lines.find(|line| line.starts_with("http://")).expect("it says where the page is");
        // Kept open, or its next line would fail it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { demo, url: url.trim_end_matches('/').to_owned() }
    }

    fn get(&self, path: &str) -> Value {
        ureq::get(format!("{}{path}", self.url)).call().expect("it serves").body_mut().read_json().expect("JSON")
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        ureq::post(format!("{}{path}", self.url))
            .send_json(body)
            .expect("it serves")
            .body_mut()
            .read_json()
            .expect("JSON")
    }

    fn cut(&self, cut: bool) {
        assert_eq!(self.post("/link", &json!({ "cut": cut }))["cut"], cut);
    }

    fn answer(&self, mode: &str) -> Value {
        self.post("/v1/generate", &json!({ "prompt": "The sky is", "mode": mode, "max_tokens": 4 }))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.demo.kill();
        let _ = self.demo.wait();
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
