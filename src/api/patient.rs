//! A connection that does not wait for ever for a client that takes nothing.
//!
//! # Guarantees
//! - A write fails once the system has taken no byte of it for the whole patience. Every byte that is taken begins the
//!   patience anew, so that a slow reader is served to its end.
//! - A connection on which nothing is to be written is not touched: a follower of a silent program stays for hours.
//!
//! # Caveats
//! - The system takes bytes again when a part of its buffer is free: a reader must take so much within the patience
//!   ([`limits::SEND_BUFFER_BYTES`]).

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

#[cfg(doc)]
use super::limits;

/// A connection, and how long a write on it may wait.
#[derive(Debug)]
pub(super) struct Patient<Io> {
    io: Io,
    patience: Duration,
    /// The end of the patience of the write that waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<Io> Patient<Io> {
    pub(super) fn new(io: Io, patience: Duration) -> Self {
        Self { io, patience, waiting: None }
    }

    pub(super) fn get_ref(&self) -> &Io {
        &self.io
    }

    pub(super) fn into_inner(self) -> Io {
        self.io
    }

    /// Passes a result of the connection on, and a failure instead of one that has been waited for too long.
    fn within_patience<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of what is written")))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Patient<Io> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, into)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Patient<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.within_patience(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, parts);
        this.within_patience(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.within_patience(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.io).poll_shutdown(cx);
        this.within_patience(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn client_that_takes_nothing_fails_the_write() {
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = Patient::new(server, Duration::from_millis(50));
        let failed = server.write_all(&[7; 9]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        let mut taken = [0; 8];
        client.read_exact(&mut taken).await.unwrap();
        assert_eq!(taken, [7; 8], "what was taken before is there");
    }

    /// Sixty pauses, each a small part of the patience, and together longer than it.
    #[tokio::test]
    async fn slow_reader_is_served_to_its_end() {
        let (mut client, server) = tokio::io::duplex(1);
        let mut server = Patient::new(server, Duration::from_secs(1));
        let writing = async { server.write_all(&[7; 60]).await };
        let reading = async {
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert_eq!(client.read_u8().await.unwrap(), 7);
            }
        };
        let (written, ()) = tokio::join!(writing, reading);
        written.unwrap();
    }

    #[tokio::test]
    async fn silent_connection_is_not_touched() {
        let (mut client, server) = tokio::io::duplex(8);
        let patience = Duration::from_millis(10);
        let mut server = Patient::new(server, patience);
        server.write_all(b"a").await.unwrap();
        assert!(tokio::time::timeout(patience * 5, server.read_u8()).await.is_err());
        server.write_all(b"b").await.unwrap();
        let mut both = [0; 2];
        client.read_exact(&mut both).await.unwrap();
        assert_eq!(&both, b"ab");
    }
}
