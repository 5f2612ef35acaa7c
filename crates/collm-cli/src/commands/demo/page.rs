//! `collm demo --page`: an edge that stays up with its page, behind a link that the page can cut.
//!
//! The link is in the edge's own process, so that only the edge's API commands it. The cloud holds the whole model, which serves
//! every mode.

use std::{pin::pin, time::Duration};

use anyhow::ensure;
use tokio::time::sleep;

use super::{
    Scene, introduce,
    stage::{self, Cores},
};
use crate::{
    args::{DemoArgs, values::Auto},
    commands::{interrupted, runtime},
    process::Server,
    ui::{
        self,
        colour::{FAINT, Painted, STRONG},
        progress::ProgressMode,
    },
};

/// How often to look whether the processes are still there.
const GLANCE: Duration = Duration::from_millis(500);

/// Serves the page on this port of 127.0.0.1, any free one for 0, until ctrl-c.
pub(super) fn serve(args: &DemoArgs, port: u16, scene: &Scene, progress: ProgressMode) -> anyhow::Result<()> {
    let cores = Cores::choose();
    let step = progress.step("starting edge and cloud");
    let cloud = Server::start(&cloud(scene, cores))?;
    let edge = Server::start(&edge(args, port, scene, cores, &cloud))?;
    step.done("took");
    introduce(args, cores)?;
    ui::print::line(format_args!("\n  {}\n", Painted(STRONG, format!("http://{}/", edge.address()))))?;
    let advice = "Ask something there, and cut the link while it is answered. Ctrl-c ends it.";
    ui::print::line(Painted(FAINT, advice))?;
    runtime()?.block_on(until_ended([("cloud", cloud), ("edge", edge)]))
}

fn cloud(scene: &Scene, cores: Cores) -> Vec<String> {
    let model = scene.model.path.display().to_string();
    let upload_at = scene.upload_at.to_string();
    stage::server("cloud", cores.cloud, "127.0.0.1:0", &["--model", &model, "--upload-at", &upload_at])
}

fn edge(args: &DemoArgs, port: u16, scene: &Scene, cores: Cores, cloud: &Server) -> Vec<String> {
    let part = scene.parts.edge.display().to_string();
    let cloud = format!("http://{}", cloud.address());
    let link = format!("{},{}", humantime::format_duration(args.rtt), args.bandwidth);
    let measure = stage::measure(scene.confidence);
    let file = ["--part", &part, "--cloud", &cloud, "--confidence", measure, "--emulate-link", &link];
    let mut arguments = stage::server("edge", cores.edge, &format!("127.0.0.1:{port}"), &file);
    arguments.extend(args.threshold.map(|threshold| match threshold {
        Auto::Auto => "--threshold=auto".to_owned(),
        Auto::Given(threshold) => format!("--threshold={}", threshold.value()),
    }));
    arguments
}

/// Resolves on ctrl-c, and with an error when one of the processes is gone.
async fn until_ended<const N: usize>(mut servers: [(&str, Server); N]) -> anyhow::Result<()> {
    let mut interrupted = pin!(interrupted());
    loop {
        tokio::select! {
            () = &mut interrupted => return Ok(()),
            () = sleep(GLANCE) => {}
        }
        for (name, server) in &mut servers {
            ensure!(server.is_running(), "the {name} process has ended; its message is above");
        }
    }
}
