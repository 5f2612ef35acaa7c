//! `collm split`: one model, two files.

use crate::{
    args::SplitArgs,
    models,
    parts::{self, Cut, Parts},
    ui::{self, progress::ProgressMode},
};

pub(super) fn run(args: &SplitArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let model = models::locate(&args.model, progress)?;
    let cut = Cut::settle(&args.shape, &model, progress)?;
    let parts = match &args.out {
        Some(folder) => Parts::in_folder(folder),
        None => parts::cached(&model.reference)?,
    };
    parts::write(&model, &cut, &parts, progress)?;
    ui::print::line(format_args!("wrote {}", parts.describe()?))?;
    Ok(())
}
