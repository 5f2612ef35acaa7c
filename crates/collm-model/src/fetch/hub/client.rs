//! Talking to the hub over HTTP.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::layout::{is_inside, is_plain};
use crate::fetch::error::FetchError;
use crate::progress::Progress;

/// A repository's listing is kilobytes; more than this is no listing.
const LISTING_BYTES_MAX: u64 = 16 << 20;
/// No server needs longer to accept a connection or to send the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);
const CHUNK_BYTES: usize = 1 << 18;

pub(super) struct Client<'a> {
    agent: Agent,
    endpoint: &'a str,
    token: Option<&'a str>,
}

/// What a repository holds at a commit.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// A file that can be downloaded.
pub(super) struct RemoteFile {
    url: String,
    /// For messages.
    pub(super) what: String,
    pub(super) etag: String,
    bytes: u64,
}

#[derive(Deserialize)]
struct ListingJson {
    sha: String,
    siblings: Vec<SiblingJson>,
}

#[derive(Deserialize)]
struct SiblingJson {
    rfilename: String,
}

impl<'a> Client<'a> {
    pub(super) fn new(endpoint: &'a str, token: Option<&'a str>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects_will_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .user_agent(concat!("collm/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), endpoint, token }
    }

    /// The files of a repository's main branch.
    pub(super) fn list(&self, repo: &str) -> Result<Listing, FetchError> {
        let url = format!("{}/api/models/{repo}/revision/main", self.endpoint);
        let mut response = self.call(self.agent.get(&url), repo)?;
        check_status(&response, repo)?;
        let body = response.body_mut().with_config().limit(LISTING_BYTES_MAX).read_json::<ListingJson>();
        let answer = body.map_err(|error| answer(repo, error.to_string()))?;
        if !is_plain(&answer.sha) {
            return Err(self::answer(repo, format!("{:?} is no commit", answer.sha)));
        }
        let files = answer.siblings.into_iter().map(|sibling| sibling.rfilename).filter(|file| is_inside(file));
        Ok(Listing { commit: answer.sha, files: files.collect() })
    }

    /// Size and etag of a file. Redirects are not followed: for large files, the redirect itself carries both.
    pub(super) fn file(&self, repo: &str, commit: &str, file: &str) -> Result<RemoteFile, FetchError> {
        let what = format!("{repo}/{file}");
        let url = format!("{}/{repo}/resolve/{commit}/{}", self.endpoint, escape(file));
        let request = self.agent.head(&url).config().max_redirects(0).build();
        let response = self.call(request, &what)?;
        if !response.status().is_redirection() {
            check_status(&response, &what)?;
        }
        let etag = header(&response, &["x-linked-etag", "etag"]).map(unquote);
        let etag =
            etag.filter(|etag| is_plain(etag)).ok_or_else(|| answer(&what, "it has no usable etag".to_owned()))?;
        let bytes = header(&response, &["x-linked-size", "content-length"]).and_then(|size| size.parse().ok());
        let bytes = bytes.ok_or_else(|| answer(&what, "it has no size".to_owned()))?;
        Ok(RemoteFile { url, what, etag, bytes })
    }

    /// Downloads into `path`, after what it holds already. An error leaves what arrived.
    pub(super) fn download(
        &self,
        remote: &RemoteFile,
        path: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), FetchError> {
        let io = |source| FetchError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        let mut have = file.metadata().map_err(io)?.len();
        if have > remote.bytes {
            file.set_len(0).map_err(io)?;
            have = 0;
        }
        if have == remote.bytes {
            return Ok(());
        }
        let mut request = self.agent.get(&remote.url);
        if have > 0 {
            request = request.header("range", format!("bytes={have}-"));
        }
        let response = self.call(request, &remote.what)?;
        check_status(&response, &remote.what)?;
        if have > 0 && !continues_at(&response, have) {
            // The server starts over, so the file does too.
            file.set_len(0).map_err(io)?;
            have = 0;
        }
        receive(response, &mut file, have, remote, progress).map_err(|error| match error {
            Receive::Disk(source) => io(source),
            Receive::Network(reason) => FetchError::Network { what: remote.what.clone(), reason },
        })
    }

    fn call(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
        what: &str,
    ) -> Result<Response<Body>, FetchError> {
        let request = match self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        request.call().map_err(|error| FetchError::Network { what: what.to_owned(), reason: error.to_string() })
    }
}

/// Why receiving stopped.
enum Receive {
    Disk(io::Error),
    Network(String),
}

fn receive(
    response: Response<Body>,
    file: &mut File,
    have: u64,
    remote: &RemoteFile,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Receive> {
    let mut body = response.into_body().into_reader();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut have = have;
    progress(Progress::of(have, remote.bytes));
    while have < remote.bytes {
        let count = match body.read(&mut chunk) {
            Ok(0) => return Err(Receive::Network(format!("{have} of {} bytes arrived", remote.bytes))),
            Ok(count) => count,
            Err(error) => return Err(Receive::Network(error.to_string())),
        };
        if have + count as u64 > remote.bytes {
            return Err(Receive::Network("more bytes arrive than were announced".to_owned()));
        }
        file.write_all(&chunk[..count]).map_err(Receive::Disk)?;
        have += count as u64;
        progress(Progress::of(have, remote.bytes));
    }
    Ok(())
}

fn continues_at(response: &Response<Body>, have: u64) -> bool {
    let range = header(response, &["content-range"]).unwrap_or_default();
    response.status() == StatusCode::PARTIAL_CONTENT && range.starts_with(&format!("bytes {have}-"))
}

fn check_status(response: &Response<Body>, what: &str) -> Result<(), FetchError> {
    let what = what.to_owned();
    match response.status().as_u16() {
        200..300 => Ok(()),
        404 => Err(FetchError::NotFound(what)),
        status @ (401 | 403) => Err(FetchError::Unauthorized { what, status }),
        status => Err(FetchError::Status { what, status }),
    }
}

/// The first of these headers that is there.
fn header<'r>(response: &'r Response<Body>, names: &[&str]) -> Option<&'r str> {
    names.iter().find_map(|name| response.headers().get(*name)?.to_str().ok())
}

fn unquote(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

fn answer(what: &str, reason: String) -> FetchError {
    FetchError::Answer { what: what.to_owned(), reason }
}

/// Percent-encodes what a path in an address cannot hold.
fn escape(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    let escaped =
        path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    escaped.collect()
}
