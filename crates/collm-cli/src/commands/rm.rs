//! `collm rm`: a model and its parts out of the cache. Touches nothing outside of it.

use std::path::Path;

use anyhow::bail;
use collm_model::{
    ModelReference,
    fetch::Fetcher,
    store::{self, StoredModel},
};

use crate::{
    args::RmArgs,
    parts::{self, Parts},
    ui,
};

pub(super) fn run(args: &RmArgs) -> anyhow::Result<()> {
    let fetcher = Fetcher::from_environment()?;
    let parts = ModelReference::parse(&args.reference).ok().and_then(|reference| parts::cached(&reference).ok());
    let stored = store::list(&fetcher.cache, &fetcher.hub);
    let doomed: Vec<_> = stored.iter().filter(|model| is_meant(model, &args.reference, parts.as_ref())).collect();
    if doomed.is_empty() {
        bail!("{:?} is not in the cache; `collm ls` lists what is", args.reference);
    }
    for model in doomed {
        store::remove(&fetcher.cache, &fetcher.hub, &model.path)?;
        ui::print::line(format_args!("removed {} ({})", model.path.display(), ui::size(model.bytes)))?;
    }
    Ok(())
}

/// Whether a stored file goes by this name, or is a part of the model that does.
fn is_meant(model: &StoredModel, name: &str, parts: Option<&Parts>) -> bool {
    let is_part = parts.is_some_and(|parts| [&parts.edge, &parts.cloud].contains(&&model.path));
    is_part || model.reference == name || model.path == Path::new(name)
}
