//! The processes: a cloud that holds the whole model, and the edge that is recorded, on a core each.

use crate::{
    commands::demo::{Scene, stage::Cores},
    process::Server,
};

/// Positions of every context: a prompt and its answer, small enough for the memory of many.
const CONTEXT: &str = "1024";

/// A cloud with room for so many sessions at once.
pub(super) fn cloud(scene: &Scene, sessions: u32) -> anyhow::Result<Server> {
    let (model, upload_at) = (scene.model.path.display().to_string(), scene.upload_at.to_string());
    let (slots, held) = (sessions.to_string(), (2 * sessions).to_string());
    let own = ["--model", &model, "--upload-at", &upload_at, "--sessions", &held, "--slots", &slots];
    start("cloud", Cores::choose().cloud, &[&own[..], &["--metrics", "127.0.0.1:0"]].concat())
}

/// An edge that finds its cloud at `url`, and keeps nothing between two answers.
pub(super) fn edge(scene: &Scene, url: &str) -> anyhow::Result<Server> {
    let part = scene.parts.edge.display().to_string();
    let own = ["--part", &part, "--cloud", url, "--keep", "0s", "--deadline", "30s", "--slots", "1"];
    start("edge", Cores::choose().edge, &scene.with_edge_arguments(&own))
}

fn start(command: &str, core: u32, own: &[&str]) -> anyhow::Result<Server> {
    let core = core.to_string();
    let common = [command, "--quiet", "--listen", "127.0.0.1:0", "--threads", "1", "--cores", &core];
    let arguments = common.iter().chain(&["--context", CONTEXT]).chain(own).map(ToString::to_string);
    Server::start(&arguments.collect::<Vec<_>>())
}
