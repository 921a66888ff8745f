//! Who listens to which container's output right now.
//!
//! `wait` and `events` ask: some clients drop what is left of the output as soon as they hear of the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::state::model::ContainerId;

/// The open streams by container. Cloning gives the same board.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenStreams {
    board: Arc<Mutex<HashMap<ContainerId, watch::Sender<usize>>>>,
}

/// A stream that is open as long as this lives.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: OpenStreams,
    id: ContainerId,
}

impl OpenStreams {
    /// Notes one more stream.
    pub(super) fn open(&self, id: ContainerId) -> OpenStream {
        self.lock().entry(id).or_insert_with(|| watch::channel(0).0).send_modify(|count| *count += 1);
        OpenStream { streams: self.clone(), id }
    }

    /// Whether somebody listens to the container.
    pub(super) fn is_open(&self, id: &ContainerId) -> bool {
        self.lock().contains_key(id)
    }

    /// Returns when no stream of the container is open.
    pub(super) async fn all_closed(&self, id: &ContainerId) {
        let Some(mut count) = self.lock().get(id).map(watch::Sender::subscribe) else { return };
        // A sender that is gone was taken off the board: then none is open either.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, watch::Sender<usize>>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut board = self.streams.lock();
        if let Some(count) = board.get(&self.id) {
            count.send_modify(|count| *count = count.saturating_sub(1));
            if *count.borrow() == 0 {
                board.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn waits_for_the_last_stream() {
        let streams = OpenStreams::default();
        let id = ContainerId::from_bytes([1; 32]);
        streams.all_closed(&id).await;
        let first = streams.open(id);
        let second = streams.open(id);
        drop(first);
        let closed = streams.all_closed(&id);
        tokio::pin!(closed);
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut closed).await.is_err());
        assert!(streams.is_open(&id));
        drop(second);
        closed.await;
        assert!(!streams.is_open(&id));
        assert!(streams.lock().is_empty());
    }
}
