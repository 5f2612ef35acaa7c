//! A model hub on loopback that serves one repository, and misbehaves on request.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use collm_model::Digest;

pub(crate) const REPO: &str = "user/repo";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the hub does. Changed by tests between fetches.
#[derive(Default)]
pub(crate) struct Behaviour {
    /// Files by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// A status for every request.
    pub status: Option<u16>,
    /// Bodies are cut after so many bytes, this many times.
    pub cuts: Vec<usize>,
    /// Ranges are ignored: every answer starts at the first byte.
    pub ignore_ranges: bool,
    /// Bodies are other bytes than the etag promises.
    pub corrupt: bool,
    /// Without it, requests get 401; the storage that files are redirected to gets 400 with it.
    pub token: Option<String>,
    /// Request lines, with the range asked for.
    pub log: Vec<String>,
}

pub(crate) struct StubHub {
    pub address: SocketAddr,
    pub behaviour: Arc<Mutex<Behaviour>>,
}

impl StubHub {
    /// Serves from a thread that ends with the test process.
    pub(crate) fn start(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let behaviour = Arc::new(Mutex::new(Behaviour { files, ..Behaviour::default() }));
        let shared = Arc::clone(&behaviour);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hung up is no failure of the hub.
                let _ = serve(&stream, &mut shared.lock().unwrap());
            }
        });
        Self { address, behaviour }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    /// The requests since the last time.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.behaviour.lock().unwrap().log)
    }
}

struct Request {
    method: String,
    path: String,
    range_start: Option<usize>,
    authorization: Option<String>,
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { method, path, range_start: None, authorization: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range_start = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => (),
        }
    }
    Some(request)
}

fn serve(stream: &TcpStream, hub: &mut Behaviour) -> std::io::Result<()> {
    let Some(request) = read_request(stream) else { return Ok(()) };
    let range = request.range_start.map(|start| format!(" from {start}")).unwrap_or_default();
    hub.log.push(format!("{} {}{range}", request.method, request.path));
    let wanted = hub.token.as_ref().map(|token| format!("Bearer {token}"));
    let storage = request.path.starts_with("/storage/");
    if wanted.is_some() && !storage && request.authorization != wanted {
        return answer(stream, 401, "", b"");
    }
    if storage && request.authorization.is_some() {
        return answer(stream, 400, "", b"");
    }
    if let Some(status) = hub.status {
        return answer(stream, status, "", b"");
    }
    if request.path == format!("/api/models/{REPO}/revision/main") {
        let siblings: Vec<_> = hub.files.iter().map(|(name, _)| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        return answer(stream, 200, "", body.as_bytes());
    }
    serve_file(stream, &request, hub)
}

/// As the real hub does, `resolve` redirects to another address and says in its headers what is there.
fn serve_file(stream: &TcpStream, request: &Request, hub: &mut Behaviour) -> std::io::Result<()> {
    let find = |prefix: &str| {
        let name = request.path.strip_prefix(prefix)?;
        hub.files.iter().find(|(known, _)| known == name).cloned()
    };
    if let Some((name, bytes)) = find(&format!("/{REPO}/resolve/{COMMIT}/")) {
        let (etag, size) = (Digest::of(&bytes), bytes.len());
        let headers = format!(
            "location: /storage/{name}\r\nx-linked-etag: \"{etag}\"\r\nx-linked-size: {size}\r\netag: \"small\"\r\n"
        );
        return answer(stream, 302, &headers, b"");
    }
    let Some((_, mut bytes)) = find("/storage/") else { return answer(stream, 404, "", b"") };
    if hub.corrupt {
        bytes.fill(0);
    }
    let start = request.range_start.filter(|_| !hub.ignore_ranges).unwrap_or(0);
    let (status, headers) = if start > 0 {
        (206, format!("content-range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len()))
    } else {
        (200, String::new())
    };
    let cut = if hub.cuts.is_empty() { usize::MAX } else { hub.cuts.remove(0) };
    answer_cut(stream, status, &headers, &bytes[start..], cut)
}

fn answer(stream: &TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    answer_cut(stream, status, headers, body, usize::MAX)
}

fn answer_cut(mut stream: &TcpStream, status: u16, headers: &str, body: &[u8], cut: usize) -> std::io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} Stub\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n")?;
    stream.write_all(&body[..cut.min(length)])
}
