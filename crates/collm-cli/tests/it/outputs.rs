//! What commands print, as files that people can read: `snapshots/*.snap`.

use std::fs;

use crate::transcript::Transcript;

#[test]
fn mistakes_are_told_with_what_to_do_next() {
    let mut seen = Transcript::new();
    fs::write(seen.path("notes.gguf"), "These are notes.").expect("room");
    fs::write(seen.path("config.toml"), "[edge]\ntreads = 2\n").expect("room");
    // What the system says of a port where nobody listens is the system's.
    seen.hide(r"\n2>   because: .*(tcp|onnect|refused).*", "");
    for arguments in [
        &["frobnicate"][..],
        &["run"],
        &["run", "hi", "--tempreature", "1"],
        &["run", "hi", "--mode", "fast"],
        &["run", "hi", "--threshold", "high"],
        &["run", "hi", "--mode", "collaborative"],
        &["run", "hi", "--system", "be brief", "--raw"],
        &["run", "hi", "--edge", "http://127.0.0.1:1"],
        &["edge"],
        &["edge", "--model", "smollm3"],
        &["edge", "--part", "nowhere.gguf"],
        &["edge", "--part", "notes.gguf"],
        &["cloud", "--part", "notes.gguf", "--api-key-file", "nowhere.keys"],
        &["split", "notes.gguf", "--upload-at", "2"],
        &["split", "notes.gguf", "--upload-at", "4", "--exit-at", "2"],
        &["inspect", "nowhere.gguf"],
        &["inspect", "notes.gguf"],
        &["pull", "smollm3"],
        &["rm", "smollm2-135m"],
        &["config", "show", "egde"],
        &["completions", "tcsh"],
    ] {
        seen.run(arguments);
    }
    seen.run_in(&[("COLLM_CONFIG", "config.toml")], "", &["edge", "--model", "smollm2-135m"]);
    seen.run_in(&[("COLLM_EDGE_SLOTZ", "2")], "", &["edge", "--model", "smollm2-135m"]);
    seen.check("mistakes");
}

#[test]
fn models_are_listed_split_looked_at_and_removed() {
    let mut seen = Transcript::with_model();
    // Columns are as wide as what is hidden.
    seen.hide(" {3,}", "  ");
    seen.run(&["pull", "smollm2-135m"])
        .run(&["split", "smollm2-135m", "--quiet"])
        .run(&["ls"])
        .run(&["ls", "--json"])
        .run(&["inspect", "smollm2-135m"])
        .run(&["inspect", "cache/parts/smollm2-135m.edge.gguf"])
        .run(&["inspect", "cache/parts/smollm2-135m.cloud.gguf", "--json"])
        .run(&["cloud", "--part", "cache/parts/smollm2-135m.edge.gguf"])
        .run(&["edge", "--part", "cache/parts/smollm2-135m.cloud.gguf"])
        .run(&["rm", "smollm2-135m"])
        .run(&["ls"]);
    seen.check("models");
}

#[test]
fn servers_are_asked_listed_and_examined() {
    let mut seen = Transcript::with_model();
    seen.hide(r"\bCPU \(.*", "CPU ([what this machine has])")
        .hide(r"\d+ cores usable, .*", "[n] cores usable, [features]")
        .hide(r"(ok +kernels +).*", "$1[features]")
        .hide(r"(ok +slow +).*", "$1[what is slow here]")
        .hide(" {3,}", "  ")
        .hide(r"( +)\d+( +)(\d+\w )*\d+\w+\n", "$1[pid]$2[up]\n");
    seen.run(&["split", "smollm2-135m", "--out", "parts", "--exits", "none", "--quiet"])
        .run(&["split", "smollm2-135m", "--out", "others", "--upload-at", "12", "--tail", "20-29", "--quiet"])
        .run(&["ps"]);
    let cloud = seen.start(&["cloud", "--part", "parts/cloud.gguf", "--listen", "127.0.0.1:0"]);
    let url = cloud.url();
    let edge = seen.start(&["edge", "--part", "parts/edge.gguf", "--cloud", &url, "--listen", "127.0.0.1:0"]);
    let asked = ["run", "Say hello.", "--edge", &edge.url(), "--max-tokens", "2"];
    let refused = ["run", "Say hello.", "--part", "others/edge.gguf", "--cloud", &url, "--max-tokens", "2", "--quiet"];
    seen.run(&["ps"])
        .run(&asked)
        .run(&[&asked[..], &["-v"]].concat())
        .run(&[&asked[..], &["--color", "always"]].concat())
        .run_in(&[("CLICOLOR_FORCE", "1")], "", &asked)
        .run_in(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], "", &asked)
        .run_with(
            "Say hello.\n/stats\n/mode standalone\n/threshold\n/help\n/moed\n",
            &["chat", "--edge", &edge.url(), "--max-tokens", "2"],
        )
        .run(&refused)
        .run(&["doctor", "--part", "parts/edge.gguf", "--cloud", &url])
        .run(&["doctor", "--part", "others/edge.gguf", "--cloud", &url])
        .run(&["doctor", "--cloud", "http://127.0.0.1:1"]);
    seen.shape(&["ps", "--json"]).shape(&[&asked[..], &["--json"]].concat());
    seen.check("servers");
}

#[test]
fn settings_are_shown_with_where_they_come_from() {
    let mut seen = Transcript::new();
    seen.hide(" {3,}", "  ");
    fs::write(seen.path("config.toml"), "[edge]\npart = 'edge.gguf'\nslots = 2\n").expect("room");
    let environment = [("COLLM_CONFIG", "config.toml"), ("COLLM_EDGE_THREADS", "3"), ("COLLM_API_KEY", "s3cret")];
    seen.run_in(&environment, "", &["config", "path"]).run_in(
        &environment,
        "",
        &["config", "show", "edge", "--context", "256"],
    );
    seen.check("settings");
}
