//! Rules about source files: what the pure core must not mention, how long a file may be, and that each crate says what it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// A file that cannot be read at one sitting hides its structure.
const LINES_MAX: usize = 600;

/// Files that are longer, and why they may be.
const LONGER: &[(&str, &str)] = &[];

/// Words that have no place in a crate's code, and why.
const BANNED: &[Ban] = &[
    Ban {
        krate: "collm-core",
        words: &["std::time::Instant", "SystemTime", "Instant::now"],
        why: "time is an input of the core, never read from a clock",
    },
    Ban {
        krate: "collm-core",
        words: &["std::thread", "std::net", "std::fs", "std::io", "std::process", "std::env"],
        why: "the core does nothing itself: it asks for work and is told what came of it",
    },
    Ban {
        krate: "collm-core",
        words: &["HashMap", "HashSet"],
        why: "the order of a hash map differs from run to run and would show in frames; use a B-tree",
    },
];

/// Where the lint against unsafe code may be switched off, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("crates/collm-ggml/", "it calls the C library"),
    ("crates/collm-model/src/gguf/reader.rs", "mapping a file into memory has no safe form"),
];

struct Ban {
    krate: &'static str,
    words: &'static [&'static str],
    why: &'static str,
}

/// A Rust file of a crate's `src`.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the workspace's root, with forward slashes.
    path: String,
    text: String,
}

/// All Rust files of `crates/*/src` and `xtask/src`, in order of their paths.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut folders = vec![root.join("xtask/src")];
    for entry in fs::read_dir(root.join("crates")).context("cannot list crates/")? {
        folders.push(entry?.path().join("src"));
    }
    let mut paths = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        collect(folder, &mut paths).with_context(|| format!("cannot list {}", folder.display()))?;
    }
    paths.sort();
    paths.into_iter().map(|path| Source::read(root, &path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

impl Source {
    fn read(root: &Path, path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let relative = path.strip_prefix(root).expect("only files below the root are listed");
        Ok(Self { path: relative.to_string_lossy().replace('\\', "/"), text })
    }

    fn krate(&self) -> &str {
        self.path.trim_start_matches("crates/").split('/').next().expect("split yields at least one piece")
    }

    fn is_crate_root(&self) -> bool {
        ["src/lib.rs", "src/main.rs"].iter().any(|root| self.path.ends_with(root))
            && self.path.matches("src/").count() == 1
    }

    /// Lines of code with their numbers from 1; what follows `//` is dropped.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.map(|(index, line)| (index + 1, line.split("//").next().expect("split yields at least one piece")))
    }
}

/// Complaints about these files.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let mut complaints: Vec<String> = sources.iter().flat_map(|source| complaints(source, LONGER)).collect();
    complaints.extend(stale(sources, LONGER));
    complaints
}

fn complaints(source: &Source, longer: &[(&str, &str)]) -> Vec<String> {
    let mut complaints = banned_words(source);
    complaints.extend(unsafe_code(source));
    complaints.extend(too_long(source, longer));
    complaints.extend(no_module_comment(source));
    complaints
}

fn banned_words(source: &Source) -> Vec<String> {
    let bans = BANNED.iter().filter(|ban| ban.krate == source.krate());
    bans.flat_map(|ban| ban.words.iter().map(move |word| (word, ban.why)))
        .flat_map(|(word, why)| lines_with(source, word).map(move |line| (line, word, why)))
        .map(|(line, word, why)| format!("{}:{line}: {word} in the code, but {why}", source.path))
        .collect()
}

fn lines_with<'a>(source: &'a Source, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let nested = word.strip_prefix("std::").filter(|name| !name.contains("::"));
    source
        .code()
        .filter(move |(_, line)| line.contains(word) || nested.is_some_and(|name| is_nested_import(line, name)))
        .map(|(number, _)| number)
}

/// Whether the line imports `name` in braces: alone on its line as rustfmt breaks them, or all on one line.
fn is_nested_import(line: &str, name: &str) -> bool {
    let line = line.trim();
    let paths = line.strip_prefix("use std::{").unwrap_or(line);
    let is_import = paths.len() < line.len() || line.ends_with(',') || line.ends_with(",{");
    is_import && paths.split(['{', '}', ',', ';']).any(|path| path.trim().split("::").next() == Some(name))
}

fn unsafe_code(source: &Source) -> Option<String> {
    // Written apart, or this file would be the first to complain about.
    let words = [concat!("allow(", "unsafe_code"), concat!("expect(", "unsafe_code")];
    let line = words.iter().find_map(|word| lines_with(source, word).next())?;
    let path = &source.path;
    let allowed = UNSAFE.iter().any(|(place, _)| path.starts_with(place));
    (!allowed)
        .then(|| format!("{path}:{line}: unsafe code is allowed, but only collm-ggml and a file map may have any"))
}

fn too_long(source: &Source, longer: &[(&str, &str)]) -> Option<String> {
    let lines = source.text.lines().count();
    let excused = longer.iter().any(|(path, _)| *path == source.path);
    let path = &source.path;
    (lines > LINES_MAX && !excused).then(|| {
        format!("{path} has {lines} lines, over {LINES_MAX}; split it by concern, or list it in LONGER with a reason")
    })
}

/// Excuses that nothing needs any more.
fn stale(sources: &[Source], longer: &[(&str, &str)]) -> Vec<String> {
    let needed =
        |path: &str| sources.iter().any(|source| source.path == path && source.text.lines().count() > LINES_MAX);
    let unneeded = longer.iter().filter(|(path, _)| !needed(path));
    unneeded.map(|(path, _)| format!("{path} needs no excuse for its length any more; drop it from LONGER")).collect()
}

fn no_module_comment(source: &Source) -> Option<String> {
    let path = &source.path;
    (source.is_crate_root() && !source.text.starts_with("//!")).then(|| {
        format!("{path} begins without a `//!` comment that says what the crate is for and what it lacks on purpose")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[track_caller]
    fn complains(path: &str, text: &str, expected: &str) {
        let found = complaints(&source(path, text), &[]);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?} lacks {expected:?}");
    }

    #[test]
    fn each_rule_can_be_broken() {
        complains("crates/collm-core/src/a.rs", "let now = Instant::now();", "a.rs:1: Instant::now");
        complains("crates/collm-core/src/a.rs", "\nuse std::thread;", "a.rs:2: std::thread");
        complains("crates/collm-core/src/a.rs", "use std::{fs, time::Duration};", "a.rs:1: std::fs");
        complains("crates/collm-core/src/a.rs", "use std::{\n    io::{self, Read},\n};", "a.rs:2: std::io");
        complains("crates/collm-core/src/edge/a.rs", "use std::collections::HashMap;", "HashMap");
        complains("crates/collm-node/src/a.rs", concat!("#![allow(", "unsafe_code)]"), "only collm-ggml and");
        complains("crates/collm-node/src/a.rs", &"\n".repeat(LINES_MAX + 1), "over 600");
        complains("crates/collm-node/src/lib.rs", "mod a;", "begins without");
        complains("xtask/src/main.rs", "fn main() {}", "begins without");
    }

    #[test]
    fn what_is_allowed_passes() {
        let allowed = [
            source("crates/collm-core/src/lib.rs", "//! No HashMap here.\nlet a = 1; // nor an Instant::now"),
            source("crates/collm-node/src/a.rs", "use std::collections::HashMap;"),
            source("crates/collm-ggml/src/a.rs", concat!("#![allow(", "unsafe_code)]")),
            source("crates/collm-cli/src/commands/a.rs", &"\n".repeat(LINES_MAX)),
        ];
        assert_eq!(check(&allowed), Vec::<String>::new());
    }

    #[test]
    fn an_excuse_is_needed_or_stale() {
        let long = source("crates/a/src/b.rs", &"\n".repeat(LINES_MAX + 1));
        let excuse = [("crates/a/src/b.rs", "one table")];
        assert_eq!(complaints(&long, &excuse), Vec::<String>::new());
        assert_eq!(stale(&[long], &excuse), Vec::<String>::new());
        assert_eq!(stale(&[], &excuse).len(), 1);
    }
}
