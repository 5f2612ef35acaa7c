//! What every handler has at hand.

use std::{sync::Arc, time::SystemTime};

use axum::http::HeaderValue;
use collm_core::{
    budget::Target,
    policy::{Mode, Threshold, Thresholds},
};
use collm_link::LinkControl;
use collm_node::{EdgeHandle, access::Keys};

use crate::{TextModel, watch::RenderMetrics};

/// A running edge, its model's text, and what requests leave open. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(crate) edge: EdgeHandle,
    pub(crate) model: Arc<dyn TextModel>,
    pub(crate) card: ModelCard,
    pub(crate) defaults: Defaults,
    pub(crate) started: SystemTime,
    pub(crate) keys: Arc<Keys>,
    pub(crate) origins: Vec<Origin>,
    pub(crate) render_metrics: RenderMetrics,
    /// In the way to the cloud, where that is only played.
    pub(crate) emulated_link: Option<LinkControl>,
}

/// Where a web page comes from, as browsers say it: `https://host:port`.
pub type Origin = HeaderValue;

/// What clients are told about the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// As clients name it; without an `@`, which begins a mode.
    pub name: String,
    /// Positions of a context: tokens of prompt and answer together.
    pub context: u32,
}

/// What requests get when they do not say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// How answers are made: the best that the edge can do.
    pub mode: Mode,
    /// When a guess is sure enough.
    pub thresholds: Thresholds,
    /// What was calibrated for the exits of this edge: the threshold `auto`.
    pub calibrated: Option<Thresholds>,
    /// What is to be kept instead of the thresholds, in modes that have one.
    pub budget: Option<Target>,
    /// No budget lets exit 2's threshold fall below this, unless its request says so.
    pub threshold_min: Threshold,
    /// Tokens of an answer at most.
    pub tokens_max: u32,
}

impl Api {
    /// An API for `edge`, which runs `model`.
    pub fn new(edge: EdgeHandle, model: Arc<dyn TextModel>, card: ModelCard, defaults: Defaults) -> Self {
        Self {
            edge,
            model,
            card,
            defaults,
            started: SystemTime::now(),
            keys: Arc::new(Keys::default()),
            origins: Vec::new(),
            render_metrics: Arc::new(String::new),
            emulated_link: None,
        }
    }

    /// Answers only those who send one of these keys. Whether the process is alive and ready is told to everybody.
    #[must_use]
    pub fn with_keys(mut self, keys: impl IntoIterator<Item = String>) -> Self {
        self.keys = Arc::new(keys.into_iter().collect());
        self
    }

    /// Lets pages of these origins use the API from a browser.
    #[must_use]
    pub fn with_origins(mut self, origins: impl IntoIterator<Item = Origin>) -> Self {
        self.origins = origins.into_iter().collect();
        self
    }

    /// Serves at `/metrics` what this gives, in the Prometheus text format.
    #[must_use]
    pub fn with_metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.render_metrics = Arc::new(render);
        self
    }

    /// Lets those who may ask cut and mend this link, which is in the way to the cloud, at `/link` and on the page.
    #[must_use]
    pub fn with_emulated_link(mut self, link: LinkControl) -> Self {
        self.emulated_link = Some(link);
        self
    }

    /// The modes that this edge can serve. Whether the cloud agrees is known when it is asked.
    pub(crate) fn modes(&self) -> &'static [Mode] {
        match self.defaults.mode {
            Mode::Whole => &[Mode::Whole],
            Mode::Standalone => &[Mode::Standalone],
            Mode::Collaborative | Mode::Exact | Mode::Auto | Mode::Cloud | Mode::Naive => {
                &[Mode::Standalone, Mode::Collaborative, Mode::Exact, Mode::Auto, Mode::Cloud, Mode::Naive]
            }
        }
    }
}

impl Defaults {
    /// The same in another mode, if there is one.
    pub(crate) fn in_mode(self, mode: Option<Mode>) -> Self {
        Self { mode: mode.unwrap_or(self.mode), ..self }
    }
}
