//! The demo's processes: an edge, a cloud, and the link between them.
//!
//! The link leads to one port for the whole demo. Clouds come and go on it, so that the edge is the same in every mode.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;
use collm_core::confidence::ConfidenceMeasure;
use collm_link::{Link, LinkSpec};
use tokio::runtime::Runtime;

use super::{CONTEXT, Scene};
use crate::{
    args::{AheadChoice, values::Auto},
    client::EdgeClient,
    process::{self, Server},
    ui::progress::ProgressMode,
};

/// Where the two engines run.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct Cores {
    pub(in crate::commands) edge: u32,
    pub(in crate::commands) cloud: u32,
}

/// Everything that runs. Dropping it ends it all.
pub(in crate::commands) struct Stage {
    pub(in crate::commands) cores: Cores,
    edge: EdgeClient,
    edge_process: Option<Server>,
    cloud_process: Option<Server>,
    cloud_address: SocketAddr,
    files: Files,
    link: Link,
}

/// Arguments of the processes that are started later.
struct Files {
    whole: String,
    upload_at: u32,
}

impl Stage {
    /// Starts a cloud with its part, the link and an edge with its part.
    pub(in crate::commands) fn open(
        scene: &Scene,
        spec: LinkSpec,
        runtime: &Runtime,
        progress: ProgressMode,
    ) -> anyhow::Result<Self> {
        let cores = Cores::choose();
        let cloud_address = free_address()?;
        let step = progress.step("starting edge and cloud");
        let part = scene.parts.cloud.display().to_string();
        let cloud = Server::start(&cloud(cores.cloud, cloud_address, &["--part", &part]))?;
        let link = runtime
            .block_on(Link::start("127.0.0.1:0", cloud_address.to_string(), spec))
            .context("cannot start the link")?;
        let part = scene.parts.edge.display().to_string();
        let url = format!("http://{}", link.local_addr());
        // Every answer starts from nothing: what was kept of the same prompt in another mode would be no part of a comparison.
        // Nor would an answer that the edge went on with alone because a long prompt kept its cloud busy.
        let measure = measure(scene.confidence);
        let arguments =
            ["--part", &part, "--cloud", &url, "--confidence", measure, "--keep", "0s", "--deadline", "30s"];
        let edge = Server::start(&edge(cores.edge, &scene.with_edge_arguments(&arguments)))?;
        step.done("took");
        let files = Files { whole: scene.model.path.display().to_string(), upload_at: scene.upload_at };
        Ok(Self {
            cores,
            edge: client(&edge),
            edge_process: Some(edge),
            cloud_process: Some(cloud),
            cloud_address,
            files,
            link,
        })
    }

    /// The edge that is running.
    pub(in crate::commands) fn edge(&self) -> &EdgeClient {
        &self.edge
    }

    /// Makes the link another one, for what is sent from now on.
    pub(in crate::commands) fn reshape(&self, spec: LinkSpec) -> anyhow::Result<()> {
        self.link.control().reshape(spec).context("no such link can be emulated")
    }

    /// In place of the cloud with its part, one with the whole model, which is what cloud mode needs.
    pub(in crate::commands) fn exchange_cloud(&mut self, ahead: AheadChoice) -> anyhow::Result<()> {
        // Ended first: the next one listens where it did.
        self.cloud_process = None;
        let upload_at = self.files.upload_at.to_string();
        let (model, ahead) = (self.files.whole.as_str(), ahead.name());
        let file = ["--model", model, "--upload-at", &upload_at, "--ahead", ahead, "--metrics", "127.0.0.1:0"];
        self.cloud_process = Some(Server::start(&cloud(self.cores.cloud, self.cloud_address, &file))?);
        Ok(())
    }

    /// The cloud that is running.
    pub(in crate::commands) fn cloud(&self) -> anyhow::Result<&Server> {
        self.cloud_process.as_ref().context("the cloud was ended")
    }

    /// In place of the edge with its part, one with the whole model.
    pub(in crate::commands) fn exchange_edge(&mut self) -> anyhow::Result<()> {
        self.edge_process = None;
        let server = Server::start(&edge(self.cores.edge, &["--model", &self.files.whole]))?;
        self.edge = client(&server);
        self.edge_process = Some(server);
        Ok(())
    }
}

impl Cores {
    /// The first two that may be used, or the same one twice: slower, but the same answers.
    pub(in crate::commands) fn choose() -> Self {
        let usable = process::usable_cores();
        let cloud = usable.first().copied().unwrap_or(0);
        Self { cloud, edge: usable.get(1).copied().unwrap_or(cloud) }
    }
}

/// The word for how exits measure their confidence.
pub(super) fn measure(confidence: Auto<ConfidenceMeasure>) -> &'static str {
    match confidence {
        Auto::Auto => "auto",
        Auto::Given(measure) => measure.name(),
    }
}

fn client(edge: &Server) -> EdgeClient {
    EdgeClient::new(&format!("http://{}", edge.address()))
}

fn cloud(core: u32, listen: SocketAddr, file: &[&str]) -> Vec<String> {
    server("cloud", core, &listen.to_string(), file)
}

fn edge(core: u32, file: &[&str]) -> Vec<String> {
    server("edge", core, "127.0.0.1:0", file)
}

/// What a server of the demo is started with.
pub(super) fn server(command: &str, core: u32, listen: &str, file: &[&str]) -> Vec<String> {
    let (core, context) = (core.to_string(), CONTEXT.to_string());
    let common = [
        command,
        "--quiet",
        "--listen",
        listen,
        "--threads",
        "1",
        "--cores",
        &core,
        "--context",
        &context,
        "--slots",
        "1",
    ];
    common.iter().chain(file).map(ToString::to_string).collect()
}

/// A port that was free a moment ago, for a server that will be started twice.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    listener.local_addr().context("cannot tell which port is free")
}
