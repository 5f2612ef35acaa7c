//! The split is real: no process holds much more than its part and what it was told to hold.

use std::fs;

use crate::harness::{CONTEXT, Parts, Server, ask, file_bytes, question};

/// Room for code, stacks, buffers and the tokenizer.
const OVERHEAD: u64 = 64 << 20;

/// Keys and values of one layer and position of the model: two times 192 numbers of two bytes.
const KV_BYTES: u64 = 2 * 192 * 2;

const STATES_BYTES: u64 = 8 << 20;

/// Highest resident set so far, file pages included.
fn resident_peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the system counts it");
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kibibytes << 10
}

#[track_caller]
fn within(what: &str, server: &Server, part: u64, fixed: u64) {
    let (peak, limit) = (resident_peak(server.id()), part + fixed + OVERHEAD);
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{what}: peak {} MiB, part {} MiB, fixed {} MiB, limit {} MiB",
        mib(peak),
        mib(part),
        mib(fixed),
        mib(limit)
    );
    assert!(peak < limit, "the {what} holds {} MiB, {} MiB over its limit", mib(peak), mib(peak - limit));
}

#[test]
#[cfg(target_os = "linux")]
fn each_process_holds_its_part_and_what_it_was_told_to() {
    const SLOTS: u64 = 2;
    let parts = Parts::split();
    let cloud = Server::start(&[
        "cloud",
        "--part",
        &parts.cloud(),
        "--listen",
        "127.0.0.1:0",
        "--slots",
        "2",
        "--states-memory",
        "8MiB",
    ]);
    let edge = Server::start(&["edge", "--part", &parts.edge(), "--cloud", &cloud.url(), "--listen", "127.0.0.1:0"]);
    // Long enough to touch every weight, the key-value memory and the states.
    let prompt = "Tell me more about rivers and the sea. ".repeat(35);
    let answer = ask(&edge, &question(&prompt, 64), |_| ());
    assert!(answer["stats"]["cloud_tokens"].as_u64() > Some(0), "the cloud had work: {}", answer["stats"]);

    let context = CONTEXT as u64;
    within("edge", &edge, file_bytes(&parts.path("edge.gguf")), (10 + 16) * KV_BYTES * context);
    within("cloud", &cloud, file_bytes(&parts.path("cloud.gguf")), 20 * KV_BYTES * context * SLOTS + STATES_BYTES);
}
