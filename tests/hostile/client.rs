//! Requests as bytes, and what comes back.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::daemon::Doors;
use super::tls;

/// The most of an answer that is kept, in bytes.
const MAX_KEPT_BYTES: usize = 32 * 1_024 * 1_024;
/// Read at once, in bytes.
const PIECE_BYTES: usize = 64 * 1_024;

/// Over which of the daemon's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Unix,
    Tcp,
    Tls,
    /// The listener of the metrics, which has no other routes.
    Metrics,
}

/// What the client does when it has sent its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Reads the answer.
    Read,
    /// Reads the answers of all its requests: there are several on the connection.
    Answers,
    /// Says that nothing more comes, and reads the answer.
    Close,
    /// Vanishes.
    Vanish,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) via: Via,
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
    /// The status that it must be answered with; `None`: any, but for the server's errors.
    pub(crate) demands: Option<u16>,
}

impl Raw {
    /// A request of a well-behaved client.
    pub(crate) fn plain(method: &str, path: &str, body: &str) -> Self {
        let (length, kind) = (body.len(), if body.is_empty() { "" } else { "Content-Type: application/json\r\n" });
        let head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n{kind}Content-Length: {length}\r\n\r\n");
        Self { via: Via::Unix, bytes: format!("{head}{body}").into_bytes(), then: Then::Read, demands: None }
    }

    /// The method and the path without its query, as far as the first line has them.
    pub(crate) fn method_and_path(&self) -> (String, String) {
        method_and_path(&self.bytes)
    }

    /// The same of every request, where several were written one after another, each with a Content-Length.
    pub(crate) fn all_methods_and_paths(&self) -> Vec<(String, String)> {
        let mut rest = self.bytes.as_slice();
        let mut all = Vec::new();
        while let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            let (head, body) = rest.split_at(end + 4);
            all.push(method_and_path(head));
            let head = String::from_utf8_lossy(head);
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            rest = body.get(length.map_or(0, |length| length.parse().unwrap())..).unwrap_or_default();
        }
        all
    }
}

fn method_and_path(request: &[u8]) -> (String, String) {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    (method, target.split('?').next().unwrap_or_default().to_owned())
}

/// What has come back so far; it stays when the client gives up.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    bytes: Arc<Mutex<Vec<u8>>>,
    pieces: Arc<AtomicU64>,
}

impl Answer {
    /// Nothing yet. `pieces` counts what comes.
    pub(crate) fn new(pieces: &Arc<AtomicU64>) -> Self {
        Self { bytes: Arc::default(), pieces: Arc::clone(pieces) }
    }

    fn add(&self, piece: &[u8]) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() < MAX_KEPT_BYTES {
            bytes.extend_from_slice(piece);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The status. `None`: no answer has come.
    pub(crate) fn status(&self) -> Option<u16> {
        let bytes = self.bytes();
        let head = String::from_utf8_lossy(bytes.get(..16)?).into_owned();
        head.split(' ').nth(1)?.parse().ok()
    }

    /// The statuses of the answers on a connection with several requests, in their order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let bytes = self.bytes();
        let begins = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"HTTP/1.1 "));
        let status = |at: usize| String::from_utf8_lossy(bytes.get(at + 9..at + 12)?).parse().ok();
        begins.filter_map(status).collect()
    }

    /// The body.
    pub(crate) fn body(&self) -> Vec<u8> {
        let bytes = self.bytes();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        end.map_or_else(Vec::new, |end| bytes[end + 4..].to_vec())
    }

    /// The beginning of the body, for people.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body()).chars().take(400).collect()
    }
}

/// Makes a request. What has come back is in `answer`, also when this is dropped.
pub(crate) async fn exchange(doors: &Doors, raw: &Raw, answer: Answer) -> io::Result<()> {
    match raw.via {
        Via::Unix => over(UnixStream::connect(&doors.socket).await?, raw, answer).await,
        Via::Tcp => over(TcpStream::connect(doors.address).await?, raw, answer).await,
        Via::Tls => over(tls::connect(doors.tls, &answer.pieces).await?, raw, answer).await,
        Via::Metrics => over(TcpStream::connect(doors.metrics).await?, raw, answer).await,
    }
}

async fn over(io: impl AsyncRead + AsyncWrite, raw: &Raw, answer: Answer) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(io);
    let sending = async {
        // A server that refuses early closes its side early: its answer counts.
        let _ = to.write_all(&raw.bytes).await;
        let _ = to.flush().await;
        if matches!(raw.then, Then::Close | Then::Vanish) {
            let _ = to.shutdown().await;
        }
    };
    if raw.then == Then::Vanish {
        sending.await;
        return Ok(());
    }
    let reading = async {
        let mut piece = vec![0; PIECE_BYTES];
        // A connection that is reset has ended, too.
        while let Ok(count) = from.read(&mut piece).await {
            if count == 0 {
                break;
            }
            answer.add(&piece[..count]);
        }
    };
    tokio::join!(sending, reading);
    Ok(())
}

#[test]
fn every_request_on_a_connection_is_found() {
    let bytes = b"GET /_ping HTTP/1.1\r\nContent-Length: 0\r\n\r\nPOST /a?b HTTP/1.1\r\nContent-Length: 6\r\n\r\n{\r\n\r\n}POST /c HTTP/1.1\r\n\r\n";
    let raw = Raw { via: Via::Unix, bytes: bytes.to_vec(), then: Then::Answers, demands: None };
    let paths: Vec<_> = raw.all_methods_and_paths().into_iter().map(|(_, path)| path).collect();
    assert_eq!(paths, ["/_ping", "/a", "/c"]);
}
