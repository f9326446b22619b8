//! Servers that misbehave: a hub, a teacher. Each answers every request with the input.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use demask_actors::profile::Teacher;
use demask_actors::teacher::{Patience, Question, TeacherClient};
use demask_datasets::hub::{Hub, PullEvent, Repo, RepoKind, RetryPolicy, Settings, Watch};
use demask_tests::fuzz::{Door, room};

/// A misbehaving server.
struct Liar {
    address: String,
    says: Arc<Mutex<Vec<u8>>>,
}

impl Liar {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let says = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&says);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::new(), 0_u64);
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    line.clear();
                }
                std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok();
                let says = said.lock().unwrap().clone();
                stream.write_all(&says).ok();
            }
        });
        Self { address, says }
    }

    /// Answers with a body after a successful header, or with an answer that has its own header.
    fn say(&self, bytes: &[u8], head: &str) {
        let mut answer = Vec::new();
        if !bytes.starts_with(b"HTTP/1.1") {
            let length = bytes.len();
            answer.extend(
                format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n")
                    .bytes(),
            );
        }
        answer.extend(bytes);
        *self.says.lock().unwrap() = answer;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

struct Nobody;

impl Watch for Nobody {
    fn saw(&self, _: PullEvent<'_>) {}
}

/// A hub that answers with hostile bytes: the pull ends, and no control character reaches the error message.
#[test]
fn hub() {
    let liar = Liar::start();
    let room = room();
    let cache = room.path().join("cache");
    let get = |name: &str| match name {
        "HF_ENDPOINT" => Some(liar.address.clone()),
        "HF_HUB_CACHE" => Some(cache.display().to_string()),
        _ => None,
    };
    let settings = Settings::read(get).unwrap();
    let patience = RetryPolicy {
        tries: 1,
        first_wait: Duration::ZERO,
        longest_wait: Duration::ZERO,
        longest_asked: Duration::ZERO,
        silence: Duration::from_secs(20),
    };
    let repo = Repo::parse("owner/name", RepoKind::Model).unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let listing = format!(
        r#"{{"sha": "{commit}", "siblings": [{{"rfilename": "a.json", "size": 12, "blobId": "{commit}"}}, {{"rfilename": "b/c.bin", "lfs": {{"sha256": "{commit}", "size": 9}}}}]}}"#
    );
    let refused = b"HTTP/1.1 404 Not Found\r\nX-Error-Code: RepoNotFound\r\nX-Error-Message: no\x1b[31m\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    let moved = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nLink: </y>; rel=\"next\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let runtime = runtime();
    let head = format!("X-Repo-Commit: {commit}\r\nETag: \"{commit}\"\r\n");
    Door {
        name: "hub",
        inputs: 10_000,
        seeds: vec![listing.into(), refused.to_vec(), moved.to_vec(), b"[]".to_vec()],
        words: &[
            b"\"rfilename\": \"../../x\"",
            b"\x1b[2J",
            b"\"size\": 18446744073709551615",
            b"Location: http://127.0.0.1:1/\r\n",
            b"Retry-After: 99999999999\r\n",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        liar.say(bytes, &head);
        let hub = Hub::new(&settings, patience.clone()).unwrap();
        if let Err(error) = runtime.block_on(hub.pull(&repo, &[], 2, &Nobody)) {
            let words = error.to_string();
            assert!(!words.contains('\x1b'), "{words:?}");
        }
        std::fs::remove_dir_all(&cache).ok();
    });
}

/// A teacher that answers with hostile bytes, including endless waits and huge token counts: the request
/// ends.
#[test]
fn teacher() {
    let liar = Liar::start();
    let teacher = Teacher {
        url: format!("{}/v1", liar.address),
        model: "liar".into(),
        key_variable: "DEMASK_FUZZ_NO_KEY".into(),
        concurrency: 1,
        token_cap: u64::MAX / 2,
        share: 1.0,
        max_tokens: 64,
    };
    let patience = Patience {
        tries: 1,
        first_wait: Duration::ZERO,
        longest_wait: Duration::ZERO,
        limit: Duration::from_secs(20),
        longest_body: 1 << 20,
    };
    let client = TeacherClient::new(teacher, patience).unwrap();
    let question = Question {
        system: "think",
        prompt: "1 + 2?",
        picture: None,
        temperature: 0.5,
        seed: 1,
        max_tokens: 64,
    };
    let seeds = [
        &br#"{"choices": [{"message": {"role": "assistant", "content": "<think>1 + 2 = 3</think>3"}}], "usage": {"total_tokens": 12}}"#[..],
        br#"{"choices": [], "usage": {"total_tokens": 18446744073709551615}}"#,
        b"data: {\"choices\": [{\"delta\": {\"content\": \"3\"}}]}\n\ndata: [DONE]\n\n",
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 18446744073709551615\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ];
    let runtime = runtime();
    Door {
        name: "teacher",
        inputs: 10_000,
        seeds: seeds.map(<[u8]>::to_vec).to_vec(),
        words: &[
            b"data: ",
            b"\n\n",
            b"[",
            b"{",
            b"null",
            b"\\ud800",
            b"Retry-After: -1\r\n",
            b"Transfer-Encoding: chunked\r\n",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        liar.say(bytes, "Content-Type: application/json\r\n");
        runtime.block_on(client.ask(&question)).ok();
    });
}
