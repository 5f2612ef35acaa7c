//! `collm config`: what a command would be told, and by whom.

use clap::CommandFactory as _;

use crate::{
    args::{Cli, ConfigArgs, ConfigCommand, ConfigShowArgs},
    failure::usage,
    settings::{self, Decided},
    ui::{self, table},
};

pub(super) fn run(args: ConfigArgs) -> anyhow::Result<()> {
    match args.command {
        ConfigCommand::Show(args) => show(args),
        ConfigCommand::Path => path(),
    }
}

fn show(args: ConfigShowArgs) -> anyhow::Result<()> {
    let name = args.command;
    let cli = Cli::command();
    let Some(command) = cli.find_subcommand(&name) else {
        return usage(format!("there is no command {name}; `collm help` lists them"));
    };
    if command.has_subcommands() {
        return usage(format!("{name} is a family of commands, which the file does not configure"));
    }
    let decided = settings::decided(&name, args.arguments)?;
    ui::print::line(table::text(&["option", "value", "from"], decided.iter().map(row)))?;
    Ok(())
}

fn row(decided: &Decided) -> Vec<String> {
    let values = if decided.values.is_empty() { "–".to_owned() } else { decided.values.join(", ") };
    vec![decided.option.clone(), values, decided.origin.to_string()]
}

fn path() -> anyhow::Result<()> {
    let Some(path) = settings::path() else {
        return usage("there is no file: COLLM_CONFIG is empty, or this system has no place for it");
    };
    ui::print::line(path.display())?;
    if !path.exists() {
        anstream::eprintln!("note: nothing is there yet; `collm help config` shows what it may hold");
    }
    Ok(())
}
