//! A session as the listener that `wait` and `events` wait for.
//!
//! # Guarantees
//! - While a client takes what is sent, its session counts as open.
//! - It no longer does once one send has waited for as long as `wait` would; it does again when the client has taken that.
//! - While the daemon is being stopped, no send waits longer than [`limits::SEND_WHILE_STOPPING`].
//! - What a session holds is limited with that of all others ([`limits::MAX_LOG_MEMORY`]). One whose client does not take what is
//!   sent ends when others wait for its memory.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::call::Room;
use super::super::limits;
use super::super::open_streams::{OpenStream, OpenStreams};
use super::super::reply::Gone;
use super::super::shares::Share;
use crate::state::model::ContainerId;

/// Whether a session counts as open, what it holds, and its sends.
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
    memory: Share,
}

impl Listening {
    /// Of a session that nobody waits for.
    pub(super) fn new(room: &Room, id: ContainerId) -> Self {
        Self::of(&room.streams, &room.stop, room.log_memory.begin(false), id)
    }

    fn of(streams: &OpenStreams, stop: &CancellationToken, memory: Share, id: ContainerId) -> Self {
        Self {
            streams: streams.clone(),
            stop: stop.clone(),
            memory,
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

    /// Waits until the session may hold as much of the log: these bytes in all.
    pub(super) async fn hold(&self, bytes: usize) -> Result<(), Gone> {
        self.memory.hold(bytes).await.map_err(|_| Gone)
    }

    /// Waits for a send to the client.
    pub(super) async fn send(&mut self, send: impl Future<Output = Result<(), Gone>>) -> Result<(), Gone> {
        let Self { stop, open, longest, memory, id, .. } = self;
        let mut owes = false;
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
                    () = std::future::ready(()), if !owes => {
                        owes = true;
                        memory.set_owes(true);
                    }
                    () = memory.given_up() => {
                        tracing::info!(container = %id, "a reader of output that has paused is cut off: others need its memory");
                        return Err(Gone);
                    }
                    () = &mut is_paused, if open.is_some() => *open = None,
                    () = &mut is_stopping => return Err(Gone),
                }
            }
        };
        if owes {
            self.memory.set_owes(false);
        }
        self.open_again();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reply::{self, Body};
    use crate::api::shares::{Bounds, Shares};

    const BOUNDS: Bounds = Bounds { all: 1_000, stall: Duration::from_millis(20), progress: 0 };

    async fn fill(writer: &reply::Writer) {
        for _ in 0..limits::STREAM_QUEUE {
            writer.send("x").await.unwrap();
        }
    }

    #[tokio::test]
    async fn paused_reader_is_not_waited_for_until_it_reads_again() {
        let (streams, id) = (OpenStreams::default(), ContainerId::from_bytes([1; 32]));
        let memory = Shares::new(BOUNDS).begin(false);
        let listening = Listening::of(&streams, &CancellationToken::new(), memory, id);
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
        let memory = Shares::new(BOUNDS).begin(false);
        let mut listening = Listening::of(&OpenStreams::default(), &stop, memory, ContainerId::from_bytes([1; 32]));
        let (writer, body) = reply::streamed();
        fill(&writer).await;
        stop.cancel();
        assert_eq!(listening.send(writer.send("last")).await, Err(Gone));
        drop(body);
    }

    #[tokio::test]
    async fn paused_reader_gives_way_to_one_that_needs_its_memory() {
        let (shares, stop, id) = (Shares::new(BOUNDS), CancellationToken::new(), ContainerId::from_bytes([1; 32]));
        let listening = |memory| Listening::of(&OpenStreams::default(), &stop, memory, id);
        // The oldest never waits for memory.
        let _oldest = shares.begin(false);
        let (mut paused, other) = (listening(shares.begin(false)), listening(shares.begin(false)));
        paused.hold(900).await.unwrap();
        let (writer, body) = reply::streamed();
        fill(&writer).await;
        let (sent, held) = tokio::join!(paused.send(writer.send("last")), other.hold(200));
        assert_eq!((sent, held), (Err(Gone), Ok(())));
        drop(body);
    }
}
