//! A session as the listener that `wait` and `events` wait for.
//!
//! # Guarantees
//! - While a client takes what is sent, its session counts as open.
//! - It no longer does once one send has waited for as long as `wait` would; it does again when the client has taken that.
//! - While the daemon is being stopped, no send waits longer than [`limits::SEND_WHILE_STOPPING`].

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::limits;
use super::super::open_streams::{OpenStream, OpenStreams};
use super::super::reply::Gone;
use crate::state::model::ContainerId;

/// Whether a session counts as open, and its sends.
pub(super) struct Listening {
    streams: OpenStreams,
    /// The daemon is being stopped.
    stop: CancellationToken,
    id: ContainerId,
    /// Whether others wait for this session at all.
    counts: bool,
    open: Option<OpenStream>,
    /// How long others wait.
    longest: Duration,
}

impl Listening {
    /// Of a session that nobody waits for.
    pub(super) fn new(streams: &OpenStreams, stop: &CancellationToken, id: ContainerId) -> Self {
        Self {
            streams: streams.clone(),
            stop: stop.clone(),
            id,
            counts: false,
            open: None,
            longest: limits::STREAMS_BEFORE_WAIT,
        }
    }

    /// From now on the session counts.
    pub(super) fn begin(&mut self) {
        self.counts = true;
        self.open_again();
    }

    fn open_again(&mut self) {
        if self.counts && self.open.is_none() {
            self.open = Some(self.streams.open(self.id));
        }
    }

    /// Waits for a send to the client.
    pub(super) async fn send(&mut self, send: impl Future<Output = Result<(), Gone>>) -> Result<(), Gone> {
        let Self { stop, open, longest, .. } = self;
        let sent = {
            let is_stopping = async {
                stop.cancelled().await;
                tokio::time::sleep(limits::SEND_WHILE_STOPPING).await;
            };
            let is_paused = tokio::time::sleep(*longest);
            tokio::pin!(send, is_stopping, is_paused);
            loop {
                tokio::select! {
                    // Most sends need no wait: nothing else is looked at then.
                    biased;
                    sent = &mut send => break sent,
                    () = &mut is_paused, if open.is_some() => *open = None,
                    () = &mut is_stopping => return Err(Gone),
                }
            }
        };
        self.open_again();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reply::{self, Body};

    async fn fill(writer: &reply::Writer) {
        for _ in 0..limits::STREAM_QUEUE {
            writer.send("x").await.unwrap();
        }
    }

    #[tokio::test]
    async fn paused_reader_is_not_waited_for_until_it_reads_again() {
        let (streams, id) = (OpenStreams::default(), ContainerId::from_bytes([1; 32]));
        let listening = Listening::new(&streams, &CancellationToken::new(), id);
        let mut listening = Listening { longest: Duration::from_millis(20), ..listening };
        listening.begin();
        let (writer, Body::Stream(mut pieces)) = reply::streamed() else { panic!("a stream") };
        fill(&writer).await;
        assert!(streams.is_open(&id));
        {
            let send = listening.send(writer.send("last"));
            tokio::pin!(send);
            tokio::select! {
                _ = &mut send => panic!("nobody reads"),
                () = streams.all_closed(&id) => {}
            }
            pieces.recv().await.unwrap();
            send.await.unwrap();
        }
        assert!(streams.is_open(&id));
        drop(listening);
        assert!(!streams.is_open(&id));
    }

    #[tokio::test]
    async fn paused_reader_does_not_hold_a_shutdown_up() {
        let stop = CancellationToken::new();
        let mut listening = Listening::new(&OpenStreams::default(), &stop, ContainerId::from_bytes([1; 32]));
        let (writer, body) = reply::streamed();
        fill(&writer).await;
        stop.cancel();
        assert_eq!(listening.send(writer.send("last")).await, Err(Gone));
        drop(body);
    }
}
