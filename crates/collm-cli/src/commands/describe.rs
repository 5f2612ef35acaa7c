//! `collm completions` and `collm man`: this program, described to shells and to readers of manuals.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::{
    args::{Cli, CompletionsArgs, ManArgs},
    ui::print,
};

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "collm", &mut script);
    Ok(print::piece(String::from_utf8_lossy(&script))?)
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    match &args.out {
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page).context("cannot make the page")?;
            Ok(print::piece(String::from_utf8_lossy(&page))?)
        }
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            clap_mangen::generate_to(Cli::command(), folder)
                .with_context(|| format!("cannot write pages into {}", folder.display()))
        }
    }
}
