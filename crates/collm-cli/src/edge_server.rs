//! An edge with its HTTP API: what `collm edge` serves, and what `collm run` starts for one answer of its own.

use std::{future::Future, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use collm_core::{edge::SecondStage, limits::Limits, policy::Mode};
use collm_http::{Api, Defaults, ModelCard, Origin};
use collm_node::{CloudEndpoint, EdgeHandle, EdgeNode, EdgeOptions, access::Access};
use tokio::net::TcpListener;

use crate::{
    args::ServerAccess, counting, exits::ExitSettings, models, nodes::EdgeSetup, running::Running,
    text_model::GgufTextModel, ui::progress::ProgressMode,
};

/// Tokens of an answer whose requester does not say.
const TOKENS_MAX_DEFAULT: u32 = 256;

/// A loaded edge that listens, but does not serve yet.
pub(crate) struct EdgeServer {
    listener: TcpListener,
    edge: EdgeHandle,
    model: String,
    cloud: Option<String>,
    api: Api,
    access: Access,
}

/// Where to listen, and where to ask.
#[derive(Debug)]
pub(crate) struct EdgePlaces {
    pub(crate) listen: String,
    pub(crate) access: ServerAccess,
    pub(crate) origins: Vec<Origin>,
    pub(crate) cloud: Option<CloudEndpoint>,
}

impl EdgePlaces {
    /// For this process alone.
    pub(crate) fn private(cloud: Option<CloudEndpoint>) -> Self {
        Self { listen: "127.0.0.1:0".to_owned(), access: ServerAccess::default(), origins: Vec::new(), cloud }
    }
}

impl EdgeServer {
    /// Loads the edge.
    pub(crate) async fn start(setup: EdgeSetup, places: EdgePlaces, progress: ProgressMode) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(&places.listen)
            .await
            .with_context(|| format!("cannot listen on {}; choose another --listen", places.listen))?;
        let step = progress.step(format!("loading {}", setup.engine.file.path().display()));
        let model = GgufTextModel::load(&setup.engine.file)?;
        let card = ModelCard { name: models::public_name(&setup.engine.file), context: setup.config.context };
        let defaults = defaults(&setup, places.cloud.is_some());
        let cloud = places.cloud.as_ref().map(|cloud| cloud.url.clone());
        let options = EdgeOptions {
            config: setup.config,
            judges: setup.exits.judges,
            cloud: places.cloud,
            limits: Limits::DEFAULT,
        };
        let metrics = counting::start()?;
        let edge = EdgeNode::start(options, move || setup.engine.load()).await?;
        step.done("took");
        let model_name = card.name.clone();
        let api = Api::new(edge.clone(), Arc::new(model), card, defaults)
            .with_keys(places.access.keys)
            .with_origins(places.origins)
            .with_metrics(metrics);
        Ok(Self { listener, edge, model: model_name, cloud, api, access: places.access.access })
    }

    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("cannot tell where it listens")
    }

    /// What `collm ps` tells of it.
    pub(crate) fn running(&self) -> anyhow::Result<Running> {
        let scheme = if self.access.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", self.address()?);
        Ok(Running::here("edge", &self.model, url, self.cloud.clone()))
    }

    pub(crate) fn edge(&self) -> EdgeHandle {
        self.edge.clone()
    }

    /// Serves until `shutdown` resolves and the answers under way have ended.
    pub(crate) async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let router = collm_http::router(self.api);
        Ok(collm_http::serve(self.listener, router, self.access, shutdown).await?)
    }
}

fn defaults(setup: &EdgeSetup, has_cloud: bool) -> Defaults {
    let mode = match (setup.config.second, has_cloud) {
        (SecondStage::Whole, _) => Mode::Whole,
        (SecondStage::Tail, true) => Mode::Collaborative,
        (SecondStage::Tail, false) => Mode::Standalone,
    };
    let ExitSettings { thresholds, calibrated, .. } = setup.exits;
    Defaults { mode, thresholds, calibrated, tokens_max: TOKENS_MAX_DEFAULT }
}
