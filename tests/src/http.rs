//! The server side of one HTTP/1.1 request, for mock servers of tests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

/// Reads the body of a request.
///
/// # Panics
/// If it is not an HTTP request.
#[must_use]
pub fn request_body(stream: &TcpStream) -> Vec<u8> {
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).expect("a head") > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    body
}

/// Answers with a status (`200 OK`, optionally with further header lines) and a body, and closes the connection.
///
/// # Panics
/// If the client is gone.
pub fn answer(mut stream: &TcpStream, status: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(format!("{head}{body}").as_bytes())
        .expect("whoever asked");
}

/// Serves an OpenAI-compatible chat address for as long as the test lives; `reply` gets each request's body.
///
/// # Panics
/// If no port is free.
#[must_use]
pub fn chat_server(reply: impl Fn(&Value) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a client");
            let body = serde_json::from_slice(&request_body(&stream)).expect("JSON");
            let said = json!({
                "choices": [{"message": {"content": reply(&body)}}],
                "usage": {"total_tokens": 9},
            });
            answer(&stream, "200 OK", &said.to_string());
        }
    });
    format!("http://{address}/v1")
}
