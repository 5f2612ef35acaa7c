//! Fetching from the model hub: interrupted, resumed, offline, refused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod stub;

use std::path::{Path, PathBuf};

use collm_model::fetch::{FetchError, Fetcher, Hub};
use collm_model::synthetic::SyntheticModel;
use collm_model::{Architecture, Cache, ModelReference, Progress, store};
use stub::{COMMIT, REPO, StubHub};
use tempfile::TempDir;

struct Machine {
    folder: TempDir,
    fetcher: Fetcher,
    progress: Vec<Progress>,
}

impl Machine {
    fn new(hub: &StubHub) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("http://{}", hub.address);
        let hub = Hub { endpoint, cache: folder.path().join("hub"), token: None, offline: false };
        let cache = Cache::at(folder.path().join("collm"));
        Self { fetcher: Fetcher { cache, hub, python: "/nonexistent".into() }, folder, progress: Vec::new() }
    }

    fn fetch(&mut self, reference: &str) -> Result<PathBuf, FetchError> {
        let reference = ModelReference::parse(reference).unwrap();
        self.progress.clear();
        self.fetcher.fetch(&reference, &mut |progress| self.progress.push(progress))
    }

    fn repo_folder(&self) -> PathBuf {
        self.folder.path().join("hub/models--user--repo")
    }

    fn blobs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.repo_folder().join("blobs")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Bytes that differ from place to place, so that a wrong offset shows.
fn content(seed: u8) -> Vec<u8> {
    (0..600_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

fn hub() -> StubHub {
    StubHub::start(&[
        ("README.md", b"read me"),
        ("m-Q8_0.gguf", &content(8)),
        ("m-Q4_K_M.gguf", &content(4)),
        ("sub/m-F16.gguf", &content(16)),
    ])
}

#[test]
fn a_file_lands_in_the_standard_layout() {
    let hub = hub();
    let mut machine = Machine::new(&hub);
    let path = machine.fetch("hf:user/repo").unwrap();
    assert_eq!(path, machine.repo_folder().join("snapshots").join(COMMIT).join("m-Q4_K_M.gguf"));
    assert_eq!(std::fs::read(&path).unwrap(), content(4));
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(machine.repo_folder().join("refs/main")).unwrap(), COMMIT);
    assert_eq!(machine.blobs().len(), 1);
    assert!(std::fs::read_link(&path).unwrap().is_relative(), "the cache can be moved");
    let last = machine.progress.last().unwrap();
    assert_eq!((last.done_bytes, last.total_bytes), (600_000, Some(600_000)));
}

#[test]
fn quantisations_are_chosen_in_any_case_and_in_folders() {
    let hub = hub();
    let mut machine = Machine::new(&hub);
    assert_eq!(std::fs::read(machine.fetch("hf:user/repo:q8_0").unwrap()).unwrap(), content(8));
    let nested = machine.fetch("hf:user/repo:f16").unwrap();
    assert!(nested.ends_with("sub/m-F16.gguf"));
    assert_eq!(std::fs::read(nested).unwrap(), content(16));
    let error = machine.fetch("hf:user/repo:q2_k").unwrap_err();
    assert!(matches!(error, FetchError::Choice { .. }));
    for text in ["hf:user/repo:q2_k", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "sub/m-F16.gguf"] {
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_broken_connection_is_continued() {
    let hub = hub();
    hub.change(|hub| hub.cuts = vec![100_000, 0, 200_000, 1]);
    let mut machine = Machine::new(&hub);
    let path = machine.fetch("hf:user/repo:q8_0").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content(8));
    let from: Vec<_> =
        hub.take_log().into_iter().filter_map(|line| Some(line.split_once(" from ")?.1.to_owned())).collect();
    let storage: Vec<_> = from.chunks(2).map(|pair| pair[0].clone()).collect();
    assert_eq!(storage, ["100000", "100000", "300000", "300001"], "{from:?}");
}

#[test]
fn an_interrupted_download_is_continued_the_next_time() {
    let hub = hub();
    hub.change(|hub| hub.cuts = vec![250_000, 0, 0, 0]);
    let mut machine = Machine::new(&hub);
    let error = machine.fetch("hf:user/repo:q8_0").unwrap_err();
    assert!(matches!(error, FetchError::Network { .. }), "{error}");
    assert!(machine.blobs()[0].ends_with(".incomplete"));
    hub.take_log();
    let path = machine.fetch("hf:user/repo:q8_0").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content(8));
    assert!(hub.take_log().iter().any(|line| line.ends_with(" from 250000")));
    assert_eq!(machine.progress[0].done_bytes, 250_000);
}

#[test]
fn a_server_without_ranges_starts_over() {
    let hub = hub();
    hub.change(|hub| (hub.cuts, hub.ignore_ranges) = (vec![250_000], true));
    let mut machine = Machine::new(&hub);
    let path = machine.fetch("hf:user/repo:q8_0").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content(8));
}

#[test]
fn damage_is_noticed_and_not_kept() {
    let hub = hub();
    hub.change(|hub| hub.corrupt = true);
    let mut machine = Machine::new(&hub);
    let error = machine.fetch("hf:user/repo").unwrap_err();
    assert!(matches!(error, FetchError::Damaged { .. }), "{error}");
    assert!(machine.blobs().is_empty());
    hub.change(|hub| hub.corrupt = false);
    assert_eq!(std::fs::read(machine.fetch("hf:user/repo").unwrap()).unwrap(), content(4));
}

#[test]
fn the_second_time_needs_no_download_and_no_network() {
    let hub = hub();
    let mut machine = Machine::new(&hub);
    let first = machine.fetch("hf:user/repo:q8_0").unwrap();
    hub.take_log();
    assert_eq!(machine.fetch("hf:user/repo:q8_0").unwrap(), first);
    assert_eq!(hub.take_log(), Vec::<String>::new());
    machine.fetcher.hub.offline = true;
    assert_eq!(machine.fetch("hf:user/repo").unwrap(), first);
    assert_eq!(hub.take_log(), Vec::<String>::new());
    let error = machine.fetch("hf:user/repo:f16").unwrap_err();
    assert!(matches!(error, FetchError::Offline { .. }), "{error}");
}

#[test]
fn an_unreachable_hub_leaves_what_is_cached() {
    let hub = hub();
    let mut machine = Machine::new(&hub);
    let first = machine.fetch("hf:user/repo").unwrap();
    machine.fetcher.hub.endpoint = closed_endpoint();
    assert_eq!(machine.fetch("hf:user/repo").unwrap(), first);
    let error = machine.fetch("hf:user/other").unwrap_err();
    assert!(matches!(error, FetchError::Network { .. }), "{error}");
}

/// An address where nobody listens any more.
fn closed_endpoint() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn refusals_have_their_names() {
    let hub = hub();
    let mut machine = Machine::new(&hub);
    let error = machine.fetch("hf:user/absent").unwrap_err();
    assert!(matches!(&error, FetchError::NotFound(what) if what == "user/absent"), "{error}");
    hub.change(|hub| hub.status = Some(503));
    assert!(matches!(machine.fetch("hf:user/repo"), Err(FetchError::Status { status: 503, .. })));
}

#[test]
fn private_repositories_need_a_token() {
    let hub = hub();
    hub.change(|hub| hub.token = Some("hf_secret".to_owned()));
    let mut machine = Machine::new(&hub);
    let error = machine.fetch("hf:user/repo").unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { status: 401, .. }));
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    machine.fetcher.hub.token = Some("hf_secret".to_owned());
    // The stub's storage refuses requests that carry the token: it must not be sent to where a redirect leads.
    assert_eq!(std::fs::read(machine.fetch("hf:user/repo").unwrap()).unwrap(), content(4));
}

#[test]
fn hostile_listings_stay_inside_the_cache() {
    let hub = StubHub::start(&[("../../../evil.gguf", b"x"), ("/etc/evil.gguf", b"x")]);
    let mut machine = Machine::new(&hub);
    let error = machine.fetch("hf:user/repo").unwrap_err();
    assert!(matches!(&error, FetchError::Choice { files, .. } if files.is_empty()), "{error}");
}

#[test]
fn two_fetches_at_once_download_once() {
    let hub = hub();
    let machine = Machine::new(&hub);
    let reference = ModelReference::parse(&format!("hf:{REPO}")).unwrap();
    std::thread::scope(|scope| {
        let fetch = || machine.fetcher.fetch(&reference, &mut |_| ()).unwrap();
        let (one, two) = (scope.spawn(fetch), scope.spawn(fetch));
        assert_eq!(one.join().unwrap(), two.join().unwrap());
    });
    let downloads = hub.take_log().iter().filter(|line| line.starts_with("GET /storage/")).count();
    assert_eq!(downloads, 1);
}

#[test]
fn stored_models_are_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    SyntheticModel::new(Architecture::Qwen3).write(&model).unwrap();
    let hub = StubHub::start(&[("m-F32.gguf", &std::fs::read(&model).unwrap())]);
    let mut machine = Machine::new(&hub);
    let path = machine.fetch("hf:user/repo").unwrap();
    let parts = machine.fetcher.cache.parts_folder();
    std::fs::create_dir_all(&parts).unwrap();
    std::fs::write(parts.join("broken.gguf"), b"not a model").unwrap();

    let list = |fetcher: &Fetcher| store::list(&fetcher.cache, &fetcher.hub);
    let listed = list(&machine.fetcher);
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (listed[0].reference.as_str(), listed[0].architecture.as_deref()),
        ("hf:user/repo:m-F32", Some("qwen3"))
    );
    assert_eq!(listed[0].bytes, std::fs::metadata(&model).unwrap().len());
    assert_eq!(listed[1].architecture, None);
    assert_eq!(machine.fetch(&listed[0].reference).unwrap(), path, "what is listed can be used");

    let remove = |path: &Path| store::remove(&machine.fetcher.cache, &machine.fetcher.hub, path);
    assert!(remove(&model).is_err(), "only what is in the cache is removed");
    assert!(model.exists());
    remove(&path).unwrap();
    remove(&parts.join("broken.gguf")).unwrap();
    assert!(machine.blobs().is_empty());
    assert_eq!(list(&machine.fetcher), []);
}
