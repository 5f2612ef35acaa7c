//! What must be true of the workspace and the compiler does not check: one file a kind of rule.
//!
//! Every check takes plain data and returns complaints, so that its tests can hand it a workspace that breaks the rule.

mod dependencies;
mod results;
mod sources;

use std::path::Path;

/// All complaints about the workspace at `root`, one line each; empty when it is tidy.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut complaints = dependencies::check(&dependencies::Graph::read(root)?);
    complaints.extend(sources::check(&sources::read(root)?));
    complaints.extend(results::check(&results::read(root)?));
    Ok(complaints)
}
