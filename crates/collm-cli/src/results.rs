//! Folders of measurements: on what, of which source, by which command, every row, and the summary.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::process;

/// A folder that says how its numbers came about.
#[derive(Debug)]
pub(crate) struct ResultFolder {
    path: PathBuf,
}

impl ResultFolder {
    /// Makes the folder and writes down machine, commit and command.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let taken = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        ensure!(!taken, "{} is not empty; measurements are not overwritten, choose another --out", path.display());
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        let folder = Self { path: path.to_owned() };
        folder.write("machine.txt", &machine())?;
        folder.write("commit.txt", &commit())?;
        folder.write("command.txt", &command())?;
        Ok(folder)
    }

    /// Goes on in a folder that is there.
    pub(crate) fn go_on(path: &Path) -> anyhow::Result<Self> {
        let folder = Self { path: path.to_owned() };
        let before = folder.read("machine.txt")?;
        let told_alike = before.trim_end() == machine();
        ensure!(told_alike, "{} was measured on another machine; choose another --out", path.display());
        Ok(folder)
    }

    /// Where `rows` rows come from another source or command than the next ones, says both.
    pub(crate) fn tell_source_after(&self, rows: usize) -> anyhow::Result<()> {
        for (name, now) in [("commit.txt", commit()), ("command.txt", command())] {
            let before = self.read(name)?;
            if let Some(both) = said_anew(&before, &now, rows) {
                self.write(name, &both)?;
            }
        }
        Ok(())
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        let path = self.path.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Every row measured, a line each.
    pub(crate) fn write_rows<T: Serialize>(&self, rows: &[T]) -> anyhow::Result<()> {
        self.write_lines("rows.jsonl", rows)
    }

    /// What belongs to the rows, a line each.
    pub(crate) fn write_lines<T: Serialize>(&self, name: &str, rows: &[T]) -> anyhow::Result<()> {
        let lines = rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        self.write(name, &lines.join("\n"))
    }

    /// What was computed from the rows.
    pub(crate) fn write_summary<T: Serialize>(&self, summary: &T) -> anyhow::Result<()> {
        self.write("summary.json", &serde_json::to_string_pretty(summary)?)
    }

    /// Any other file.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        fs::write(&path, format!("{text}\n")).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What a file says of rows so far and of those after `rows`, if that is not the same.
fn said_anew(before: &str, now: &str, rows: usize) -> Option<String> {
    let before = before.trim_end();
    let last = before.lines().last().unwrap_or_default();
    let last = last.split_once(SINCE).map_or(last, |(_, said)| said);
    (last != now).then(|| format!("{before}\nfrom row {}{SINCE}{now}", rows + 1))
}

/// Between a row and what holds from it on.
const SINCE: &str = " on: ";

fn machine() -> String {
    let mut machine = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let processor = value_in("/proc/cpuinfo", "model name");
    let memory = value_in("/proc/meminfo", "MemTotal");
    for (name, value) in [("processor", processor), ("memory", memory)] {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = write!(machine, "\n{name}: {value}");
        }
    }
    let features = process::processor_features().join(" ");
    format!("{machine}\ncores usable: {}\nvector extensions: {features}", process::usable_cores().len())
}

fn value_in(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// The source's commit, and whether files differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return format!("collm {}", env!("CARGO_PKG_VERSION")) };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} with changes"),
    }
}

fn command() -> String {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    format!("collm {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_goes_on_says_what_changed() {
        assert_eq!(said_anew("abc\n", "abc", 3), None);
        let twice = said_anew("abc\n", "def", 3).expect("another");
        assert_eq!(twice, "abc\nfrom row 4 on: def");
        assert_eq!(said_anew(&twice, "def", 9), None);
        assert_eq!(said_anew(&twice, "abc", 9).expect("another"), format!("{twice}\nfrom row 10 on: abc"));
    }

    #[test]
    fn a_folder_says_how_it_came_about_and_is_not_overwritten() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let path = parent.path().join("day-what");
        let folder = ResultFolder::create(&path).expect("an empty folder");
        folder.write_rows(&[1, 2]).expect("room");
        folder.write_summary(&"fast").expect("room");
        for (name, expected) in [
            ("machine.txt", "cores usable"),
            ("command.txt", "collm"),
            ("rows.jsonl", "1\n2\n"),
            ("summary.json", "fast"),
        ] {
            let text = fs::read_to_string(path.join(name)).expect("it is there");
            assert!(text.contains(expected), "{name}: {text}");
        }
        assert!(path.join("commit.txt").is_file());
        assert!(ResultFolder::create(&path).is_err());
    }
}
