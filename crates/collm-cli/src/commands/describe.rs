//! `collm completions` and `collm man`: this program, described to shells and to readers of manuals.

use std::io::stdout;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::args::{Cli, CompletionsArgs, ManArgs};

pub(super) fn completions(args: &CompletionsArgs) {
    clap_complete::generate(args.shell, &mut Cli::command(), "collm", &mut stdout());
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    match &args.out {
        None => Man::new(Cli::command()).render(&mut stdout()).context("cannot print the page"),
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            clap_mangen::generate_to(Cli::command(), folder)
                .with_context(|| format!("cannot write pages into {}", folder.display()))
        }
    }
}
