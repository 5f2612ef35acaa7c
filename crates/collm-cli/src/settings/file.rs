//! The file of settings: TOML, one table a command, the long names of its options as keys.

use std::{fs, io, path::PathBuf};

use clap::Command;
use etcetera::BaseStrategy as _;
use toml::{Table, Value};

use super::{Origin, Setting, nearest};
use crate::failure::Usage;

/// Names another file; empty for none.
const VARIABLE: &str = "COLLM_CONFIG";

/// Where the file is looked for; `None` where there is no place for it.
pub(crate) fn path() -> Option<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(path) => (!path.is_empty()).then(|| path.into()),
        None => Some(etcetera::choose_base_strategy().ok()?.config_dir().join("collm").join("config.toml")),
    }
}

/// What the file says about a command. The whole file is checked: a mistake is told before the day it matters.
pub(super) fn settings(cli: &Command, command: &str) -> Result<Vec<Setting>, Usage> {
    let Some(path) = path() else { return Ok(Vec::new()) };
    match fs::read_to_string(&path) {
        Ok(text) => parse(cli, command, &text, &Origin::File(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Usage(format!("cannot read {}: {error}", path.display()))),
    }
}

fn parse(cli: &Command, command: &str, text: &str, origin: &Origin) -> Result<Vec<Setting>, Usage> {
    let tables: Table = text.parse().map_err(|error| Usage(format!("{origin} is no TOML: {error}")))?;
    let mut settings = Vec::new();
    for (name, table) in &tables {
        let known = cli.get_subcommands().map(Command::get_name);
        let Some(owner) = cli.find_subcommand(name) else {
            return Err(unknown(origin, "there is no command", name, nearest(name, known)));
        };
        let Value::Table(table) = table else {
            return Err(Usage(format!("{origin}: {name} is a command; write its options below [{name}]")));
        };
        let of_owner = table_settings(owner, table, origin)?;
        if name == command {
            settings = of_owner;
        }
    }
    Ok(settings)
}

fn table_settings(command: &Command, table: &Table, origin: &Origin) -> Result<Vec<Setting>, Usage> {
    table.iter().map(|(key, value)| setting(command, key, value, origin)).collect()
}

fn setting(command: &Command, key: &str, value: &Value, origin: &Origin) -> Result<Setting, Usage> {
    let names = || command.get_arguments().filter_map(clap::Arg::get_long);
    let Some(option) = command.get_arguments().find(|option| option.get_long() == Some(key)) else {
        let what = format!("[{}] has no setting", command.get_name());
        return Err(unknown(origin, &what, key, nearest(key, names())));
    };
    let values = words(value).ok_or_else(|| Usage(format!("{origin}: {key} is a word, a number or a list of them")))?;
    Setting::new(option, key, &values, origin.clone())
}

/// As somebody would type them.
fn words(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => Some(values.iter().map(words).collect::<Option<Vec<_>>>()?.concat()),
        Value::Table(_) => None,
        Value::String(word) => Some(vec![word.clone()]),
        other => Some(vec![other.to_string()]),
    }
}

fn unknown(origin: &Origin, what: &str, name: &str, nearest: Option<&str>) -> Usage {
    let meant = nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
    Usage(format!("{origin}: {what} {name}{meant}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    fn arguments(text: &str) -> Result<Vec<String>, String> {
        let settings = parse(&Cli::command(), "edge", text, &Origin::File("config.toml".into()));
        let settings = settings.map_err(|usage| usage.to_string())?;
        Ok(settings.into_iter().flat_map(|setting| setting.arguments).collect())
    }

    #[test]
    fn keys_become_the_options_of_their_command() {
        let text =
            "[cloud]\nslots = 9\n[edge]\nslots = 2\nallow-origin = ['http://a', 'http://b']\nallow-remote = true\n";
        let expected = ["--slots=2", "--allow-origin=http://a", "--allow-origin=http://b", "--allow-remote"];
        let mut found = arguments(text).expect("all is known");
        found.sort();
        let mut expected = expected.map(str::to_owned);
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(arguments("[edge]\nallow-remote = false"), Ok(vec![]));
    }

    #[test]
    fn mistakes_name_the_nearest_name() {
        for (text, expected) in [
            ("[edge]\ntreads = 2", "config.toml: [edge] has no setting treads; did you mean threads?"),
            ("[egde]\nthreads = 2", "config.toml: there is no command egde; did you mean edge?"),
            ("[cloud]\nslotz = 2", "config.toml: [cloud] has no setting slotz; did you mean slots?"),
            ("edge = 1", "config.toml: edge is a command; write its options below [edge]"),
            ("[edge]\nallow-remote = 'perhaps'", "config.toml: allow-remote is true or false"),
            ("[edge.threads]\na = 1", "config.toml: threads is a word, a number or a list of them"),
        ] {
            assert_eq!(arguments(text), Err(expected.to_owned()));
        }
        assert!(arguments("[edge").is_err_and(|message| message.contains("is no TOML")));
    }
}
