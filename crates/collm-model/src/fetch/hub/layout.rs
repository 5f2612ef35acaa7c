//! Where a repository's files are in the hub's cache.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::fetch::error::FetchError;

/// Folders below a snapshot that are searched for files.
const DEPTH_MAX: usize = 4;

/// One repository in the hub's cache.
pub(super) struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        let name = format!("models--{}", repo.replace('/', "--"));
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    pub(super) fn blobs_folder(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    pub(super) fn blob_path(&self, etag: &str) -> PathBuf {
        self.blobs_folder().join(etag)
    }

    pub(super) fn incomplete_path(&self, etag: &str) -> PathBuf {
        self.blobs_folder().join(format!("{etag}.incomplete"))
    }

    /// The lock that the hub's own tools take too.
    pub(super) fn lock_path(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    fn main_path(&self) -> PathBuf {
        self.folder.join("refs").join("main")
    }

    /// The commit that `main` was when it was last looked at.
    fn main(&self) -> Option<String> {
        let commit = fs::read_to_string(self.main_path()).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_plain(commit))
    }

    /// Files of the last known commit that are here, by their path in the repository, sorted.
    pub(super) fn cached_files(&self) -> Vec<String> {
        let mut files = Vec::new();
        if let Some(commit) = self.main() {
            collect_files(&self.snapshot(&commit), "", DEPTH_MAX, &mut files);
        }
        files.sort();
        files
    }

    pub(super) fn cached_path(&self, file: &str) -> Option<PathBuf> {
        let path = self.snapshot(&self.main()?).join(file);
        path.is_file().then_some(path)
    }

    /// Makes `file` of `commit` a link to the blob, and `commit` the current one. Returns the link's path.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf, FetchError> {
        let path = self.snapshot(commit).join(file);
        let io = |source| FetchError::Io { path: path.clone(), source };
        let ups = 2 + Path::new(file).components().count();
        let target: PathBuf = std::iter::repeat_n("..", ups - 1).collect::<PathBuf>().join("blobs").join(etag);
        create_parent(&path).map_err(io)?;
        match std::os::unix::fs::symlink(target, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
            _ => (),
        }
        create_parent(&self.main_path()).and_then(|()| fs::write(self.main_path(), commit)).map_err(io)?;
        Ok(path)
    }
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn collect_files(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if path.is_file() {
            files.push(format!("{prefix}{name}"));
        } else if depth > 0 && path.is_dir() {
            collect_files(&path, &format!("{prefix}{name}/"), depth - 1, files);
        }
    }
}

/// Whether text from the network can be one component of a path: commits and etags are plain.
pub(super) fn is_plain(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a file's path in a repository stays inside the repository.
pub(super) fn is_inside(file: &str) -> bool {
    let path = Path::new(file);
    let count = path.components().count();
    let normal = path.components().all(|component| matches!(component, Component::Normal(_)));
    (1..=DEPTH_MAX).contains(&count) && normal && file.len() <= 512
}
