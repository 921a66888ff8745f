//! Where the API listens, and the life of a connection.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::ApiContext;
use super::call::Room;
use super::limits;
use super::open_streams::OpenStreams;
use super::reply::{Reply, Served};
use super::routes::Routes;
use super::service;
use super::socket::SocketFile;
use super::tls::{self, TlsError};
use crate::config::{Listen, Tls};

/// Why the API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("cannot listen at {path}: another daemon is listening there")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else stands there.
    #[error("cannot listen at {path}: something that is not a socket stands there")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket's directory is missing.
    #[error("cannot listen at {path}: the directory {directory} does not exist")]
    NoDirectory {
        /// The socket.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
    /// The system refuses the socket.
    #[error("cannot listen at {path}: {reason}")]
    Unix {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        reason: io::Error,
    },
    /// The system refuses the address.
    #[error("cannot listen at {address}: {reason}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        reason: io::Error,
    },
    /// TLS cannot be spoken.
    #[error("cannot speak TLS: {0}")]
    Tls(#[from] TlsError),
    /// The route table contradicts itself.
    #[error("the route table contradicts itself: {0}")]
    Routes(#[from] matchit::InsertError),
}

/// Everything the API listens at, bound but not yet served.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<Bound>,
    routes: Routes,
}

#[derive(Debug)]
enum Bound {
    Unix(SocketFile, UnixListener, PathBuf),
    Tcp(TcpListener, SocketAddr),
    Tls(TlsListener, SocketAddr),
}

impl Listeners {
    /// Binds every address, or none. TCP speaks TLS if `tls` says with what.
    pub async fn bind(listen: &[Listen], tls: Option<&Tls>) -> Result<Self, BindError> {
        let tls = tls.map(tls::acceptor).transpose()?;
        let mut bound = Vec::with_capacity(listen.len());
        for address in listen {
            bound.push(match address {
                Listen::Unix(path) => {
                    let (file, listener) = SocketFile::bind(path)?;
                    Bound::Unix(file, listener, path.clone())
                }
                Listen::Tcp(address) => {
                    let (listener, address) = bind_tcp(*address).await?;
                    match tls.clone() {
                        Some(acceptor) => Bound::Tls(TlsListener { listener, acceptor }, address),
                        None => Bound::Tcp(listener, address),
                    }
                }
            });
        }
        Ok(Self { bound, routes: Routes::new()? })
    }

    /// Where it really listens: with the ports that were chosen for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<Listen> {
        let address = |bound: &Bound| match bound {
            Bound::Unix(_, _, path) => Listen::Unix(path.clone()),
            Bound::Tcp(_, address) | Bound::Tls(_, address) => Listen::Tcp(*address),
        };
        self.bound.iter().map(address).collect()
    }

    /// Serves until `stop`. Then nothing more is accepted, answers that wait are ended, and the others have `drain` to
    /// end by themselves. The sockets' files are gone when this returns.
    pub async fn serve(self, context: ApiContext, stop: CancellationToken, drain: Duration) {
        let room = Arc::new(Room { api: context, stop: stop.clone(), streams: OpenStreams::default() });
        let routes = Arc::new(self.routes);
        let places = Arc::new(Semaphore::new(limits::MAX_CONNECTIONS));
        let mut listeners = JoinSet::new();
        for bound in self.bound {
            let (room, routes) = (room.clone(), routes.clone());
            let answer = move |request| {
                let (room, routes) = (room.clone(), routes.clone());
                async move { Ok::<Reply, Infallible>(service::answer(room, &routes, request).await) }
            };
            let (places, stop) = (places.clone(), stop.clone());
            listeners.spawn(async move {
                match bound {
                    Bound::Unix(file, listener, _) => {
                        serve_connections(&listener, answer, &places, &stop, drain).await;
                        drop(file);
                    }
                    Bound::Tcp(listener, _) => serve_connections(&listener, answer, &places, &stop, drain).await,
                    Bound::Tls(listener, _) => serve_connections(&listener, answer, &places, &stop, drain).await,
                }
            });
        }
        while listeners.join_next().await.is_some() {}
    }
}

/// Whether an address could be listened on now. A TCP address is bound for a moment; nothing is left behind.
///
/// # Errors
/// As [`Listeners::bind`].
pub async fn try_address(address: &Listen) -> Result<(), BindError> {
    match address {
        Listen::Unix(path) => SocketFile::try_path(path),
        Listen::Tcp(address) => bind_tcp(*address).await.map(drop),
    }
}

/// Binds a TCP address; the real one has the port that was chosen.
pub(super) async fn bind_tcp(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |reason| BindError::Tcp { address, reason };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let real = listener.local_addr().map_err(failed)?;
    Ok((listener, real))
}

/// Something that connections come from.
pub(super) trait Accept: Sync {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one, and what is left to do until it can be used: that waits for the client, and must not keep others
    /// waiting.
    fn next(
        &self,
    ) -> impl Future<Output = io::Result<impl Future<Output = io::Result<Self::Io>> + Send + 'static>> + Send;
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn next(&self) -> io::Result<impl Future<Output = io::Result<UnixStream>> + Send + 'static> {
        self.accept().await.map(|(stream, _)| ready(Ok(stream)))
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;

    /// Small answers are sent at once.
    async fn next(&self) -> io::Result<impl Future<Output = io::Result<TcpStream>> + Send + 'static> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(ready(Ok(stream)))
    }
}

/// A TCP listener that speaks TLS.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsListener").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Accept for TlsListener {
    type Io = TlsStream<TcpStream>;

    async fn next(&self) -> io::Result<impl Future<Output = io::Result<Self::Io>> + Send + 'static> {
        let stream = self.listener.next().await?.await?;
        let handshake = self.acceptor.accept(stream);
        Ok(async { tokio::time::timeout(limits::HEADER_READ_TIMEOUT, handshake).await? })
    }
}

/// Accepts and serves until `stop`, then lets the open connections end within `drain`.
pub(super) async fn serve_connections<Answer, Answering>(
    listener: &impl Accept,
    answer: Answer,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
    drain: Duration,
) where
    Answer: Fn(Request<Incoming>) -> Answering + Clone + Send + Sync + 'static,
    Answering: Future<Output = Served> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok(connecting) => {
                let (answer, stop) = (answer.clone(), stop.clone());
                connections.spawn(async move {
                    match connecting.await {
                        Ok(io) => serve_connection(io, answer, stop).await,
                        // A client without a certificate, or one that does not speak TLS.
                        Err(error) => tracing::debug!(%error, "a connection was not made"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, all_ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests did not end in time and are cut off");
        connections.shutdown().await;
    }
}

async fn serve_connection<Io, Answer, Answering>(io: Io, answer: Answer, stop: CancellationToken)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Answer: Fn(Request<Incoming>) -> Answering + Send + 'static,
    Answering: Future<Output = Served> + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_READ_TIMEOUT)
        .max_headers(limits::MAX_HEADERS)
        .max_buf_size(limits::MAX_HEADER_BYTES)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(io), service_fn(answer))
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that went away, or one that does not speak HTTP: nothing of ours failed.
        tracing::debug!(%error, "a connection ended early");
    }
}
