//! Arguments of `collm config`, and of the commands that describe this program to other programs.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Subcommand};
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = "\
A value is decided by the first of: the command line, the environment, the file, the default. The file has one table a command, \
with the long names of its options as keys; the environment names command and option, as in COLLM_EDGE_LISTEN.

  [edge]
  part = \"/var/lib/collm/edge.gguf\"
  cloud = \"https://cloud.example:7070\"
  cloud-key-file = \"/etc/collm/cloud.key\"
  threads = 2

COLLM_CONFIG names another file; empty, it names none.

Examples:
  collm config path
  collm config show edge
  collm config show edge --threads 4          as if it were called like this")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every value of a command and where it came from
    Show(ConfigShowArgs),
    /// Print where the file is looked for
    Path,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigShowArgs {
    /// Which command
    #[arg(value_name = "COMMAND")]
    pub(crate) command: String,

    /// What would be typed behind it
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  collm completions bash > ~/.local/share/bash-completion/completions/collm
  collm completions zsh > ~/.zfunc/_collm
  collm completions fish > ~/.config/fish/completions/collm.fish")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  collm man | man -l -
  collm man --out /usr/local/share/man/man1       this page and one a command")]
pub(crate) struct ManArgs {
    /// Write all pages into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
