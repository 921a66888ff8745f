//! Where the API listens, and the life of a connection.

use std::convert::Infallible;
use std::io::{self, BufRead as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::ApiContext;
use super::call::Room;
use super::limits;
use super::origin::Entrance;
use super::reply::{Reply, Served};
use super::routes::Routes;
use super::service;
use super::socket::SocketFile;
use super::tls::{Credentials, TlsError};
use crate::config::{Listen, Tls};
use crate::open_files;

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
    tls: Option<Arc<Credentials>>,
    routes: Routes,
}

#[derive(Debug)]
enum Bound {
    Unix(SocketFile, UnixListener, PathBuf),
    Tcp(TcpListener, SocketAddr),
    Tls(TlsListener, SocketAddr),
}

/// How many connections a listener may have at once.
pub(super) struct Places {
    /// Of those that are made and have not sent anything yet, TLS included.
    arriving: Arc<Semaphore>,
    /// Of those that are served.
    served: Arc<Semaphore>,
    /// How long a connection may be arriving.
    arrival_timeout: Duration,
}

impl Places {
    /// This many of each kind.
    pub(super) fn new(arriving: usize, served: usize) -> Self {
        Self {
            arriving: Arc::new(Semaphore::new(arriving)),
            served: Arc::new(Semaphore::new(served)),
            arrival_timeout: limits::ARRIVAL_TIMEOUT,
        }
    }

    /// One part of `all` for those that arrive, and the rest for those that are served.
    fn of(all: usize) -> Self {
        let arriving = (all / limits::ARRIVING_SHARE).max(1);
        Self::new(arriving, all.saturating_sub(arriving).max(1))
    }
}

impl Bound {
    fn entrance(&self) -> Entrance {
        match self {
            Self::Unix(..) => Entrance::Socket,
            Self::Tcp(_, address) => Entrance::tcp(*address, false),
            Self::Tls(_, address) => Entrance::tcp(*address, true),
        }
    }
}

impl Listeners {
    /// Binds every address, or none. TCP speaks TLS if `tls` says with what.
    pub async fn bind(listen: &[Listen], tls: Option<&Tls>) -> Result<Self, BindError> {
        let tls = tls.map(Credentials::load).transpose()?.map(Arc::new);
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
                        Some(credentials) => Bound::Tls(TlsListener { listener, credentials }, address),
                        None => Bound::Tcp(listener, address),
                    }
                }
            });
        }
        Ok(Self { bound, tls, routes: Routes::new()? })
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
        let routes = Arc::new(self.routes);
        // One share more: connections that are taken over leave their listener's table.
        let places = places(self.bound.len() + 1);
        tracing::debug!(places, "connections at once on each listener");
        let room = Arc::new(Room::new(context, stop.clone(), places));
        let mut listeners = JoinSet::new();
        if let Some(credentials) = self.tls {
            listeners.spawn(credentials.keep_current(stop.clone()));
        }
        for bound in self.bound {
            let (room, routes, entrance) = (room.clone(), routes.clone(), bound.entrance());
            let answer = move |request| {
                let (room, routes) = (room.clone(), routes.clone());
                async move { Ok::<Reply, Infallible>(service::answer(room, &routes, entrance, request).await) }
            };
            let (places, stop) = (Places::of(places), stop.clone());
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

/// Connections at once for each of so many that share them: as many as are allowed, and as the open files allow.
fn places(sharing: usize) -> usize {
    let files = open_files::limit().saturating_sub(limits::RESERVED_FILES);
    (files / sharing.max(1)).clamp(limits::MIN_CONNECTIONS, limits::MAX_CONNECTIONS)
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

    /// The next one, and what is left to do until it can be used: the handshake, and the wait for its first byte. That waits
    /// for the client, and must not keep others waiting.
    fn next(
        &self,
    ) -> impl Future<Output = io::Result<impl Future<Output = io::Result<Self::Io>> + Send + 'static>> + Send;
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn next(&self) -> io::Result<impl Future<Output = io::Result<UnixStream>> + Send + 'static> {
        let (stream, _) = self.accept().await?;
        Ok(async move {
            stream.async_io(Interest::READABLE, || peek(&stream)).await?;
            Ok(stream)
        })
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;

    /// Small answers are sent at once, and a client that vanished without a word is found out.
    async fn next(&self) -> io::Result<impl Future<Output = io::Result<TcpStream>> + Send + 'static> {
        let (stream, _) = self.accept().await?;
        // A client that has gone meanwhile is met by whoever serves it.
        let _ = stream.set_nodelay(true);
        let _ = keep_alive(&stream);
        Ok(async move {
            stream.async_io(Interest::READABLE, || peek(&stream)).await?;
            Ok(stream)
        })
    }
}

/// A TCP listener that speaks TLS.
struct TlsListener {
    listener: TcpListener,
    credentials: Arc<Credentials>,
}

impl std::fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsListener").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Accept for TlsListener {
    type Io = TlsStream<TcpStream>;

    async fn next(&self) -> io::Result<impl Future<Output = io::Result<Self::Io>> + Send + 'static> {
        let arriving = self.listener.next().await?;
        let acceptor = self.credentials.acceptor();
        Ok(async move {
            let mut stream = acceptor.accept(arriving.await?).await?;
            // The first request may have come together with the end of the handshake.
            if !has_plaintext(&mut stream) {
                let socket = stream.get_ref().0;
                socket.async_io(Interest::READABLE, || peek(socket)).await?;
            }
            Ok(stream)
        })
    }
}

/// Fails until something was received, or the other side has closed. That a socket is readable is not enough: it may be said
/// too early.
fn peek(socket: &impl AsRawFd) -> io::Result<()> {
    use nix::sys::socket::{MsgFlags, recv};
    recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)?;
    Ok(())
}

/// Whether something was decrypted that nobody has read yet.
fn has_plaintext(stream: &mut TlsStream<TcpStream>) -> bool {
    stream.get_mut().1.reader().fill_buf().is_ok()
}

fn keep_alive(stream: &TcpStream) -> nix::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(limits::KEEP_ALIVE_IDLE))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &seconds(limits::KEEP_ALIVE_INTERVAL))?;
    setsockopt(stream, sockopt::TcpKeepCount, &limits::KEEP_ALIVE_PROBES)?;
    setsockopt(stream, sockopt::KeepAlive, &true)
}

/// Accepts and serves until `stop`, then lets the open connections end within `drain`.
pub(super) async fn serve_connections<Answer, Answering>(
    listener: &impl Accept,
    answer: Answer,
    places: &Places,
    stop: &CancellationToken,
    drain: Duration,
) where
    Answer: Fn(Request<Incoming>) -> Answering + Clone + Send + Sync + 'static,
    Answering: Future<Output = Served> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let arriving = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            arriving = places.arriving.clone().acquire_owned() => arriving,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok(connecting) => {
                let (answer, stop, served) = (answer.clone(), stop.clone(), places.served.clone());
                let timeout = places.arrival_timeout;
                connections.spawn(async move {
                    let Some((io, place)) = arrive(connecting, timeout, served, &stop).await else { return };
                    drop(arriving);
                    serve_connection(io, answer, stop, limits::HEADER_READ_TIMEOUT).await;
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

/// Waits until a connection can be served: until it has sent something, and there is a place for it. `None`: it did not come
/// that far, or the daemon is being stopped.
async fn arrive<Io>(
    connecting: impl Future<Output = io::Result<Io>>,
    timeout: Duration,
    served: Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(Io, OwnedSemaphorePermit)> {
    let arriving = async {
        match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok(io)) => Some((io, served.acquire_owned().await.ok()?)),
            // A client without a certificate, or one that does not speak TLS.
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection was not made");
                None
            }
            Err(_) => {
                tracing::debug!("a connection has sent nothing in time");
                None
            }
        }
    };
    // Cancel-safe: a connection that is not served yet is closed.
    tokio::select! {
        () = stop.cancelled() => None,
        arrived = arriving => arrived,
    }
}

/// `patience`: from the moment a request could come until its head is complete.
async fn serve_connection<Io, Answer, Answering>(io: Io, answer: Answer, stop: CancellationToken, patience: Duration)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Answer: Fn(Request<Incoming>) -> Answering + Send + 'static,
    Answering: Future<Output = Served> + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
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

#[cfg(test)]
mod tests {
    use nix::sys::socket::{getsockopt, sockopt};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);
    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    /// A connection whose requests are all answered at once.
    fn connection() -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(64);
        let answer = |_| async { Ok(crate::api::reply::empty(http::StatusCode::NO_CONTENT)) };
        (client, tokio::spawn(serve_connection(server, answer, CancellationToken::new(), PATIENCE)))
    }

    /// A head that never becomes complete, and none at all: both end the connection, also after a first request.
    #[tokio::test]
    async fn who_is_slow_with_a_head_is_not_waited_for() {
        for begins in ["", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"] {
            let (mut client, served) = connection();
            client.write_all(begins.as_bytes()).await.unwrap();
            let dripping = async {
                // Until nobody takes the drops any more.
                while client.write_all(b"x").await.is_ok() {
                    let mut answer = [0; 512];
                    let _ = tokio::time::timeout(PATIENCE / 20, client.read(&mut answer)).await;
                }
            };
            if begins.ends_with("Slow: ") {
                dripping.await;
            }
            served.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_vanished_tcp_client_is_found_out() {
        let (listener, address) = bind_tcp((std::net::Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), Accept::next(&listener));
        let mut client = client.unwrap();
        client.write_all(b"G").await.unwrap();
        let accepted = accepted.unwrap().await.unwrap();
        assert!(getsockopt(&accepted, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepIdle).unwrap(), 30);
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepInterval).unwrap(), 10);
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepCount).unwrap(), 3);
    }

    /// Gives these connections in turn; `None`: one that never finishes its handshake.
    struct Scripted(tokio::sync::Mutex<std::collections::VecDeque<Option<DuplexStream>>>);

    impl Accept for Scripted {
        type Io = DuplexStream;

        async fn next(&self) -> io::Result<impl Future<Output = io::Result<DuplexStream>> + Send + 'static> {
            let next = self.0.lock().await.pop_front();
            let Some(connection) = next else { return std::future::pending().await };
            Ok(async {
                match connection {
                    Some(io) => Ok(io),
                    None => std::future::pending().await,
                }
            })
        }
    }

    async fn asked(mut client: DuplexStream) -> String {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Two handshakes that stall, and places for one arriving and one served connection: who comes third waits for the
    /// time-out of the first two, and no longer.
    #[tokio::test]
    async fn connection_that_stalls_in_its_handshake_frees_its_place() {
        let (client, server) = tokio::io::duplex(512);
        let listener = Scripted(tokio::sync::Mutex::new([None, None, Some(server)].into()));
        let answer = |_| async { Ok(crate::api::reply::empty(http::StatusCode::NO_CONTENT)) };
        let places = Places { arrival_timeout: PATIENCE, ..Places::new(1, 1) };
        let stop = CancellationToken::new();
        let serving = serve_connections(&listener, answer, &places, &stop, PATIENCE);
        let asking = async {
            let answer = tokio::time::timeout(LONG, asked(client)).await;
            stop.cancel();
            answer
        };
        let ((), answer) = tokio::join!(serving, asking);
        assert!(answer.unwrap().starts_with("HTTP/1.1 204 "));
    }

    /// All places of served connections are free while others stall in their handshakes.
    #[tokio::test]
    async fn handshakes_take_no_place_of_served_connections() {
        let (client, server) = tokio::io::duplex(512);
        let listener = Scripted(tokio::sync::Mutex::new([None, None, Some(server)].into()));
        let answer = |_| async { Ok(crate::api::reply::empty(http::StatusCode::NO_CONTENT)) };
        let places = Places { arrival_timeout: LONG, ..Places::new(3, 1) };
        let stop = CancellationToken::new();
        let serving = serve_connections(&listener, answer, &places, &stop, PATIENCE);
        let asking = async {
            let answer = tokio::time::timeout(LONG, asked(client)).await;
            stop.cancel();
            answer
        };
        let ((), answer) = tokio::join!(serving, asking);
        assert!(answer.unwrap().starts_with("HTTP/1.1 204 "));
    }

    /// On both kinds of socket, whatever the system says of one that has received nothing.
    #[tokio::test]
    async fn connection_that_sends_nothing_does_not_arrive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.sock");
        let local = UnixListener::bind(&path).unwrap();
        let (listener, address) = bind_tcp((std::net::Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let (mut client, mut local_client) =
            (TcpStream::connect(address).await.unwrap(), UnixStream::connect(&path).await.unwrap());
        let (arriving, local_arriving) = (Accept::next(&listener).await.unwrap(), Accept::next(&local).await.unwrap());
        tokio::pin!(arriving, local_arriving);
        assert!(tokio::time::timeout(PATIENCE, &mut arriving).await.is_err());
        assert!(tokio::time::timeout(PATIENCE, &mut local_arriving).await.is_err());
        client.write_all(b"G").await.unwrap();
        local_client.write_all(b"G").await.unwrap();
        let (mut arrived, mut local_arrived) = (arriving.await.unwrap(), local_arriving.await.unwrap());
        let mut first = [0; 2];
        arrived.read_exact(&mut first[..1]).await.unwrap();
        local_arrived.read_exact(&mut first[1..]).await.unwrap();
        assert_eq!(&first, b"GG", "nothing is lost");
    }

    #[test]
    fn every_listener_has_its_own_places() {
        assert!(places(1) >= places(2) && places(2) >= limits::MIN_CONNECTIONS);
        assert_eq!(places(usize::MAX), limits::MIN_CONNECTIONS);
    }
}
