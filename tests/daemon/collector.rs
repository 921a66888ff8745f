//! A collector of traces on this machine, which speaks OTLP over HTTP as far as the tests need it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// A span, as it was exported.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    attributes: Value,
}

impl Span {
    /// An attribute, as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        let list = self.attributes.as_array()?;
        let value = &list.iter().find(|attribute| attribute["key"] == key)?["value"];
        let text = value["stringValue"].as_str().map(str::to_owned);
        text.or_else(|| value["intValue"].as_str().map(str::to_owned)).or_else(|| Some(value["intValue"].to_string()))
    }
}

/// One export, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    /// In small letters.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Keeps what it is sent.
#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    exports: Arc<Mutex<Vec<Export>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { endpoint, exports: Arc::default() };
        let kept = collector.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || kept.serve(stream));
            }
        });
        collector
    }

    /// One export after another, as long as the connection holds.
    fn serve(&self, mut stream: TcpStream) {
        while let Some(export) = receive(&mut stream) {
            self.exports.lock().unwrap_or_else(PoisonError::into_inner).push(export);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }

    pub(crate) fn exports(&self) -> Vec<Export> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All spans so far, of exports in JSON.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.exports().iter().flat_map(|export| spans(&serde_json::from_slice(&export.body).unwrap())).collect()
    }
}

/// `None`: the client has gone.
fn receive(stream: &mut TcpStream) -> Option<Export> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 65_536]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
            if bytes.len() >= end + 4 + length {
                return Some(Export { head, body: bytes[end + 4..].to_vec() });
            }
        }
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
}

fn spans(export: &Value) -> Vec<Span> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list(export, "resourceSpans")
        .iter()
        .flat_map(|resource| list(resource, "scopeSpans"))
        .flat_map(|scope| list(&scope, "spans"))
        .map(|span| Span {
            trace: text(&span["traceId"]),
            id: text(&span["spanId"]),
            parent: text(&span["parentSpanId"]),
            name: text(&span["name"]),
            attributes: span["attributes"].clone(),
        })
        .collect()
}

/// A collector that takes connections and never answers.
pub(crate) fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        held.extend(listener.incoming().flatten());
    });
    endpoint
}
