//! An experiment: rows that are measured one after the other and written as they come, so that one that was interrupted goes on
//! where it stopped.
//!
//! What decides which rows there are is a settings struct; a folder made with other settings is refused, by name of the setting.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::results::ResultFolder;

const SETTINGS: &str = "settings.json";
const ROWS: &str = "rows.jsonl";

/// Rows measured so far, in a folder or in memory alone.
#[derive(Debug)]
pub(crate) struct Experiment<R> {
    rows: Vec<R>,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    folder: ResultFolder,
    rows: File,
    /// Whether the folder says where the next rows come from.
    source_told: bool,
}

impl<R: Serialize + DeserializeOwned> Experiment<R> {
    /// Begins in a new folder, or goes on in one that was made with the same settings. Without a folder nothing is kept.
    pub(crate) fn open(folder: Option<&Path>, settings: &impl Serialize) -> anyhow::Result<Self> {
        let Some(path) = folder else { return Ok(Self { rows: Vec::new(), kept: None }) };
        let settings = as_object(serde_json::to_value(settings)?)?;
        if path.join(SETTINGS).is_file() { Self::go_on(path, &settings) } else { Self::begin(path, settings) }
    }

    fn begin(path: &Path, settings: Map<String, Value>) -> anyhow::Result<Self> {
        let folder = ResultFolder::create(path)?;
        let rows = open_rows(&path.join(ROWS))?;
        // Last: a folder with settings has everything else.
        folder.write(SETTINGS, &serde_json::to_string_pretty(&Value::Object(settings))?)?;
        Ok(Self { rows: Vec::new(), kept: Some(Kept { folder, rows, source_told: true }) })
    }

    fn go_on(path: &Path, settings: &Map<String, Value>) -> anyhow::Result<Self> {
        let text = read(&path.join(SETTINGS))?;
        let made_with = serde_json::from_str(&text).map_err(anyhow::Error::new).and_then(as_object);
        let made_with = made_with.with_context(|| format!("{} holds no settings", path.display()))?;
        if let Some(difference) = difference(&made_with, settings) {
            bail!("{}: {difference}; give the same settings, or choose another --out", path.display());
        }
        let rows = read_rows(&path.join(ROWS))?;
        let kept = Kept { folder: ResultFolder::go_on(path)?, rows: open_rows(&path.join(ROWS))?, source_told: false };
        Ok(Self { rows, kept: Some(kept) })
    }

    /// In the order they were measured.
    pub(crate) fn rows(&self) -> &[R] {
        &self.rows
    }

    /// One more, kept at once.
    pub(crate) fn add(&mut self, row: R) -> anyhow::Result<()> {
        if let Some(kept) = &mut self.kept {
            if !kept.source_told {
                kept.folder.tell_source_after(self.rows.len())?;
                kept.source_told = true;
            }
            let line = format!("{}\n", serde_json::to_string(&row)?);
            kept.rows.write_all(line.as_bytes()).context("cannot write down what was measured")?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Writes what is computed from the rows, and its charts by their file names, if anything is kept.
    pub(crate) fn publish<'a>(
        &self,
        summary: &impl Serialize,
        charts: impl IntoIterator<Item = (&'a str, String)>,
    ) -> anyhow::Result<()> {
        let Some(folder) = self.folder() else { return Ok(()) };
        folder.write_summary(summary)?;
        charts.into_iter().try_for_each(|(name, svg)| folder.write(name, &svg))
    }

    /// Where to write what is computed from the rows, if anything is kept.
    pub(crate) fn folder(&self) -> Option<&ResultFolder> {
        self.kept.as_ref().map(|kept| &kept.folder)
    }
}

/// The first setting that is not the same, and how it differs.
fn difference(made_with: &Map<String, Value>, settings: &Map<String, Value>) -> Option<String> {
    let names = settings.keys().chain(made_with.keys());
    let mut different = names.filter(|name| made_with.get(*name) != settings.get(*name));
    let name = different.next()?;
    let said = |settings: &Map<String, Value>| settings.get(name).map_or("not set".to_owned(), Value::to_string);
    Some(format!("it was made with {name} {}, and this is {name} {}", said(made_with), said(settings)))
}

fn as_object(settings: Value) -> anyhow::Result<Map<String, Value>> {
    match settings {
        Value::Object(settings) => Ok(settings),
        other => bail!("settings are an object, and not {other}"),
    }
}

/// The rows that were written to their end. One that was being written when the program was killed is cut off the file.
fn read_rows<R: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<R>> {
    let text = read(path)?;
    let whole = text.rfind('\n').map_or(0, |last| last + 1);
    if whole < text.len() {
        let file = OpenOptions::new().write(true).open(path);
        let cut = file.and_then(|file| file.set_len(whole as u64));
        cut.with_context(|| format!("cannot cut the unfinished last row off {}", path.display()))?;
    }
    let rows = text[..whole].lines().enumerate().map(|(index, line)| {
        serde_json::from_str(line).with_context(|| format!("line {} of {} is no row", index + 1, path.display()))
    });
    rows.collect()
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn open_rows(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

/// Settings name prompts by what they are and not by where they lie.
pub(crate) fn fingerprint<'a>(texts: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
    let texts: Vec<&str> = texts.into_iter().collect();
    ensure!(!texts.is_empty(), "nothing to measure on");
    Ok(collm_model::Digest::of(serde_json::to_string(&texts)?.as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Row {
        prompt: usize,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Settings {
        limit: usize,
        max_tokens: u32,
    }

    const SETTINGS_MADE: Settings = Settings { limit: 2, max_tokens: 8 };

    fn open(path: &Path, settings: &Settings) -> anyhow::Result<Experiment<Row>> {
        Experiment::open(Some(path), settings)
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("day-what");
        (parent, path)
    }

    #[test]
    fn an_interrupted_experiment_goes_on_after_the_rows_that_are_there() {
        let (_parent, path) = folder();
        let mut first = open(&path, &SETTINGS_MADE).expect("a new folder");
        first.add(Row { prompt: 0 }).expect("room");
        drop(first);
        // Killed in the middle of a row.
        let mut rows = open_rows(&path.join(ROWS)).expect("rows");
        rows.write_all(b"{\"prom").expect("room");
        let mut second = open(&path, &SETTINGS_MADE).expect("the same settings");
        assert_eq!(second.rows(), [Row { prompt: 0 }]);
        second.add(Row { prompt: 1 }).expect("room");
        let third = open(&path, &SETTINGS_MADE).expect("the same settings");
        assert_eq!(third.rows(), [Row { prompt: 0 }, Row { prompt: 1 }]);
    }

    #[test]
    fn where_rows_come_from_is_said_with_the_first_new_one() {
        let (_parent, path) = folder();
        open(&path, &SETTINGS_MADE).expect("a new folder").add(Row { prompt: 0 }).expect("room");
        fs::write(path.join("commit.txt"), "abc\n").expect("room");
        let told = || fs::read_to_string(path.join("commit.txt")).expect("it is there");
        let mut again = open(&path, &SETTINGS_MADE).expect("the same settings");
        assert_eq!(told(), "abc\n");
        again.add(Row { prompt: 1 }).expect("room");
        assert!(told().starts_with("abc\nfrom row 2 on: "), "{}", told());
    }

    #[test]
    fn another_setting_is_refused_by_name() {
        let (_parent, path) = folder();
        open(&path, &SETTINGS_MADE).expect("a new folder");
        let refused = open(&path, &Settings { max_tokens: 16, ..SETTINGS_MADE }).expect_err("another setting");
        assert!(refused.to_string().contains("made with max-tokens 8, and this is max-tokens 16"), "{refused}");
    }

    #[test]
    fn what_is_no_experiment_is_left_alone() {
        let (_parent, path) = folder();
        fs::create_dir_all(&path).expect("room");
        fs::write(path.join("notes.txt"), "mine").expect("room");
        let refused = open(&path, &SETTINGS_MADE).expect_err("somebody's folder");
        assert!(refused.to_string().contains("not empty"), "{refused}");
        fs::remove_file(path.join("notes.txt")).expect("it is there");
        let mut experiment = open(&path, &SETTINGS_MADE).expect("an empty folder");
        experiment.add(Row { prompt: 0 }).expect("room");
        fs::write(path.join(ROWS), "nonsense\n").expect("room");
        let refused = open(&path, &SETTINGS_MADE).expect_err("rows that are none");
        assert!(refused.to_string().contains("line 1"), "{refused}");
    }

    #[test]
    fn without_a_folder_rows_are_in_memory() {
        let mut experiment = Experiment::open(None, &SETTINGS_MADE).expect("nothing to open");
        experiment.add(Row { prompt: 3 }).expect("memory");
        assert_eq!((experiment.rows(), experiment.folder().is_none()), (&[Row { prompt: 3 }][..], true));
    }

    #[test]
    fn other_prompts_have_another_fingerprint() {
        let of = |texts: &[&str]| fingerprint(texts.iter().copied()).expect("texts");
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert!(fingerprint([]).is_err());
    }
}
