//! A client that knows what it was told: an answer, a refusal, or nothing, which proves nothing.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Between two tries while nobody answers.
const AGAIN: Duration = Duration::from_millis(25);

/// What came of a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status below 400, with the body.
    Done(u16, Value),
    /// A status from 400 on, with the message.
    Refused(u16, String),
    /// The connection broke, or was never made.
    Lost,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(status, body) => write!(f, "{status} {body}"),
            Self::Refused(status, message) => write!(f, "{status} {message}"),
            Self::Lost => f.write_str("no answer"),
        }
    }
}

/// Speaks to one daemon, whichever process that is at the time.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    /// How many wishes were acknowledged: for those who want to know when.
    wishes: watch::Sender<u64>,
    /// How many of them were starts.
    starts: watch::Sender<u64>,
    /// Connections that are open on this side.
    open: Arc<AtomicU64>,
}

/// Counts a connection as open until it is dropped.
struct Open(Arc<AtomicU64>);

impl Open {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, wishes: watch::Sender::new(0), starts: watch::Sender::new(0), open: Arc::default() }
    }

    /// The number of acknowledged wishes.
    pub(crate) fn wishes(&self) -> watch::Receiver<u64> {
        self.wishes.subscribe()
    }

    /// Connections that this client holds open now.
    pub(crate) fn open_connections(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// The number of acknowledged starts.
    pub(crate) fn starts(&self) -> watch::Receiver<u64> {
        self.starts.subscribe()
    }

    /// One request, on a connection of its own.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let is_wish = method != Method::GET && !path.contains("/wait");
        let reply = self.exchange(method, path, body).await.unwrap_or(Reply::Lost);
        if is_wish && matches!(reply, Reply::Done(..)) {
            self.wishes.send_modify(|count| *count += 1);
            if path.ends_with("/start") {
                self.starts.send_modify(|count| *count += 1);
            }
        }
        reply
    }

    /// Asks until somebody answers. `true`: an earlier try may have been carried out without an answer.
    pub(crate) async fn insist(&self, method: Method, path: &str, body: Option<&Value>) -> (Reply, bool) {
        let mut unsure = false;
        loop {
            match self.ask(method.clone(), path, body).await {
                Reply::Lost => unsure = true,
                reply => return (reply, unsure),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Whether a daemon accepts connections.
    pub(crate) async fn is_served(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Reply> {
        let stream = UnixStream::connect(&self.socket).await.ok()?;
        let _open = Open::new(&self.open);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = Request::builder().method(method).uri(path).header("Host", "d");
        let request = request.header("Content-Type", "application/json").body(Full::new(bytes)).unwrap();
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let bytes = body.collect().await.ok()?.to_bytes();
        let status = head.status.as_u16();
        let value = serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
        if status < 400 {
            return Some(Reply::Done(status, value));
        }
        let message = value["message"].as_str().map_or_else(|| format!("{bytes:?}"), str::to_owned);
        Some(Reply::Refused(status, message))
    }
}
