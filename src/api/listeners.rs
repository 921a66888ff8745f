//! Where the API listens, and the life of a connection.

use std::convert::Infallible;
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
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ApiContext;
use super::accept::{Accept, TlsListener};
use super::call::Room;
use super::limits;
use super::origin::Entrance;
use super::patient::WritePatience;
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

/// How many connections a listener may have at once, and for how long each may hold its place without any progress.
pub(super) struct Places {
    /// Of those that are made and have not sent anything yet, TLS included.
    arriving: Arc<Semaphore>,
    /// Of those that are served.
    served: Arc<Semaphore>,
    patience: Patience,
    write: WritePatience,
}

/// How long a listener waits for its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a connection that is arriving: until its handshake is done and its first byte is there.
    pub(super) arrival: Duration,
    /// For a request's head, from the moment when it could come.
    pub(super) head: Duration,
    /// For a client that takes nothing of what is written, while places are short.
    pub(super) write: Duration,
    /// Whether a connection may take another request after the first one.
    pub(super) keep_alive: bool,
}

impl Patience {
    /// With clients of the API.
    pub(super) const API: Self = Self {
        arrival: limits::ARRIVAL_TIMEOUT,
        head: limits::HEADER_READ_TIMEOUT,
        write: limits::WRITE_TIMEOUT,
        keep_alive: true,
    };
    /// With clients of the metrics' listener, which has few places: one request on each connection.
    pub(super) const METRICS: Self = Self {
        arrival: limits::ARRIVAL_TIMEOUT,
        head: limits::METRICS_HEADER_READ_TIMEOUT,
        write: limits::METRICS_WRITE_TIMEOUT,
        keep_alive: false,
    };
}

impl Places {
    /// This many of each kind.
    pub(super) fn new(arriving: usize, served: usize, patience: Patience) -> Self {
        let (arriving, places) = (Arc::new(Semaphore::new(arriving)), Arc::new(Semaphore::new(served)));
        let write = WritePatience::new(patience.write, places.clone(), served);
        Self { arriving, served: places, patience, write }
    }

    /// One part of `all` for those that arrive, and the rest for those that are served.
    fn of(all: usize) -> Self {
        let arriving = (all / limits::ARRIVING_SHARE).max(1);
        Self::new(arriving, all.saturating_sub(arriving).max(1), Patience::API)
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
            accepted = listener.next(places.write.clone()) => accepted,
        };
        match accepted {
            Ok(connecting) => {
                let (answer, stop, served) = (answer.clone(), stop.clone(), places.served.clone());
                let patience = places.patience;
                connections.spawn(async move {
                    let Some((io, place)) = arrive(connecting, patience.arrival, served, &stop).await else { return };
                    drop(arriving);
                    serve_connection(io, answer, stop, patience).await;
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

async fn serve_connection<Io, Answer, Answering>(io: Io, answer: Answer, stop: CancellationToken, patience: Patience)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Answer: Fn(Request<Incoming>) -> Answering + Send + 'static,
    Answering: Future<Output = Served> + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .keep_alive(patience.keep_alive)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::net::{TcpStream, UnixStream};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);
    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);
    const QUICK: Patience = Patience { arrival: PATIENCE, head: PATIENCE, write: PATIENCE, keep_alive: true };
    const PATIENT: Patience = Patience { arrival: LONG, head: LONG, write: LONG, keep_alive: true };

    /// A connection whose requests are all answered at once.
    fn connection() -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(64);
        let answer = |_| async { Ok(crate::api::reply::empty(http::StatusCode::NO_CONTENT)) };
        (client, tokio::spawn(serve_connection(server, answer, CancellationToken::new(), QUICK)))
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

    /// Gives these connections in turn; `None`: one that never finishes its handshake.
    struct Scripted(tokio::sync::Mutex<std::collections::VecDeque<Option<DuplexStream>>>);

    impl Accept for Scripted {
        type Io = DuplexStream;

        async fn next(
            &self,
            _: WritePatience,
        ) -> io::Result<impl Future<Output = io::Result<DuplexStream>> + Send + 'static> {
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
        let places = Places::new(1, 1, Patience { arrival: PATIENCE, ..PATIENT });
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
        let places = Places::new(3, 1, PATIENT);
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

    /// More than the buffers of both ends of a socket hold.
    const MUCH: usize = 64 << 20;

    /// Asks for an answer that is more than any buffer holds, and reads nothing of it.
    async fn ask_for_much(mut client: impl AsyncWrite + Unpin) -> impl AsyncWrite + Unpin {
        client.write_all(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        client
    }

    async fn much(request: Request<Incoming>) -> Served {
        let bytes = if request.uri().path() == "/much" { MUCH } else { 1 };
        Ok(crate::api::reply::text(http::StatusCode::OK, "text/plain", vec![b'x'; bytes]))
    }

    /// The only place is held by a client that never reads its answer: the next one waits for the time-out, and no longer.
    #[tokio::test]
    async fn client_that_never_reads_frees_its_place_on_both_kinds_of_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.sock");
        let local = UnixListener::bind(&path).unwrap();
        let (listener, address) = bind_tcp((std::net::Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let places = [(); 2].map(|()| Places::new(2, 1, Patience { write: PATIENCE, ..PATIENT }));
        let stop = CancellationToken::new();
        let asking = async {
            let silent = ask_for_much(TcpStream::connect(address).await.unwrap()).await;
            let local_silent = ask_for_much(UnixStream::connect(&path).await.unwrap()).await;
            let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let (mut answer, mut local_answer) = (String::new(), String::new());
            let answers = async {
                let mut client = TcpStream::connect(address).await.unwrap();
                client.write_all(request).await.unwrap();
                client.read_to_string(&mut answer).await.unwrap();
                let mut client = UnixStream::connect(&path).await.unwrap();
                client.write_all(request).await.unwrap();
                client.read_to_string(&mut local_answer).await.unwrap();
            };
            let answered = tokio::time::timeout(LONG, answers).await;
            stop.cancel();
            drop((silent, local_silent));
            answered.unwrap();
            assert!(answer.ends_with('x') && local_answer.ends_with('x'));
        };
        tokio::join!(
            serve_connections(&listener, much, &places[0], &stop, PATIENCE),
            serve_connections(&local, much, &places[1], &stop, PATIENCE),
            asking
        );
    }

    /// The metrics' listener: an answer ends the connection, so that nobody holds a place between two requests.
    #[tokio::test]
    async fn connection_without_keep_alive_ends_with_its_answer() {
        let (mut client, server) = tokio::io::duplex(4_096);
        let answer = |_| async { Ok(crate::api::reply::empty(http::StatusCode::NO_CONTENT)) };
        let patience = Patience { keep_alive: Patience::METRICS.keep_alive, ..PATIENT };
        let served = tokio::spawn(serve_connection(server, answer, CancellationToken::new(), patience));
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.matches("HTTP/1.1 204 ").count(), 1, "{answer}");
        served.await.unwrap();
    }

    #[test]
    fn every_listener_has_its_own_places() {
        assert!(places(1) >= places(2) && places(2) >= limits::MIN_CONNECTIONS);
        assert_eq!(places(usize::MAX), limits::MIN_CONNECTIONS);
    }
}
