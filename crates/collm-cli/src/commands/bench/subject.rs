//! What an experiment on answers is about: the settings that all of them have.

use serde::Serialize;

use crate::{
    args::{AheadChoice, ExperimentArgs},
    experiment::fingerprint,
};

/// Which model answers which prompts, and by which rules.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Subject<'a> {
    model: &'a str,
    exits: String,
    /// What clouds compute while nobody asks, where a way of answering says nothing else.
    ahead: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    edge_args: &'a str,
    prompts: String,
    limit: usize,
    max_tokens: u32,
}

impl<'a> Subject<'a> {
    pub(super) fn of<'p>(
        common: &'a ExperimentArgs,
        prompts: impl ExactSizeIterator<Item = &'p str>,
        max_tokens: u32,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            model: &common.model,
            exits: common.exits_name()?,
            ahead: AheadChoice::default().name(),
            edge_args: &common.edge_args,
            limit: prompts.len(),
            prompts: fingerprint(prompts)?,
            max_tokens,
        })
    }
}
