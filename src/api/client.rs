//! A small HTTP/1.1 client over a Unix socket or TCP: what `run` and the sandbox's process need, and no more.
//!
//! One connection a request, no redirects, no TLS, nothing tried twice.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::config::Listen;

/// How long a connection may take to be made.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long the header of an answer may take. Answers that wait for something send their header at once.
const HEADER_WAIT: Duration = Duration::from_secs(60);
/// How long a daemon may take to say that it is alive.
const ALIVE_WAIT: Duration = Duration::from_secs(5);
/// The largest answer that is taken as a whole, in bytes.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or nobody takes the connection.
    #[error("cannot connect to {at}: {source}")]
    Connect {
        /// The address.
        at: String,
        /// The system's words.
        source: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("the connection to {at} broke: {reason}")]
    Broken {
        /// The address.
        at: String,
        /// What happened.
        reason: String,
    },
}

/// Whether a daemon answers on one of the addresses. That it is not ready does not matter.
pub async fn is_alive(listen: &[Listen]) -> bool {
    for address in listen {
        let client = Client::new(address.clone());
        if let Ok(Ok(reply)) = timeout(ALIVE_WAIT, client.send(Method::GET, "/healthz", None)).await
            && reply.status() == 200
        {
            return true;
        }
    }
    false
}

/// Sends requests to one address.
#[derive(Clone, Debug)]
pub struct Client {
    at: Listen,
    /// Marked as sensitive, so that it is never printed.
    authorization: Option<HeaderValue>,
}

impl Client {
    /// For this address.
    #[must_use]
    pub fn new(at: Listen) -> Self {
        Self { at, authorization: None }
    }

    /// Sends this secret with every request. `None`: no header can carry it.
    #[must_use]
    pub fn with_token(self, token: &str) -> Option<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        authorization.set_sensitive(true);
        Some(Self { authorization: Some(authorization), ..self })
    }

    /// Sends a request, with a JSON body if there is one, and returns when the header of the answer is there.
    ///
    /// # Errors
    ///
    /// If there is no answer; any status is an answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, ClientError> {
        let mut request = request(method, path, body).map_err(|error| self.broken(error))?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let exchange = async {
            match &self.at {
                Listen::Unix(path) => self.exchange(self.connected(UnixStream::connect(path)).await?, request).await,
                Listen::Tcp(address) => {
                    self.exchange(self.connected(TcpStream::connect(address)).await?, request).await
                }
            }
        };
        timeout(HEADER_WAIT, exchange).await.unwrap_or_else(|_| Err(self.broken("no answer in time")))
    }

    async fn connected<S>(&self, connect: impl Future<Output = io::Result<S>>) -> Result<S, ClientError> {
        timeout(CONNECT_WAIT, connect)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| ClientError::Connect { at: self.at.to_string(), source })
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Reply, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // What goes wrong with the connection shows in the answer.
        let connection = tokio::spawn(async move { drop(connection.await) });
        let connection = Connection(connection.abort_handle());
        let answer = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let (head, body) = answer.into_parts();
        Ok(Reply { status: head.status.as_u16(), at: self.at.to_string(), body, _connection: connection })
    }

    fn broken(&self, reason: impl Display) -> ClientError {
        ClientError::Broken { at: self.at.to_string(), reason: reason.to_string() }
    }
}

fn request(method: Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>, http::Error> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    match body {
        Some(body) => {
            request.header(header::CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body.to_string())))
        }
        None => request.body(Full::default()),
    }
}

/// An answer whose body is still to come. Dropping it closes the connection.
#[derive(Debug)]
pub struct Reply {
    status: u16,
    at: String,
    body: Incoming,
    _connection: Connection,
}

impl Reply {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The next part of the body; `None`: it has ended.
    ///
    /// # Errors
    ///
    /// If the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(self.broken(error)),
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// If the connection breaks, or the body is larger than 8 MiB.
    pub async fn bytes(mut self) -> Result<Bytes, ClientError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(self.broken(format!("the answer is larger than {MAX_ANSWER_BYTES} bytes")));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// The whole body as JSON; an empty one is `null`.
    ///
    /// # Errors
    ///
    /// As [`Reply::bytes`], and if it is no JSON.
    pub async fn json(self) -> Result<Value, ClientError> {
        let at = self.at.clone();
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Broken { at, reason: error.to_string() })
    }

    fn broken(&self, reason: impl Display) -> ClientError {
        ClientError::Broken { at: self.at.clone(), reason: reason.to_string() }
    }
}

/// The task of a connection ends with its answer.
#[derive(Debug)]
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes, and tells what was asked.
    async fn answering(answer: &'static str) -> (Client, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(Listen::Tcp(listener.local_addr().unwrap()));
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (client, asked)
    }

    #[tokio::test]
    async fn a_request_carries_its_body_and_the_answer_its_status() {
        let (client, asked) =
            answering("HTTP/1.1 201 Created\r\nContent-Length: 8\r\nConnection: close\r\n\r\n{\"Id\":1}").await;
        let reply =
            client.send(Method::POST, "/containers/create?name=x", Some(&json!({"Image": "host"}))).await.unwrap();
        assert_eq!(reply.status(), 201);
        assert_eq!(reply.json().await.unwrap(), json!({"Id": 1}));
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /containers/create?name=x HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("content-type: application/json\r\n"), "{asked}");
        assert!(asked.ends_with("\r\n\r\n{\"Image\":\"host\"}"), "{asked}");
    }

    #[tokio::test]
    async fn a_body_without_a_length_ends_with_the_connection() {
        let (client, _asked) = answering("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello").await;
        let reply = client.send(Method::GET, "/", None).await.unwrap();
        assert_eq!(reply.bytes().await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_body_that_is_cut_short_is_an_error() {
        let (client, _asked) = answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").await;
        let reply = client.send(Method::GET, "/", None).await.unwrap();
        assert!(matches!(reply.bytes().await, Err(ClientError::Broken { .. })));
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_address() {
        let client = Client::new(Listen::Unix("/does/not/exist.sock".into()));
        let error = client.send(Method::GET, "/_ping", None).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot connect to unix:///does/not/exist.sock: "), "{error}");
    }
}
