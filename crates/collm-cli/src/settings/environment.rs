//! Settings from the environment: `COLLM_EDGE_LISTEN` is `--listen` of `collm edge`.

use std::{collections::BTreeSet, ffi::OsString, process};

use clap::{Arg, Command, CommandFactory as _};

use super::{Origin, Setting, nearest};
use crate::{args::Cli, failure::Usage};

/// What the environment says about a command.
pub(super) fn settings(cli: &Command, command: &Command) -> Result<Vec<Setting>, Usage> {
    let prefix = prefix(command);
    let own = own_variables(cli);
    // Those of others may be anything.
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let variables = named.filter(|(name, _)| name.starts_with(&prefix) && !own.contains(name));
    let text = |name: &str, value: OsString| {
        value.into_string().map_err(|_| Usage(format!("environment: the value of {name} is no text")))
    };
    variables.map(|(name, value)| setting(command, &prefix, &name, text(&name, value)?)).collect()
}

fn setting(command: &Command, prefix: &str, variable: &str, value: String) -> Result<Setting, Usage> {
    let spelled = |option: &Arg| Some(format!("{prefix}{}", spell(option.get_long()?)));
    let Some(option) = command.get_arguments().find(|option| spelled(option).as_deref() == Some(variable)) else {
        let known: Vec<String> = command.get_arguments().filter_map(spelled).collect();
        let meant = nearest(variable, known.iter().map(String::as_str)).unwrap_or_default();
        return Err(Usage(format!("environment: {variable} is no setting; did you mean {meant}?")));
    };
    let name = option.get_long().expect("it was found by this name");
    Setting::new(option, name, &[value], Origin::Environment(variable.to_owned()))
}

/// Keeps a process that is started with complete arguments from being told anything else.
pub(crate) fn without_settings(started: &mut process::Command) -> &mut process::Command {
    let cli = Cli::command();
    let prefixes: Vec<String> = cli.get_subcommands().map(prefix).collect();
    let own = own_variables(&cli);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if own.contains(text.as_ref()) || prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            started.env_remove(&name);
        }
    }
    started.env("COLLM_CONFIG", "")
}

fn prefix(command: &Command) -> String {
    format!("COLLM_{}_", spell(command.get_name()))
}

fn spell(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

/// Variables that options have of their own.
fn own_variables(cli: &Command) -> BTreeSet<String> {
    let options = cli.get_subcommands().flat_map(Command::get_arguments);
    options.filter_map(Arg::get_env).map(|name| name.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(variable: &str, value: &str) -> Result<Vec<String>, String> {
        let cli = Cli::command();
        let command = cli.find_subcommand("edge").expect("a command");
        let setting = setting(command, "COLLM_EDGE_", variable, value.to_owned());
        setting.map(|setting| setting.arguments).map_err(|usage| usage.to_string())
    }

    #[test]
    fn variables_are_options_in_capitals() {
        assert_eq!(edge("COLLM_EDGE_CLOUD_CA", "ca.pem"), Ok(vec!["--cloud-ca=ca.pem".to_owned()]));
        assert_eq!(edge("COLLM_EDGE_ALLOW_REMOTE", "true"), Ok(vec!["--allow-remote".to_owned()]));
        assert!(edge("COLLM_EDGE_TREADS", "1").is_err_and(|message| message.ends_with("COLLM_EDGE_THREADS?")));
    }

    #[test]
    fn variables_of_single_options_are_no_mistakes() {
        assert!(own_variables(&Cli::command()).contains("COLLM_CLOUD_KEY"));
    }
}
