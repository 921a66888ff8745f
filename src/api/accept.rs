//! How connections come in on each kind of listener.

use std::future::Future;
use std::io::{self, BufRead as _};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

use super::limits;
use super::patient::{Patient, WritePatience};
use super::tls::Credentials;

/// Something that connections come from.
pub(super) trait Accept: Sync {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one, and what is left to do until it can be used: the handshake, and the wait for its first byte. That waits
    /// for the client, and must not keep others waiting. A write on it waits as `write` says.
    fn next(
        &self,
        write: WritePatience,
    ) -> impl Future<Output = io::Result<impl Future<Output = io::Result<Self::Io>> + Send + 'static>> + Send;
}

impl Accept for UnixListener {
    type Io = Patient<UnixStream>;

    async fn next(
        &self,
        write: WritePatience,
    ) -> io::Result<impl Future<Output = io::Result<Self::Io>> + Send + 'static> {
        let (stream, _) = self.accept().await?;
        Ok(async move {
            stream.async_io(Interest::READABLE, || peek(&stream)).await?;
            Ok(Patient::new(stream, write))
        })
    }
}

impl Accept for TcpListener {
    type Io = Patient<TcpStream>;

    /// Small answers are sent at once, and a client that vanished without a word is found out.
    async fn next(
        &self,
        write: WritePatience,
    ) -> io::Result<impl Future<Output = io::Result<Self::Io>> + Send + 'static> {
        let (stream, _) = self.accept().await?;
        // These fail if the client has closed the connection; serving it finds that out.
        let _ = stream.set_nodelay(true);
        let _ = keep_alive(&stream);
        let _ = bound_send_buffer(&stream);
        Ok(async move {
            stream.async_io(Interest::READABLE, || peek(&stream)).await?;
            Ok(Patient::new(stream, write))
        })
    }
}

/// A TCP listener that speaks TLS.
pub(super) struct TlsListener {
    pub(super) listener: TcpListener,
    pub(super) credentials: Arc<Credentials>,
}

impl std::fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsListener").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Accept for TlsListener {
    type Io = TlsStream<Patient<TcpStream>>;

    async fn next(
        &self,
        write: WritePatience,
    ) -> io::Result<impl Future<Output = io::Result<Self::Io>> + Send + 'static> {
        let arriving = self.listener.next(write).await?;
        let acceptor = self.credentials.acceptor();
        Ok(async move {
            let mut stream = acceptor.accept(arriving.await?).await?;
            // The first request may have come together with the end of the handshake.
            if !has_plaintext(&mut stream) {
                let socket = stream.get_ref().0.get_ref();
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
fn has_plaintext(stream: &mut TlsStream<Patient<TcpStream>>) -> bool {
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

fn bound_send_buffer(stream: &TcpStream) -> nix::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(stream, sockopt::SndBuf, &limits::SEND_BUFFER_BYTES)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{getsockopt, sockopt};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::api::listeners::bind_tcp;

    const PATIENCE: Duration = Duration::from_millis(200);

    /// Longer than anything here takes.
    fn patience() -> WritePatience {
        WritePatience::new(Duration::from_secs(60), Arc::new(Semaphore::new(0)), 1)
    }

    #[tokio::test]
    async fn a_vanished_tcp_client_is_found_out() {
        let (listener, address) = bind_tcp((std::net::Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), Accept::next(&listener, patience()));
        let mut client = client.unwrap();
        client.write_all(b"G").await.unwrap();
        let accepted = accepted.unwrap().await.unwrap();
        let accepted = accepted.get_ref();
        assert!(getsockopt(&accepted, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepIdle).unwrap(), 30);
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepInterval).unwrap(), 10);
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepCount).unwrap(), 3);
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
        let (arriving, local_arriving) =
            (Accept::next(&listener, patience()).await.unwrap(), Accept::next(&local, patience()).await.unwrap());
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
}
