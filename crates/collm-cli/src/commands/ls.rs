//! `collm ls`: the models and parts that are on this machine.

use collm_model::{
    fetch::Fetcher,
    store::{self, StoredModel},
};
use serde::Serialize;

use crate::{
    args::LsArgs,
    ui::{self, table},
};

/// A stored file, as JSON.
#[derive(Debug, Serialize)]
struct Entry {
    reference: String,
    path: String,
    bytes: u64,
    architecture: Option<String>,
    /// whole, edge or cloud.
    role: String,
}

pub(super) fn run(args: &LsArgs) -> anyhow::Result<()> {
    let fetcher = Fetcher::from_environment()?;
    let entries: Vec<Entry> = store::list(&fetcher.cache, &fetcher.hub).into_iter().map(Entry::from).collect();
    if args.json {
        ui::print::line(serde_json::to_string_pretty(&entries)?)?;
    } else if entries.is_empty() {
        ui::print::line(format_args!(
            "nothing in {}; fetch a model with: collm pull smollm2-135m",
            fetcher.cache.root().display()
        ))?;
    } else {
        ui::print::line(table::text(&["reference", "role", "architecture", "size"], entries.iter().map(Entry::row)))?;
    }
    Ok(())
}

impl Entry {
    fn row(&self) -> Vec<String> {
        let architecture = self.architecture.as_deref().unwrap_or("unreadable").to_owned();
        vec![self.reference.clone(), self.role.clone(), architecture, ui::size(self.bytes)]
    }
}

impl From<StoredModel> for Entry {
    fn from(stored: StoredModel) -> Self {
        Self {
            reference: stored.reference,
            path: stored.path.display().to_string(),
            bytes: stored.bytes,
            architecture: stored.architecture,
            role: stored.role.unwrap_or_else(|| "whole".to_owned()),
        }
    }
}
