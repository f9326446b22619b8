//! A mock hub on a port of this machine, and the storage host that it redirects large files to. It answers as
//! the real hub does until it is told to fail.
// The tests of two crates use this module, and neither uses all of it.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha1::Digest as _;

/// Number of files on one page of a listing.
pub const PAGE: usize = 1000;
/// Number of files from which on the listing in a commit's description is truncated.
pub const CUT: usize = 1500;

/// The commit that `main` points to.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A file of the repository.
#[derive(Clone)]
pub struct File {
    pub path: &'static str,
    pub bytes: Vec<u8>,
    /// Whether the file is in large file storage.
    pub large: bool,
    /// Whether the file is in the chunk store (Xet), which has a bridge for clients that download plain large
    /// files.
    pub xet: bool,
}

impl File {
    pub fn small(path: &'static str, text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        Self {
            path,
            bytes,
            large: false,
            xet: false,
        }
    }

    /// Returns a file of `length` bytes, in which neighbouring bytes differ.
    pub fn large(path: &'static str, length: usize) -> Self {
        let bytes = (0..length).map(|at| (at * 31 % 251) as u8).collect();
        Self {
            path,
            bytes,
            large: true,
            xet: false,
        }
    }

    /// Returns a large file in the chunk store.
    pub fn xet(path: &'static str, length: usize) -> Self {
        let xet = true;
        Self {
            xet,
            ..Self::large(path, length)
        }
    }

    /// Returns the chunk store's hash of the content, which is as long as the SHA-256 and differs from it.
    pub fn xet_hash(&self) -> String {
        hex(&sha2::Sha256::digest(self.etag()))
    }

    /// Returns the hub's ETag of the content.
    pub fn etag(&self) -> String {
        if self.large {
            hex(&sha2::Sha256::digest(&self.bytes))
        } else {
            self.blob_id()
        }
    }

    fn blob_id(&self) -> String {
        let head = format!("blob {}\0", self.bytes.len());
        hex(&sha1::Sha1::new_with_prefix(head)
            .chain_update(&self.bytes)
            .finalize())
    }

    fn listed(&self) -> String {
        let (path, size, blob) = (self.path, self.bytes.len(), self.blob_id());
        let lfs = if self.large {
            format!(
                r#","lfs":{{"sha256":"{}","size":{size},"pointerSize":130}}"#,
                self.etag()
            )
        } else {
            String::new()
        };
        format!(r#"{{"rfilename":"{path}","size":{size},"blobId":"{blob}"{lfs}}}"#)
    }

    fn entry(&self) -> String {
        let (path, size, oid) = (self.path, self.bytes.len(), self.blob_id());
        let mut more = String::new();
        if self.large {
            more = format!(
                r#","lfs":{{"oid":"{}","size":{size},"pointerSize":130}}"#,
                self.etag()
            );
        }
        if self.xet {
            more.push_str(&format!(r#","xetHash":"{}""#, self.xet_hash()));
        }
        format!(r#"{{"type":"file","oid":"{oid}","size":{size},"path":"{path}"{more}}}"#)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A fault of one answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Another answer: status line, further header lines, and body.
    Instead(&'static str, String, String),
    /// The connection closes after this many bytes of the body.
    CutAt(usize),
    /// The connection stalls after this many bytes of the body.
    StallAt(usize),
    /// The whole file is sent, whatever range was requested.
    NoRanges,
    /// One byte is changed.
    Flipped,
    /// Another, shorter file is sent, with a matching length.
    Short(usize),
}

/// A request that was received.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The host that received it: `hub` or `storage`.
    pub host: &'static str,
    /// The method and path, such as `GET /path`, without the query.
    pub line: String,
    pub query: String,
    pub token: Option<String>,
    pub range: Option<String>,
}

struct Shared {
    files: Vec<File>,
    endpoint: String,
    storage: String,
    faults: Mutex<Vec<(String, Fault)>>,
    seen: Mutex<Vec<Seen>>,
    stalled: Mutex<Vec<TcpStream>>,
}

/// The running mock hub, with one repository `o/tiny`, as a model and as a data set.
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    pub fn start(files: Vec<File>) -> Self {
        let [hub, storage] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            files,
            endpoint: address(&hub),
            storage: address(&storage),
            faults: Mutex::default(),
            seen: Mutex::default(),
            stalled: Mutex::default(),
        });
        for (host, listener) in [("hub", hub), ("storage", storage)] {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || shared.serve(host, stream));
                }
            });
        }
        Self { shared }
    }

    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    pub fn storage(&self) -> &str {
        &self.shared.storage
    }

    /// Makes the next request that begins with `line` fail. Several faults of one kind of request occur in
    /// the given order.
    pub fn fail(&self, line: impl Into<String>, fault: Fault) {
        self.shared.faults.lock().unwrap().push((line.into(), fault));
    }

    /// Makes the next request that begins with `line` get a status and headers only.
    pub fn answer(&self, line: impl Into<String>, status: &'static str, headers: &str) {
        self.fail(line, Fault::Instead(status, headers.to_owned(), String::new()));
    }

    /// Returns the requests so far that begin with `line`.
    pub fn seen(&self, line: &str) -> Vec<Seen> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter()
            .filter(|seen| seen.line.starts_with(line))
            .cloned()
            .collect()
    }

    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// Returns the request line of a large file on the storage host.
    pub fn stored(&self, path: &str) -> String {
        let file = self.shared.files.iter().find(|file| file.path == path).unwrap();
        if file.xet {
            return format!("GET /xet-bridge-us/65f0/{}", file.etag());
        }
        format!("GET /store/{}", file.etag())
    }
}

impl Shared {
    fn serve(&self, host: &'static str, mut stream: TcpStream) {
        let Some(seen) = request(host, &stream) else {
            return;
        };
        let fault = self.fault(&seen.line);
        let (range, query) = (seen.range.clone(), seen.query.clone());
        let (method, path) = seen
            .line
            .split_once(' ')
            .map(|(m, p)| (m.to_owned(), p.to_owned()))
            .unwrap();
        self.seen.lock().unwrap().push(seen);
        if let Some(Fault::Instead(status, headers, body)) = &fault {
            send(&mut stream, status, headers, body.len(), body.as_bytes());
            return;
        }
        let with_body = method == "GET";
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api", "models" | "datasets", "o", "tiny", "revision", revision] => self.list(stream, revision),
            ["api", "models" | "datasets", "o", "tiny", "tree", COMMIT] => self.page(stream, &path, &query),
            ["o", "tiny", "resolve", COMMIT, file @ ..]
            | ["datasets", "o", "tiny", "resolve", COMMIT, file @ ..] => {
                let file = file.join("/").replace("%20", " ");
                match self.files.iter().find(|one| one.path == file) {
                    Some(file) if file.large => self.redirect(stream, file),
                    Some(file) => self.file(stream, file, with_body, range, fault),
                    None => missing(stream, "EntryNotFound"),
                }
            }
            ["store", etag] | ["xet-bridge-us", "65f0", etag] => {
                match self.files.iter().find(|one| one.etag() == *etag) {
                    Some(file) => self.file(stream, file, with_body, range, fault),
                    None => missing(stream, ""),
                }
            }
            _ => missing(stream, "RepoNotFound"),
        }
    }

    fn fault(&self, line: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults
            .iter()
            .position(|(begins, _)| line.starts_with(begins.as_str()))?;
        Some(faults.remove(at).1)
    }

    fn list(&self, mut stream: TcpStream, revision: &str) {
        if !["main", "v1", "refs%2Fpr%2F1", COMMIT].contains(&revision) {
            return missing(stream, "RevisionNotFound");
        }
        let files: Vec<String> = self.files.iter().take(CUT).map(File::listed).collect();
        let body = format!(r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#, files.join(","));
        send(&mut stream, "200 OK", "", body.len(), body.as_bytes());
    }

    /// Answers with a page of all files and one folder, and with a link to the next page.
    fn page(&self, mut stream: TcpStream, path: &str, query: &str) {
        let cursor = query.split('&').find_map(|part| part.strip_prefix("cursor="));
        let first: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let here = self.files.iter().skip(first).take(PAGE);
        let mut entries: Vec<String> = here.map(File::entry).collect();
        entries.push(r#"{"type":"directory","oid":"0","size":0,"path":"data"}"#.to_owned());
        let next = first + PAGE;
        let link = if next < self.files.len() {
            let endpoint = &self.endpoint;
            format!("Link: <{endpoint}{path}?recursive=true&limit={PAGE}&cursor={next}>; rel=\"next\"\r\n")
        } else {
            String::new()
        };
        let body = format!("[{}]", entries.join(","));
        send(&mut stream, "200 OK", &link, body.len(), body.as_bytes());
    }

    fn redirect(&self, mut stream: TcpStream, file: &File) {
        let (storage, etag, size) = (&self.storage, file.etag(), file.bytes.len());
        if file.xet {
            let (hash, endpoint) = (file.xet_hash(), &self.endpoint);
            let headers = format!(
                "Location: {storage}/xet-bridge-us/65f0/{etag}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=secret&x-id=GetObject\r\n\
                 X-Repo-Commit: {COMMIT}\r\nAccept-Ranges: bytes\r\nX-Linked-Size: {size}\r\nX-Linked-Etag: \"{etag}\"\r\n\
                 X-Xet-Hash: {hash}\r\nLink: <{endpoint}/api/models/o/tiny/xet-read-token/{COMMIT}>; rel=\"xet-auth\", \
                 <{storage}/v1/reconstructions/{hash}>; rel=\"xet-reconstruction-info\"\r\n"
            );
            return send(&mut stream, "302 Found", &headers, 0, b"");
        }
        let headers = format!(
            "Location: {storage}/store/{etag}?signature=secret\r\nX-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {size}\r\nETag: \"of-the-redirect\"\r\n"
        );
        send(&mut stream, "302 Found", &headers, 0, b"");
    }

    fn file(
        &self,
        mut stream: TcpStream,
        file: &File,
        with_body: bool,
        range: Option<String>,
        fault: Option<Fault>,
    ) {
        let mut bytes = file.bytes.clone();
        match &fault {
            Some(Fault::Flipped) => bytes[0] ^= 1,
            Some(Fault::Short(length)) => bytes.truncate(*length),
            _ => {}
        }
        let whole = bytes.len();
        let mut headers = if file.xet {
            // The bridge sends only the chunk store's hash, and no commit.
            format!("Accept-Ranges: bytes\r\nETag: \"{}\"\r\n", file.xet_hash())
        } else {
            format!("X-Repo-Commit: {COMMIT}\r\nETag: W/\"{}\"\r\n", file.etag())
        };
        let first: Option<usize> =
            range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let first = first.filter(|_| !matches!(fault, Some(Fault::NoRanges)));
        let status = match first {
            Some(first) if first < whole => {
                headers.push_str(&format!("Content-Range: bytes {first}-{}/{whole}\r\n", whole - 1));
                bytes.drain(..first);
                "206 Partial Content"
            }
            Some(_) => return send(&mut stream, "416 Range Not Satisfiable", "", 0, b""),
            None => "200 OK",
        };
        let length = bytes.len();
        match fault {
            Some(Fault::CutAt(at) | Fault::StallAt(at)) => bytes.truncate(at),
            _ if !with_body => bytes.clear(),
            _ => {}
        }
        send(&mut stream, status, &headers, length, &bytes);
        if matches!(fault, Some(Fault::StallAt(_))) {
            self.stalled.lock().unwrap().push(stream);
        }
    }
}

fn missing(mut stream: TcpStream, code: &str) {
    let headers = format!("X-Error-Code: {code}\r\nX-Error-Message: not here\r\n");
    send(&mut stream, "404 Not Found", &headers, 0, b"");
}

fn request(host: &'static str, stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream.try_clone().ok()?.take(1 << 16)).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, address) = (words.next()?, words.next()?);
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let (line, query) = (format!("{method} {path}"), query.to_owned());
    let (mut token, mut range) = (None, None);
    for header in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        match header.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                token = Some(value.to_owned())
            }
            Some((name, value)) if name.eq_ignore_ascii_case("range") => range = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(Seen {
        host,
        line,
        query,
        token,
        range,
    })
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, length: usize, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    // The client may have disconnected, which is a matter of its test.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
}
