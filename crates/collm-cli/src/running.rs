//! Servers that run on this machine: each leaves a note while it does, and `collm ps` reads the notes.
//!
//! A server that was killed leaves its note behind. It is told from a living one by process id and the moment that the process
//! started, since ids are given again, and removed by whoever comes across it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tracing::debug;

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// edge or cloud.
    pub(crate) role: String,
    pub(crate) model: String,
    /// Where it is asked.
    pub(crate) url: String,
    /// Of an edge, if it has one.
    pub(crate) cloud: Option<String>,
    pub(crate) pid: u32,
    /// When its process started, in the system's own count; `None` where the system does not tell.
    ticks: Option<u64>,
    /// Since when it serves, in seconds since 1970.
    pub(crate) since: u64,
}

/// The note of this process. Dropping it removes the note.
#[derive(Debug)]
pub(crate) struct Note(Option<PathBuf>);

impl Running {
    /// This process, from now on.
    pub(crate) fn here(role: &str, model: &str, url: String, cloud: Option<String>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
        let pid = process::id();
        Self { role: role.to_owned(), model: model.to_owned(), url, cloud, pid, ticks: ticks(pid), since }
    }

    /// Leaves the note. A server serves without one, too.
    pub(crate) fn note(&self) -> Note {
        let written = folder().and_then(|folder| self.write(&folder));
        Note(written.inspect_err(|error| debug!(%error, "`collm ps` will not show this process")).ok())
    }

    fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        make_private(folder)?;
        let file = folder.join(format!("{}.json", self.pid));
        fs::write(&file, serde_json::to_vec(self)?)?;
        Ok(file)
    }

    fn is_alive(&self) -> bool {
        match (self.ticks, ticks(self.pid)) {
            (Some(then), Some(now)) => then == now,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // Gone already: somebody took this process for dead.
            let _ = fs::remove_file(file);
        }
    }
}

/// Those that run, the oldest first.
pub(crate) fn list() -> Vec<Running> {
    folder().map(|folder| read(&folder)).unwrap_or_default()
}

fn read(folder: &Path) -> Vec<Running> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut running: Vec<Running> = entries.flatten().filter_map(|entry| living(&entry.path())).collect();
    running.sort_by_key(|server| (server.since, server.pid));
    running
}

/// The server of a note. Removes the note of a dead one; what is no note is left alone.
fn living(file: &Path) -> Option<Running> {
    let running: Running = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    if running.is_alive() {
        return Some(running);
    }
    // Somebody else may have been faster.
    let _ = fs::remove_file(file);
    None
}

/// A folder of this person's that a restart of the machine empties.
fn folder() -> io::Result<PathBuf> {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(PathBuf::from(folder).join("collm")),
        None => Ok(std::env::temp_dir().join(format!("collm-{}", person()))),
    }
}

#[cfg(unix)]
fn person() -> u32 {
    rustix::process::getuid().as_raw()
}

#[cfg(not(unix))]
fn person() -> &'static str {
    "running"
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // In a folder that all may write to, somebody else may have been there before.
    if fs::symlink_metadata(folder)?.uid() != person() {
        return Err(io::Error::other(format!("{} belongs to somebody else", folder.display())));
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// When a process started; `None` if there is no such process, or the system does not tell.
fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, which may hold anything; the twenty-second is the start.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Running {
        Running::here("edge", "smollm2-135m", "http://127.0.0.1:1".to_owned(), None)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_dead_are_told_from_the_living_and_forgotten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (alive, path) = (here(), folder.path());
        alive.write(path).expect("room for a file");
        // The id has been given again, to this process.
        let replaced = Running { ticks: alive.ticks.map(|ticks| ticks + 1), ..alive.clone() };
        fs::write(path.join("replaced.json"), serde_json::to_vec(&replaced).expect("JSON")).expect("room for a file");
        fs::write(path.join("no-note"), "{}").expect("room for a file");
        assert_eq!(read(path), [alive]);
        assert!(!path.join("replaced.json").exists() && path.join("no-note").exists());
    }

    #[test]
    fn a_note_goes_with_its_server() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = here().write(folder.path()).expect("room for a file");
        drop(Note(Some(file.clone())));
        assert!(!file.exists());
    }
}
