//! A way of answering.

use collm_core::{
    edge::Ablation,
    policy::{Mode, Threshold},
};

use crate::{
    args::{AheadChoice, values::Auto},
    client::{Prompt, Question},
};

/// The whole model in the cloud: what every other way is compared with.
pub(in crate::commands::bench) const CLOUD_ONLY: &str = "cloud-only";

/// The edge part alone.
pub(in crate::commands::bench) const STANDALONE: &str = "standalone";

/// A way of answering, under the name that rows, tables and plots use.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands::bench) struct Variant {
    pub(in crate::commands::bench) name: &'static str,
    pub(in crate::commands::bench) mode: Mode,
    pub(in crate::commands::bench) threshold: Auto<Threshold>,
    /// Goes on while the cloud is asked.
    pub(in crate::commands::bench) ahead: bool,
    pub(in crate::commands::bench) without: Ablation,
    /// What its cloud computes while it is not asked.
    pub(in crate::commands::bench) cloud: AheadChoice,
    /// Takes so long that fewer prompts have to do.
    pub(in crate::commands::bench) slow: bool,
}

impl Variant {
    /// As the product answers in this mode.
    pub(in crate::commands::bench) fn new(name: &'static str, mode: Mode) -> Self {
        Self {
            name,
            mode,
            threshold: Auto::Auto,
            ahead: true,
            without: Ablation::Nothing,
            cloud: AheadChoice::default(),
            slow: false,
        }
    }

    /// Taking guesses from this confidence on.
    pub(in crate::commands::bench) fn at(self, threshold: Auto<Threshold>) -> Self {
        Self { threshold, ..self }
    }

    /// Waiting for every answer of the cloud, as the paper does.
    pub(in crate::commands::bench) fn standing_still(self) -> Self {
        Self { ahead: false, ..self }
    }

    pub(in crate::commands::bench) fn without(self, without: Ablation) -> Self {
        Self { without, ..self }
    }

    /// Answered by a cloud of this kind.
    pub(in crate::commands::bench) fn with_cloud(self, cloud: AheadChoice) -> Self {
        Self { cloud, ..self }
    }

    pub(in crate::commands::bench) fn slow(self) -> Self {
        Self { slow: true, ..self }
    }

    /// What to ask an edge.
    pub(in crate::commands::bench) fn question(&self, prompt: &str, tokens_max: u32) -> Question {
        let prompt = Prompt::Chat { system: None, user: prompt.to_owned() };
        let question = Question::new(prompt, Threshold::DEFAULT, tokens_max).in_mode(self.mode).without(self.without);
        // Only collaboration has a threshold, and a part without a calibrated one can still do everything else.
        let question = if self.mode == Mode::Collaborative { question.at(Some(self.threshold)) } else { question };
        if self.ahead { question } else { question.standing_still() }
    }
}
