//! `docker attach`: the container's output over a connection that is taken over. Nothing goes in: what a client types
//! is read and dropped.

use std::future::Future;
use std::io;

use http::{HeaderValue, StatusCode, header};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_rustls::server::TlsStream;

use super::call::Call;
use super::containers;
use super::error::ApiError;
use super::logs::{self, History, Session, Wanted};
use super::patient::{Patient, WritePatience};
use super::reply::{self, Body, Piece, Reply};
use super::{limits, stream, unsupported};
use crate::state::model::Container;

/// Bytes of a client's input that are read and dropped at once.
const INPUT_BYTES: usize = 4 * 1_024;

/// Attaches to the output. Never changes anything: a container that is not running is waited for.
pub(super) async fn attach(mut call: Call) -> Result<Reply, ApiError> {
    if call.is_internal() {
        call.drain().await;
        return Err(unsupported::ATTACH.error());
    }
    let container = containers::read_named(&call).await?;
    let tty = container.spec.config.tty;
    let wanted =
        Wanted { stdout: call.query.flag("stdout"), stderr: call.query.flag("stderr"), bare: tty, ..Wanted::default() };
    let upgrade = match call.upgrade.take() {
        Some(upgrade) => Some((upgrade, place(&call)?)),
        None => None,
    };
    let body = begin(&call, container, wanted).await?;
    match (upgrade, body) {
        (Some((upgrade, place)), Body::Stream(pieces)) => {
            let patience = call.room.taken_over_patience.clone();
            tokio::spawn(async move {
                hand_over(upgrade, pieces, patience).await;
                drop(place);
            });
            Ok(switching(logs::content_type(&call, tty)))
        }
        (_, body) => {
            let mut reply = reply::with_body(StatusCode::OK, stream::RAW, body);
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok(reply)
        }
    }
}

/// A connection that is taken over is not its listener's any more: it needs a place of its own.
fn place(call: &Call) -> Result<OwnedSemaphorePermit, ApiError> {
    call.room.taken_over.clone().try_acquire_owned().map_err(|_| ApiError::TooManyAttached)
}

/// Begins to read. The session notes itself as open before the answer is given, so that a `wait` that comes next
/// already knows of it.
async fn begin(call: &Call, container: Container, wanted: Wanted) -> Result<Body, ApiError> {
    let history = if call.query.flag("logs") { History::Shown } else { History::Skipped };
    let streams = call.query.flag("stream");
    let (writer, body) = reply::streamed();
    if history == History::Skipped && !streams {
        writer.finish().await;
        return Ok(body);
    }
    let was_started = container.spec.starts > 0;
    let mut session = Session::new(&call.room, container, wanted, writer, history);
    if was_started {
        session.begin().await?;
    }
    session.listen();
    tokio::spawn(async move {
        if streams {
            session.attach().await;
        } else {
            session.complete().await;
        }
    });
    Ok(body)
}

/// The answer that ends HTTP on this connection.
fn switching(content_type: &'static str) -> Reply {
    let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    reply.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    reply
}

/// Takes the connection over. The session ends the output, as it does when the daemon is being stopped.
async fn hand_over(upgrade: OnUpgrade, pieces: mpsc::Receiver<Piece>, patience: WritePatience) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "a client did not take its connection over");
            return;
        }
    };
    match upgraded.downcast::<TokioIo<Patient<UnixStream>>>() {
        Ok(parts) => carry(parts.io.into_inner().into_inner(), pieces, patience).await,
        Err(upgraded) => match upgraded.downcast::<TokioIo<Patient<TcpStream>>>() {
            Ok(parts) => carry(parts.io.into_inner().into_inner(), pieces, patience).await,
            Err(upgraded) => match upgraded.downcast::<TokioIo<TlsStream<Patient<TcpStream>>>>() {
                Ok(parts) => {
                    let mut connection = parts.io.into_inner();
                    connection.get_mut().0.set_patience(patience);
                    carry_encrypted(connection, pieces).await;
                }
                Err(_) => tracing::error!("a connection is neither of a Unix socket nor of TCP"),
            },
        },
    }
}

/// A connection that was taken over.
trait Taken: AsyncWrite + Unpin + Send + Sync {
    fn ready(&self, interest: Interest) -> impl Future<Output = io::Result<Ready>> + Send;
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize>;
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

macro_rules! taken {
    ($stream:ty) => {
        impl Taken for $stream {
            fn ready(&self, interest: Interest) -> impl Future<Output = io::Result<Ready>> + Send {
                self.ready(interest)
            }
            fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
                self.try_read(into)
            }
            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }
        }
    };
}
taken!(UnixStream);
taken!(TcpStream);

/// Carries the output to the client until it ends or nobody listens any more, which is also so when the client has taken
/// nothing of a write for as long as `patience` says.
async fn carry(mut connection: impl Taken, mut pieces: mpsc::Receiver<Piece>, patience: WritePatience) {
    let carrying = async {
        while let Some(Piece::Data(bytes)) = pieces.recv().await {
            if send(&connection, &bytes, &patience).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = hung_up(&connection) => {}
        () = carrying => {}
    }
    // Nobody is left to whom a failure of the farewell could matter.
    let _ = connection.shutdown().await;
}

/// The same through TLS. A client that has ended its input and then vanishes is found out by the next write only: TLS
/// has one end of input, and it says nothing of the connection below.
async fn carry_encrypted(connection: TlsStream<Patient<TcpStream>>, mut pieces: mpsc::Receiver<Piece>) {
    let (mut input, mut output) = tokio::io::split(connection);
    let carrying = async {
        while let Some(Piece::Data(bytes)) = pieces.recv().await {
            if output.write_all(&bytes).await.is_err() || output.flush().await.is_err() {
                return;
            }
        }
    };
    let hung_up = async {
        let mut dropped = vec![0; INPUT_BYTES];
        loop {
            match input.read(&mut dropped).await {
                Ok(0) => std::future::pending().await,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = hung_up => {}
        () = carrying => {}
    }
    // Nobody is left to whom a failure of the farewell could matter.
    let _ = output.shutdown().await;
}

async fn send(connection: &impl Taken, mut bytes: &[u8], patience: &WritePatience) -> io::Result<()> {
    while !bytes.is_empty() {
        // Both are cancel-safe.
        tokio::select! {
            ready = connection.ready(Interest::WRITABLE) => drop(ready?),
            () = patience.run_out() => return Err(io::ErrorKind::TimedOut.into()),
        }
        match connection.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns when the client has gone. What it types is dropped. The end of its input is not its end, as clients half-close
/// at once; but whether it still listens must then be looked at, because a silent program never writes to it.
async fn hung_up(connection: &impl Taken) {
    let mut dropped = vec![0; INPUT_BYTES];
    loop {
        if connection.ready(Interest::READABLE).await.is_err() {
            return;
        }
        match connection.try_read(&mut dropped) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    while connection.ready(Interest::WRITABLE).await.is_ok_and(|ready| !ready.is_write_closed()) {
        tokio::time::sleep(limits::HANG_UP_INTERVAL).await;
    }
}

/// The size of a terminal that nobody has: accepted, as clients send it unasked.
pub(super) async fn resize(call: Call) -> Result<Reply, ApiError> {
    if call.is_internal() {
        return Err(unsupported::RESIZE.error());
    }
    containers::named(&call).await?;
    Ok(reply::empty(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    /// A silent program is followed for longer than a write may wait; a client that takes nothing of a write is left.
    #[tokio::test]
    async fn idle_client_stays_and_one_that_never_reads_does_not() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let (pieces, receiver) = mpsc::channel(1);
        let patience = WritePatience::new(PATIENCE, Arc::new(Semaphore::new(0)), 1);
        let mut carrying = tokio::spawn(carry(server, receiver, patience));
        assert!(tokio::time::timeout(PATIENCE * 3, &mut carrying).await.is_err(), "nothing is to be written");
        pieces.send(Piece::Data(Bytes::from_static(b"x"))).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
        let much = Bytes::from(vec![b'y'; 16 << 20]);
        pieces.send(Piece::Data(much)).await.unwrap();
        carrying.await.unwrap();
        assert!(pieces.is_closed());
    }
}
