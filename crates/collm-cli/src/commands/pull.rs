//! `collm pull`: a model into the cache.

use crate::{
    args::PullArgs,
    models,
    ui::{self, progress::ProgressMode},
};

pub(super) fn run(args: &PullArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let model = models::locate(&args.reference, progress)?;
    // A file that arrived whole may still be no model.
    models::open(&model.path)?;
    ui::print::line(model.path.display())?;
    Ok(())
}
