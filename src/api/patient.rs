//! A connection that does not wait for a client that takes nothing when others need its place.
//!
//! # Guarantees
//! - A write fails once the system has taken no byte of it for the whole patience, and more than half of the places are
//!   taken. Every byte that is taken begins the patience anew, so that a slow reader is served to its end.
//! - While half of the places are free, a paused reader keeps its own, however long it pauses.
//! - A connection on which nothing is to be written is not touched: a follower of a silent program stays for hours.
//!
//! # Caveats
//! - The system takes bytes again when a part of its buffer is free: a reader must take so much within the patience
//!   ([`limits::SEND_BUFFER_BYTES`]).

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::time::Sleep;

use super::limits;

/// How long a write may wait for its client, and for whose sake it waits no longer.
#[derive(Clone, Debug)]
pub(super) struct WritePatience {
    longest: Duration,
    /// The places of the connections that have this patience.
    places: Arc<Semaphore>,
    /// Half of them.
    enough: usize,
}

impl WritePatience {
    /// With connections that hold these places; `all` is their number.
    pub(super) fn new(longest: Duration, places: Arc<Semaphore>, all: usize) -> Self {
        Self { longest, places, enough: all.div_ceil(2) }
    }

    fn are_places_short(&self) -> bool {
        self.places.available_permits() < self.enough
    }

    /// Until it is looked at again whether the places are short.
    fn interval(&self) -> Duration {
        limits::STALLED_WRITE_INTERVAL.min(self.longest)
    }

    /// Returns when a write that begins now has waited long enough. Cancel-safe.
    pub(super) async fn run_out(&self) {
        tokio::time::sleep(self.longest).await;
        while !self.are_places_short() {
            tokio::time::sleep(self.interval()).await;
        }
    }
}

/// A connection, and how long a write on it may wait.
#[derive(Debug)]
pub(super) struct Patient<Io> {
    io: Io,
    patience: WritePatience,
    /// The end of the patience of the write that waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<Io> Patient<Io> {
    pub(super) fn new(io: Io, patience: WritePatience) -> Self {
        Self { io, patience, waiting: None }
    }

    /// The connection holds a place of another kind now.
    pub(super) fn set_patience(&mut self, patience: WritePatience) {
        self.patience = patience;
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
        let longest = self.patience.longest;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(longest)));
        ready!(waiting.as_mut().poll(cx));
        while !self.patience.are_places_short() {
            let waiting = self.waiting.insert(Box::pin(tokio::time::sleep(self.patience.interval())));
            ready!(waiting.as_mut().poll(cx));
        }
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

    /// Of this many places, this many are free.
    fn patience(longest: Duration, free: usize, all: usize) -> WritePatience {
        WritePatience::new(longest, Arc::new(Semaphore::new(free)), all)
    }

    #[test]
    fn places_are_short_when_more_than_half_are_taken() {
        for (free, all, short) in
            [(0, 1, true), (1, 1, false), (1, 2, false), (0, 2, true), (2, 3, false), (1, 3, true)]
        {
            assert_eq!(patience(Duration::ZERO, free, all).are_places_short(), short, "{free} of {all}");
        }
    }

    #[tokio::test]
    async fn paused_reader_keeps_its_place_until_others_need_it() {
        let (mut client, server) = tokio::io::duplex(8);
        let patience = patience(Duration::from_millis(20), 2, 3);
        let places = patience.places.clone();
        let mut server = Patient::new(server, patience.clone());
        {
            let mut writing = Box::pin(server.write_all(&[7; 9]));
            assert!(tokio::time::timeout(Duration::from_millis(200), &mut writing).await.is_err());
            let _taken = places.acquire().await.unwrap();
            assert_eq!(writing.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            patience.run_out().await;
        }
        let mut taken = [0; 8];
        client.read_exact(&mut taken).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), patience.run_out()).await.is_err());
    }

    #[tokio::test]
    async fn client_that_takes_nothing_fails_the_write() {
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = Patient::new(server, patience(Duration::from_millis(50), 0, 1));
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
        let mut server = Patient::new(server, patience(Duration::from_secs(1), 0, 1));
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
        let longest = Duration::from_millis(10);
        let mut server = Patient::new(server, patience(longest, 0, 1));
        server.write_all(b"a").await.unwrap();
        assert!(tokio::time::timeout(longest * 5, server.read_u8()).await.is_err());
        server.write_all(b"b").await.unwrap();
        let mut both = [0; 2];
        client.read_exact(&mut both).await.unwrap();
        assert_eq!(&both, b"ab");
    }
}
