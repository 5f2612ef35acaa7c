//! Measurements are data: a folder in `results/` that does not say how it came about is worth nothing.

use std::{fs, path::Path};

use anyhow::Context as _;

/// What each result folder must say, as the stem of one of its files.
const REQUIRED: &[(&str, &str)] =
    &[("machine", "on what it was measured"), ("commit", "of which source"), ("command", "how to measure it again")];

/// One folder of `results/`.
#[derive(Debug)]
pub(crate) struct ResultFolder {
    name: String,
    /// Stems of its files that are not empty.
    stems: Vec<String>,
}

/// All folders of `results/`, none if there is no such folder.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<ResultFolder>> {
    let results = root.join("results");
    if !results.is_dir() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(results).context("cannot list results/")? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(ResultFolder::read(&path).with_context(|| format!("cannot list {}", path.display()))?);
        }
    }
    folders.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(folders)
}

impl ResultFolder {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut stems = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.metadata()?.len() > 0 {
                stems.push(stem(&entry.path()));
            }
        }
        Ok(Self { name: stem_of_folder(path), stems })
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn stem_of_folder(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Complaints about folders that lack something.
pub(crate) fn check(folders: &[ResultFolder]) -> Vec<String> {
    folders.iter().flat_map(lacks).collect()
}

fn lacks(folder: &ResultFolder) -> impl Iterator<Item = String> {
    let missing = REQUIRED.iter().filter(|(stem, _)| !folder.stems.iter().any(|present| present == stem));
    missing.map(|(stem, meaning)| format!("results/{} has no {stem} file that says {meaning}", folder.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(stems: &[&str]) -> ResultFolder {
        ResultFolder { name: "day-what".to_owned(), stems: stems.iter().map(|stem| (*stem).to_owned()).collect() }
    }

    #[test]
    fn each_missing_file_is_named() {
        let complaints = check(&[folder(&["machine", "summary"])]);
        let expected = [
            "results/day-what has no commit file that says of which source",
            "results/day-what has no command file that says how to measure it again",
        ];
        assert_eq!(complaints, expected);
        assert_eq!(check(&[folder(&["commit", "command"])]).len(), 1);
    }

    #[test]
    fn a_complete_folder_passes() {
        assert_eq!(check(&[folder(&["machine", "commit", "command", "rows"])]), Vec::<String>::new());
    }
}
