//! What a command is told beside its arguments: by a file, and over it by the environment. Both are turned into the arguments
//! that somebody could have typed, so that there is one definition of every option, one parser and one set of messages.
//!
//! Defaults < file < environment < arguments. A value that contradicts a stronger one (a part in the file, a model on the
//! command line) is dropped, as it would be if the person had typed the stronger one alone. Not clap's own default values:
//! they satisfy no required option and contradict nothing.

mod environment;
mod file;
mod merge;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
};

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, parser::ValueSource};

pub(crate) use self::{environment::without_settings, file::path};
use crate::{args::Cli, failure::Usage};

/// Where a decided value came from; later ones are stronger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag,
}

/// One option of a command, as a file or the environment gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    /// The option's long name.
    option: String,
    /// What would be typed.
    arguments: Vec<String>,
    origin: Origin,
}

/// Why there is no command to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// What was typed, or help that was asked for. Where options that nobody typed come from is told with it.
    #[error("{error}")]
    Arguments { error: clap::Error, notes: Vec<String> },
    /// What the file or the environment says.
    #[error(transparent)]
    Settings(#[from] Usage),
}

/// A command line, completed.
struct Completed {
    arguments: Vec<OsString>,
    added: Vec<Setting>,
}

/// The command to run, from what was typed and all that completes it.
pub(crate) fn parse(typed: Vec<OsString>) -> Result<Cli, Unusable> {
    let completed = complete(typed)?;
    let parsed = Cli::command().try_get_matches_from(completed.arguments);
    let parsed = parsed.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| Unusable::Arguments { error, notes: completed.added.iter().map(Setting::note).collect() })
}

/// An option of a command with its decided value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    /// Its long name.
    pub(crate) option: String,
    /// Its values as typed; none where it is left to the command.
    pub(crate) values: Vec<String>,
    pub(crate) origin: Origin,
}

/// Every option of a command, decided, if it were called with these arguments.
pub(crate) fn decided(name: &str, arguments: Vec<OsString>) -> Result<Vec<Decided>, Unusable> {
    let typed = [OsString::from("collm"), OsString::from(name)].into_iter().chain(arguments);
    let completed = complete(typed.collect())?;
    let matches = lenient(&completed.arguments)?;
    let origins: BTreeMap<&str, &Origin> =
        completed.added.iter().map(|setting| (setting.option.as_str(), &setting.origin)).collect();
    let cli = Cli::command();
    let (Some(command), Some(matches)) = (cli.find_subcommand(name), matches.subcommand_matches(name)) else {
        return Ok(Vec::new());
    };
    Ok(command.get_arguments().filter_map(|option| decide(option, matches, &origins)).collect())
}

fn decide(option: &clap::Arg, matches: &ArgMatches, origins: &BTreeMap<&str, &Origin>) -> Option<Decided> {
    let name = option.get_long().filter(|name| *name != "help" && !option.is_hide_set())?;
    let id = option.get_id().as_str();
    let raw = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
    let values: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
    let secret = option.is_hide_env_values_set() && !values.is_empty();
    let origin = match (origins.get(name), matches.value_source(id)) {
        (Some(origin), _) => (*origin).clone(),
        (None, Some(ValueSource::CommandLine)) => Origin::Flag,
        (None, Some(ValueSource::EnvVariable)) => {
            Origin::Environment(option.get_env().map_or_else(String::new, |name| name.to_string_lossy().into_owned()))
        }
        (None, _) => Origin::Default,
    };
    let values = if secret { vec!["(not shown)".to_owned()] } else { values };
    Some(Decided { option: name.to_owned(), values, origin })
}

/// What was typed, with what the environment and the file add.
fn complete(typed: Vec<OsString>) -> Result<Completed, Unusable> {
    // Help and unusable arguments need no completion: the parser says what is to be said.
    let Ok(matches) = lenient(&typed) else { return Ok(Completed { arguments: typed, added: Vec::new() }) };
    let cli = Cli::command();
    let chosen = matches.subcommand().and_then(|(name, matches)| Some((cli.find_subcommand(name)?, matches)));
    // The command about settings must work while they are wrong.
    let Some((command, matches)) = chosen.filter(|(command, _)| command.get_name() != "config") else {
        return Ok(Completed { arguments: typed, added: Vec::new() });
    };
    let environment = environment::settings(&cli, command)?;
    let file = file::settings(&cli, command.get_name())?;
    let added = merge::merge(command, &typed_options(command, matches), [environment, file]);
    Ok(Completed { arguments: insert(typed, command.get_name(), &added), added })
}

/// Parses as far as it goes, to learn what was typed.
fn lenient(arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    Cli::command().ignore_errors(true).try_get_matches_from(arguments)
}

/// Long names of the options that were typed, or given in a variable that they have of their own.
fn typed_options(command: &Command, matches: &ArgMatches) -> BTreeSet<String> {
    let typed = |option: &&clap::Arg| {
        let source = matches.value_source(option.get_id().as_str());
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    command.get_arguments().filter(typed).filter_map(clap::Arg::get_long).map(str::to_owned).collect()
}

fn insert(mut typed: Vec<OsString>, command: &str, added: &[Setting]) -> Vec<OsString> {
    let place = typed.iter().skip(1).position(|word| word == command).map_or(typed.len(), |index| index + 2);
    typed.splice(place..place, added.iter().flat_map(|setting| &setting.arguments).map(OsString::from));
    typed
}

/// The name that is most like a word, for people who mistyped it.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.max_by(|a, b| strsim::jaro(word, a).total_cmp(&strsim::jaro(word, b)))
}

impl Setting {
    /// The arguments that give an option these values.
    fn new(option: &clap::Arg, name: &str, values: &[String], origin: Origin) -> Result<Self, Usage> {
        let arguments = if option.get_action().takes_values() {
            values.iter().map(|value| format!("--{name}={value}")).collect()
        } else {
            match values {
                [value] if value == "true" => vec![format!("--{name}")],
                [value] if value == "false" => Vec::new(),
                _ => return Err(Usage(format!("{origin}: {name} is true or false"))),
            }
        };
        Ok(Self { option: name.to_owned(), arguments, origin })
    }

    fn note(&self) -> String {
        format!("note: --{} is set by {}", self.option, self.origin)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => write!(f, "environment: {variable}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

impl From<clap::Error> for Unusable {
    fn from(error: clap::Error) -> Self {
        Self::Arguments { error, notes: Vec::new() }
    }
}

impl Unusable {
    /// Says what is wrong, or the help that was asked for; the exit code of the program.
    pub(crate) fn report(self) -> std::process::ExitCode {
        let (error, notes) = match self {
            Self::Settings(usage) => return crate::failure::report(usage.into()),
            Self::Arguments { error, notes } => (error, notes),
        };
        // Where it cannot be printed, the exit code still tells.
        let _ = error.print();
        if error.use_stderr() {
            for note in notes {
                anstream::eprintln!("{note}");
            }
        }
        std::process::ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_stands_behind_the_command() {
        let setting = Setting { option: "slots".into(), arguments: vec!["--slots=2".into()], origin: Origin::Default };
        let typed = ["collm", "--quiet", "edge", "--part", "edge"].map(OsString::from).to_vec();
        let arguments = insert(typed, "edge", &[setting]);
        assert_eq!(arguments, ["collm", "--quiet", "edge", "--slots=2", "--part", "edge"]);
    }

    #[test]
    fn a_mistyped_name_is_guessed() {
        assert_eq!(nearest("treads", ["threads", "slots", "deadline"].into_iter()), Some("threads"));
    }
}
