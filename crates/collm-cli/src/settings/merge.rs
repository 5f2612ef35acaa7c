//! Which settings count: the strongest of each option, and none that contradicts a stronger one.

use std::collections::BTreeSet;

use clap::{Arg, Command};

use super::Setting;

/// Of settings in falling strength, those to add to what was typed, by the long names of the options.
pub(super) fn merge<const N: usize>(
    command: &Command,
    typed: &BTreeSet<String>,
    settings: [Vec<Setting>; N],
) -> Vec<Setting> {
    let mut decided = typed.clone();
    let mut added = Vec::new();
    for from_one_place in settings {
        // Contradictions within one place are that place's fault, and the parser names them.
        let stronger = decided.clone();
        for setting in from_one_place {
            let contradicted = stronger.iter().any(|other| exclude(command, &setting.option, other));
            if !contradicted && decided.insert(setting.option.clone()) {
                added.push(setting);
            }
        }
    }
    added
}

/// Whether two options cannot be used together.
fn exclude(command: &Command, a: &str, b: &str) -> bool {
    let named = |name: &str| command.get_arguments().find(|option| option.get_long() == Some(name));
    let (Some(a), Some(b)) = (named(a), named(b)) else { return false };
    let conflict = |a: &Arg, b: &Arg| {
        a.get_id() != b.get_id() && command.get_arg_conflicts_with(a).iter().any(|other| other.get_id() == b.get_id())
    };
    conflict(a, b) || conflict(b, a) || are_alternatives(command, a, b)
}

/// Whether both are in a group of which only one may be given.
fn are_alternatives(command: &Command, a: &Arg, b: &Arg) -> bool {
    a.get_id() != b.get_id()
        && command.get_groups().any(|group| {
            let holds = |option: &Arg| group.get_args().any(|id| id == option.get_id());
            !group.clone().is_multiple() && holds(a) && holds(b)
        })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::{args::Cli, settings::Origin};

    fn setting(option: &str) -> Setting {
        Setting { option: option.to_owned(), arguments: vec![format!("--{option}")], origin: Origin::Default }
    }

    fn merged(typed: &[&str], settings: [&[&str]; 2]) -> Vec<String> {
        let cli = Cli::command();
        let edge = cli.find_subcommand("edge").expect("a command");
        let typed = typed.iter().map(|name| (*name).to_owned()).collect();
        let settings = settings.map(|names| names.iter().copied().map(setting).collect());
        merge(edge, &typed, settings).into_iter().map(|setting| setting.option).collect()
    }

    #[test]
    fn the_stronger_value_counts() {
        assert_eq!(merged(&["slots"], [&["slots", "threads"], &["threads", "context"]]), ["threads", "context"]);
    }

    #[test]
    fn what_contradicts_something_stronger_does_not_count() {
        assert_eq!(merged(&["model"], [&[], &["part", "slots"]]), ["slots"]);
        assert_eq!(merged(&[], [&["cloud-key-file"], &["cloud-key"]]), ["cloud-key-file"]);
        assert_eq!(merged(&[], [&["cloud-key"], &["cloud-key-file"]]), ["cloud-key"]);
    }

    #[test]
    fn what_contradicts_itself_is_left_to_the_parser() {
        assert_eq!(merged(&[], [&["part", "model"], &[]]), ["part", "model"]);
    }
}
