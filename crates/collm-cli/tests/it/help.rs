//! The help of every command, one file each, found by walking from the program's own.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{harness::run_ok, transcript};

/// Help of this command and of all below it.
fn walk(command: &[&str], shown: &mut BTreeSet<String>) {
    let help = run_ok(&[command, &["--help"]].concat());
    let name = if command.is_empty() { "collm".to_owned() } else { command.join("-") };
    transcript::check("snapshots/help", &name, &help, &[]);
    shown.insert(format!("{name}.snap"));
    for below in commands(&help) {
        walk(&[command, &[below]].concat(), shown);
    }
}

/// What stands below `Commands:`, without the help's own.
pub(crate) fn commands(help: &str) -> Vec<&str> {
    let list = help.split_once("\nCommands:\n").map_or("", |(_, list)| list.split("\n\n").next().unwrap_or_default());
    // Longer descriptions go on in lines that are indented further.
    let names = list.lines().filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

#[test]
fn every_command_says_how_it_is_used() {
    let mut shown = BTreeSet::new();
    walk(&[], &mut shown);
    assert!(shown.contains("collm.snap") && shown.contains("bench-engine.snap"), "{shown:?}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots/help");
    let files = fs::read_dir(folder).expect("the folder is in the repository");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    let kept: BTreeSet<String> = names.filter(|name| name.ends_with(".snap")).collect();
    assert_eq!(kept, shown, "a file of a command that is gone is to be removed");
}
