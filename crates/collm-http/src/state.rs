//! What every handler has at hand.

use std::sync::Arc;

use collm_core::policy::{Mode, Threshold};
use collm_node::EdgeHandle;

use crate::TextModel;

/// A running edge, its model's text, and what requests leave open. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(crate) edge: EdgeHandle,
    pub(crate) model: Arc<dyn TextModel>,
    pub(crate) defaults: Defaults,
    pub(crate) render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What requests get when they do not say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// How answers are made.
    pub mode: Mode,
    /// When a guess is sure enough.
    pub threshold: Threshold,
    /// Tokens of an answer at most.
    pub tokens_max: u32,
}

impl Api {
    /// An API for `edge`, which runs `model`.
    pub fn new(edge: EdgeHandle, model: Arc<dyn TextModel>, defaults: Defaults) -> Self {
        Self { edge, model, defaults, render_metrics: Arc::new(String::new) }
    }

    /// Serves at `/metrics` what this gives, in the Prometheus text format.
    #[must_use]
    pub fn with_metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.render_metrics = Arc::new(render);
        self
    }
}
