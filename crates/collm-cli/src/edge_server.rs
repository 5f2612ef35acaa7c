//! An edge with its HTTP API: what `collm edge` serves, and what `collm run` starts for one answer of its own.

use std::{future::Future, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use collm_core::{edge::SecondStage, limits::Limits, policy::Mode};
use collm_http::{Api, Defaults, ModelCard, Origin};
use collm_link::{Link, LinkSpec};
use collm_node::{CloudEndpoint, EdgeHandle, EdgeNode, EdgeOptions, access::Access};
use tokio::net::TcpListener;

use crate::{
    args::ServerAccess, counting, exits::ExitSettings, failure::usage, models, nodes::EdgeSetup, running::Running,
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
    /// In the way to the cloud, as long as this is served.
    _emulated_link: Option<Link>,
}

/// Where to listen, and where to ask.
#[derive(Debug)]
pub(crate) struct EdgePlaces {
    pub(crate) listen: String,
    pub(crate) access: ServerAccess,
    pub(crate) origins: Vec<Origin>,
    pub(crate) cloud: Option<CloudEndpoint>,
    /// What to put in the way to the cloud, for others to cut.
    pub(crate) emulated_link: Option<LinkSpec>,
}

impl EdgePlaces {
    /// For this process alone.
    pub(crate) fn private(cloud: Option<CloudEndpoint>) -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            access: ServerAccess::default(),
            origins: Vec::new(),
            cloud,
            emulated_link: None,
        }
    }

    /// Starts the emulated link, if there is to be one, and leads the way to the cloud through it. Whoever may ask may cut it, so
    /// that nobody but this machine may.
    async fn emulate_link(&mut self, listening: SocketAddr) -> anyhow::Result<Option<Link>> {
        let (Some(spec), Some(cloud)) = (self.emulated_link, &mut self.cloud) else { return Ok(None) };
        if !listening.ip().is_loopback() {
            return usage(format!("--emulate-link is for this machine alone, and {listening} is not; leave one out"));
        }
        let Some(to) = cloud.url.strip_prefix("http://").map(|to| to.trim_end_matches('/')) else {
            return usage(format!("--emulate-link leads to clouds at http://HOST:PORT only, not to {}", cloud.url));
        };
        let link = Link::start("127.0.0.1:0", to, spec).await.context("cannot start the emulated link")?;
        cloud.url = format!("http://{}", link.local_addr());
        Ok(Some(link))
    }
}

impl EdgeServer {
    /// Loads the edge.
    pub(crate) async fn start(
        setup: EdgeSetup,
        mut places: EdgePlaces,
        progress: ProgressMode,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(&places.listen)
            .await
            .with_context(|| format!("cannot listen on {}; choose another --listen", places.listen))?;
        // Before minutes are spent on weights, and before anybody is told that it is ready.
        let cloud = places.cloud.as_ref().map(|cloud| cloud.url.clone());
        let emulated_link = places.emulate_link(listener.local_addr()?).await?;
        places.access.access.check(listener.local_addr()?)?;
        let step = progress.step(format!("loading {}", setup.engine.file.path().display()));
        let model = GgufTextModel::load(&setup.engine.file)?;
        let card = ModelCard { name: models::public_name(&setup.engine.file), context: setup.config.context };
        let defaults = defaults(&setup, places.cloud.is_some());
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
        let mut api = Api::new(edge.clone(), Arc::new(model), card, defaults)
            .with_keys(places.access.keys)
            .with_origins(places.origins)
            .with_metrics(metrics);
        if let Some(link) = &emulated_link {
            api = api.with_emulated_link(link.control().clone());
        }
        let access = places.access.access;
        Ok(Self { listener, edge, model: model_name, cloud, api, access, _emulated_link: emulated_link })
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
    let EdgeSetup { budget, threshold_min, .. } = *setup;
    Defaults { mode, thresholds, calibrated, budget, threshold_min, tokens_max: TOKENS_MAX_DEFAULT }
}
