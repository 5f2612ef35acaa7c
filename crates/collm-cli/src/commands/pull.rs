//! `collm pull`: a model into the cache.

use crate::{args::PullArgs, models, ui::progress::ProgressMode};

pub(super) fn run(args: &PullArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let model = models::locate(&args.reference, progress)?;
    // A file that arrived whole may still be no model.
    models::open(&model.path)?;
    println!("{}", model.path.display());
    Ok(())
}
