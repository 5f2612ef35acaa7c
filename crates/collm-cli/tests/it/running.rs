//! What runs on this machine, and what does not any more.

use serde_json::Value;

use crate::harness::{MODEL, Parts, Server, run_ok};

fn listed(server: &Server) -> Option<Value> {
    let all: Value = serde_json::from_str(&run_ok(&["ps", "--json"])).expect("a list");
    let mut entries = all.as_array().expect("a list").iter();
    entries.find(|entry| entry["pid"] == server.id()).cloned()
}

#[test]
fn servers_are_listed_while_they_run() {
    let parts = Parts::split();
    let mut cloud = Server::start(&["cloud", "--part", &parts.cloud(), "--listen", "127.0.0.1:0"]);
    let edge = Server::start(&["edge", "--part", &parts.edge(), "--cloud", &cloud.url(), "--listen", "127.0.0.1:0"]);
    let entry = listed(&edge).expect("it runs");
    assert_eq!((entry["role"].as_str(), entry["url"].as_str()), (Some("edge"), Some(edge.url().as_str())));
    assert_eq!((entry["model"].as_str(), entry["cloud"].as_str()), (Some(MODEL), Some(cloud.url().as_str())));
    assert_eq!(listed(&cloud).expect("it runs")["role"], "cloud");
    assert!(run_ok(&["ps"]).contains(&edge.url()));
    // As a machine that loses power: its note is still there.
    cloud.kill();
    assert_eq!(listed(&cloud), None);
}
